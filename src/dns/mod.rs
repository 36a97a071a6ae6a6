//! Plane 1: DNS.

mod config;
pub mod upstream;

pub use config::{Config, Upstreams};
