//! Is it up, is it ready, is it alive? One small HTTP listener, on loopback unless told otherwise.
//!
//! - [`Readiness`]: what is still pending; guards are handed out and dropped
//! - `server`: the listener, who may ask it, and what it answers
//! - [`client`]: how `sidegate wait` and `sidegate health` ask it

pub mod client;
mod config;
mod readiness;
mod server;

pub use config::Config;
pub use readiness::{Block, Readiness, State};
pub use server::{Gate, Liveness, Server};
