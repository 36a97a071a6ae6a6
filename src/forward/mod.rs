//! Plane 2: the HTTPS forwarder. Its configuration is read and checked; the plane itself is not part of this version,
//! and a listener configured for it logs one warning at start.

pub mod alert;
pub mod client_hello;
mod config;
pub mod relay;

pub use config::{AllowedDestination, Config, Others};
