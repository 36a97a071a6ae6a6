//! What a relay has carried, and when it last did. Both directions write it; the idle limit reads it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Counts of one relay. Atomic only because the task that holds it may move between threads.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    /// Nanoseconds from `started` to the last byte: enough for 584 years.
    last: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// The count of one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter<'m> {
    meter: &'m Meter,
    carried: &'m AtomicU64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0), up: AtomicU64::new(0), down: AtomicU64::new(0) }
    }

    pub(super) fn up(&self) -> Counter<'_> {
        Counter { meter: self, carried: &self.up }
    }

    pub(super) fn down(&self) -> Counter<'_> {
        Counter { meter: self, carried: &self.down }
    }

    /// Bytes carried up and down.
    pub(super) fn carried(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    /// Returns when nothing was counted for `idle`. One timer for each such span, not one for each byte.
    pub(super) async fn idle_for(&self, idle: Duration) {
        loop {
            let last = self.started + Duration::from_nanos(self.last.load(Ordering::Relaxed));
            // A limit beyond what the clock can say is none.
            let Some(due) = last.checked_add(idle) else { return std::future::pending().await };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Counter<'_> {
    /// Bytes were handed on.
    pub(super) fn add(self, bytes: usize) {
        self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meter.last.store(self.meter.started.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}
