//! What `forward.http` promises on real sockets: a whole [`Plane`](sidegate::forward::Plane) on loopback
//! between raw clients and scripted TLS servers.
//!
//! - `world`: certificates, the gateway under test; `server`, `client`: the two sides of it
//! - `bytes`: what passes unchanged, and what must not pass
//! - `bodies`: framing, streaming, breaking off
//! - `trust`: certificates, and which way a name goes
//! - `reuse`: connections kept, and given up
//! - `http2`, `frames`, `upgrades`: the other protocols; `sharing`: a connection to a server that serves several clients
//! - `clients`: those that reset, stall, half-close; drain
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking, and clippy.toml's leave for tests does not reach helpers"
)]

mod bodies;
mod bytes;
mod client;
mod clients;
mod frames;
mod http2;
mod reuse;
mod server;
mod sharing;
mod trust;
mod upgrades;
mod world;
