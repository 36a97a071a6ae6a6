//! The ports by which one worker asks: for each server one by which questions leave, and those where replies are awaited still.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use crate::dns::listen::poller::Poller;
use crate::dns::upstream::{OwnSockets, Peer, Port};

/// All of them, each known by a number, to the poller too.
pub(super) struct Ports {
    poller: Arc<Poller>,
    own: OwnSockets,
    /// The port by which questions leave, for each server that was asked.
    current: Vec<(Arc<Peer>, usize)>,
    open: Slab<Port>,
}

impl Ports {
    /// None yet; they are listed in `own` while they are open.
    pub(super) fn new(poller: Arc<Poller>, own: OwnSockets) -> Self {
        Self { poller, own, current: Vec::new(), open: Slab::new() }
    }

    /// The port by which the next question to this server leaves, a new one where the last has had its share.
    ///
    /// # Errors
    /// The system's, as [`Port::open`].
    pub(super) fn current(&mut self, peer: &Arc<Peer>, server: SocketAddr, now: Instant) -> io::Result<usize> {
        if let Some(at) = self.current.iter().position(|(of, _)| Arc::ptr_eq(of, peer)) {
            let (_, port) = self.current[at];
            if self.open[port].takes_more(now) {
                return Ok(port);
            }
            self.current.swap_remove(at);
            self.close_if_done(port);
        }
        let opened = Port::open(server, &self.own, now)?;
        self.poller.add(&opened, self.open.vacant_key() as u64)?;
        let port = self.open.insert(opened);
        self.current.push((Arc::clone(peer), port));
        Ok(port)
    }

    /// As [`Port::send`].
    ///
    /// # Errors
    /// The system's, which may be about an earlier question.
    pub(super) fn send(&mut self, port: usize, query: Vec<u8>, number: usize) -> io::Result<()> {
        self.open[port].send(query, number)
    }

    /// What has come to a port for one of its questions: its number, and how much of `buffer` it takes. `None` if nothing has,
    /// or nobody waits.
    pub(super) fn receive(&mut self, port: usize, buffer: &mut [u8]) -> Option<io::Result<(usize, usize)>> {
        let open = self.open.get_mut(port)?;
        while !open.is_idle() {
            match open.receive(buffer) {
                Ok(Some(received)) => return Some(Ok(received)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// The questions that wait at a port by which none leaves any more.
    pub(super) fn fail(&mut self, port: usize) -> Vec<usize> {
        self.current.retain(|(_, current)| *current != port);
        self.open.get(port).map(Port::numbers).unwrap_or_default()
    }

    /// Nobody waits for this question any more.
    pub(super) fn forget(&mut self, port: usize, number: usize) {
        if let Some(port) = self.open.get_mut(port) {
            port.forget(number);
        }
    }

    /// Closes a port by which no question leaves, and where none waits.
    pub(super) fn close_if_done(&mut self, port: usize) {
        let is_current = self.current.iter().any(|(_, current)| *current == port);
        if !is_current && self.open.get(port).is_some_and(Port::is_idle) {
            self.open.remove(port);
        }
    }
}
