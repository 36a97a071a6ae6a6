//! Health and operations.

mod config;

pub use config::Config;
