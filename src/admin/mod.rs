//! Is it up, is it ready, is it alive, what does it know? One small HTTP listener, on loopback unless told otherwise.
//!
//! - [`Readiness`]: what is still pending; guards are handed out and dropped
//! - `server`: the listener, and what it answers
//! - `gate`: who may ask what
//! - `page`: what `/` shows; its files are in `page/`
//! - `route_query`: the name in `/route?name=NAME`
//! - [`client`]: how `sidegate wait` and `sidegate health` ask it

pub mod client;
mod config;
mod gate;
mod page;
mod readiness;
mod route_query;
mod server;

pub use config::Config;
pub use gate::Gate;
pub use readiness::{Block, Readiness, State};
pub use server::{Answers, Liveness, NotReloaded, Reload, Server};
