//! What a UDP worker sleeps on: its socket, its signs, and the ports by which it asks (epoll(7)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Descriptors reported at a time.
const EVENTS: usize = 64;

/// Descriptors, each known by a number.
#[derive(Debug)]
pub(super) struct Poller(OwnedFd);

/// The numbers of those that have something to read.
pub(super) type Ready = Vec<Event>;

impl Poller {
    /// # Errors
    /// The system's, where it gives no descriptor.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Reports a descriptor as `number` whenever there is something to read, until it is closed.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn add(&self, descriptor: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(&self.0, descriptor, EventData::new_u64(number), EventFlags::IN)?)
    }

    /// Waits until something can be read, or until `until`.
    ///
    /// # Errors
    /// The system's; an interruption is none.
    pub(super) fn wait(&self, ready: &mut Ready, until: Option<Instant>) -> io::Result<()> {
        ready.clear();
        ready.reserve(EVENTS);
        // Whole milliseconds, and none too few: what is due would be looked for in vain until then.
        let left = until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_micros(999));
        let left = left.map(|left| left.as_millis().min(i32::MAX as u128) as i64);
        let left = left.map(|left| Timespec { tv_sec: left / 1000, tv_nsec: left % 1000 * 1_000_000 });
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(ready), left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
