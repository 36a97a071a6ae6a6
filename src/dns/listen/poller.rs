//! The ports by which a UDP worker asks: which of them has something to read (epoll(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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

    /// Reports a descriptor no more, though it stays open.
    pub(super) fn remove(&self, descriptor: impl AsFd) {
        // It fails only where it was not reported.
        let _ = epoll::delete(&self.0, descriptor);
    }

    /// Those that have something to read now.
    ///
    /// # Errors
    /// The system's; an interruption is none.
    pub(super) fn ready(&self, ready: &mut Ready) -> io::Result<()> {
        ready.clear();
        ready.reserve(EVENTS);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(ready), Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Poller {
    /// Readable while one of its descriptors is.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
