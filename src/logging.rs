//! Where words go: standard error, as text or JSON, from the level of the configuration on.
//!
//! Names that are asked for and the addresses that ask are never logged above debug.

use std::io::IsTerminal;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::config::{LogConfig, LogFormat};
use crate::forward::access;

/// Changes the level while running.
#[derive(Debug)]
pub struct Logging(reload::Handle<Targets, Registry>);

/// Everything from `level` on; of the libraries only what somebody should act on, and of connections nothing above debug
/// unless `log.access` asks for it.
fn targets(config: &LogConfig) -> Targets {
    let level = Level::from(config.level);
    let libraries = LevelFilter::from(level).min(LevelFilter::ERROR);
    let names = ["hickory_net", "hickory_proto", "hickory_server", "h2", "rustls", "hyper", "quinn"];
    let connections = if config.access || level >= Level::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF };
    let targets = Targets::new().with_default(level).with_target(access::TARGET, connections);
    // The SDK's failures are ours to tell, and at trace it shows its credentials.
    let targets = targets.with_target("aws_", if level >= Level::DEBUG { LevelFilter::DEBUG } else { libraries });
    // It complains at each 5xx that it was given no connection to close: ours end with their one request.
    let targets = targets.with_target("aws_smithy_runtime::client::http::connection_poisoning", LevelFilter::OFF);
    if level >= Level::DEBUG { targets } else { targets.with_targets(names.map(|name| (name, libraries))) }
}

impl Logging {
    /// Starts logging for the process. A second call in one process changes nothing.
    pub fn start(config: &LogConfig) -> Self {
        let (filter, handle) = reload::Layer::new(targets(config));
        let registry = tracing_subscriber::registry().with(filter);
        // Only a test has logging set up already.
        let _ = match config.format {
            LogFormat::Text => {
                let colour = std::io::stderr().is_terminal();
                let text = fmt::layer().with_ansi(colour).with_target(false).with_writer(std::io::stderr);
                registry.with(text).try_init()
            }
            LogFormat::Json => {
                let json = fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
                registry.with(json).try_init()
            }
        };
        Self(handle)
    }

    /// Takes over the level of another configuration; the format stays until the next start.
    pub fn reload(&self, config: &LogConfig) {
        // The subscriber lives as long as the process.
        let _ = self.0.reload(targets(config));
    }
}
