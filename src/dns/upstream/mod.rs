//! Servers outside.

mod server;

pub use server::{Host, Server, ServerError, Transport};
