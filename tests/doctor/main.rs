//! Why do I get a 403? Each verdict against real resolvers and real TLS servers on loopback that answer so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod connections;
mod lab;
mod names;
mod paths;
mod program;
mod refusals;
mod secrets;
