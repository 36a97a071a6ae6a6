//! What reading private ids over the network promises, with the whole program between fakes on loopback.
//!
//! - `server`: an HTTP server that does as a test says; `gateway`: API Gateway's control plane on it
//! - `program`: the program under test, with an environment of its own and nothing beyond loopback
//! - `pages`, `refusals`: reading all of an account, or nothing of it
//! - `credentials`: where the SDK finds them
//! - `url`: a list behind a URL
//! - `output`: what becomes of the file
//! - `iam`: the policy that we hand out
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking, and clippy.toml's leave for tests does not reach helpers"
)]

mod credentials;
mod gateway;
mod iam;
mod output;
mod pages;
mod program;
mod refusals;
mod server;
mod url;
