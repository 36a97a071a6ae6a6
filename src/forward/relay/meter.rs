//! What a relay has carried, and when it last did. Both directions write it; the idle limit reads it, and so does whoever
//! has to choose a connection that must go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::tcp_listener::Place;

/// Counts of one relay. Atomic only because the task that holds it may move between threads.
#[derive(Debug)]
pub(super) struct Meter<'p> {
    place: &'p Place,
    started: Instant,
    /// Nanoseconds from `started` to the last byte: enough for 584 years.
    last: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// The count of one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter<'m> {
    meter: &'m Meter<'m>,
    carried: &'m AtomicU64,
}

impl<'p> Meter<'p> {
    pub(super) fn new(place: &'p Place) -> Self {
        let (last, up, down) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { place, started: Instant::now(), last, up, down }
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
        let now = Instant::now();
        self.meter.last.store((now - self.meter.started).as_nanos() as u64, Ordering::Relaxed);
        self.meter.place.moved(now.into_std());
    }
}
