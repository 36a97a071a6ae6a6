//! What is known and where from, for operators: `app` shows it as `/status`, `sidegate route` says it of one id.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::merge::Discovery;
use super::source::Snapshot;

/// A source and what it knows.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// The name it goes by in logs, and as an origin in the table.
    pub label: String,
    pub required: bool,
    pub interval: Duration,
    pub snapshot: Snapshot,
}

/// What happened to addresses of endpoints, counted since the start; reloads change nothing about it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Addresses that went out.
    pub went_down: AtomicU64,
    /// Addresses that came back.
    pub came_up: AtomicU64,
    /// Probes that connected.
    pub probes_connected: AtomicU64,
    /// Probes that did not.
    pub probes_failed: AtomicU64,
}

impl Discovery {
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The sources that give lists, in the order of the configuration.
    pub fn sources(&self) -> Vec<SourceStatus> {
        let sources = self.sources.iter().map(|source| SourceStatus {
            label: source.label.to_string(),
            required: source.config.required,
            interval: source.config.interval,
            snapshot: source.snapshot(),
        });
        sources.collect()
    }
}
