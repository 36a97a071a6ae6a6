//! Knowing.

mod config;

pub use config::{AddressSource, EndpointConfig, HealthCheck, SourceConfig, SourceKind};
