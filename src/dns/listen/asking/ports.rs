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

    /// As [`Port::receive`]: one datagram, whether anybody waits or not, as the poller reports a port until it is read empty.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there, or no such port; else what the network says of the server.
    pub(super) fn receive(&mut self, port: usize, buffer: &mut [u8]) -> io::Result<Option<(usize, usize)>> {
        self.open.get_mut(port).map_or_else(|| Err(io::ErrorKind::WouldBlock.into()), |open| open.receive(buffer))
    }

    /// Whether nobody waits at a port.
    pub(super) fn is_idle(&self, port: usize) -> bool {
        self.open.get(port).is_none_or(Port::is_idle)
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::dns::listen::poller::Ready;
    use crate::dns::question::Question;
    use crate::roots;

    /// A reply that comes twice, or too late, would keep the worker awake for as long as it waits for anything else.
    #[test]
    fn what_comes_to_a_port_where_nobody_waits_is_read() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let tls = Arc::new(roots::trusting_nobody().unwrap());
        let (peer, own) = (format!("udp://{address}").parse().unwrap(), OwnSockets::default());
        let peer = Arc::new(Peer::new(peer, &tls, None, own.clone()).unwrap());
        let poller = Arc::new(Poller::new().unwrap());
        let mut ports = Ports::new(Arc::clone(&poller), own);
        let port = ports.current(&peer, address, Instant::now()).unwrap();
        ports.send(port, Question::new("www.example.com".parse().unwrap(), 1).to_wire(true), 0).unwrap();

        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        buffer[2] |= 0x80;
        (0..2).for_each(|_| assert_eq!(server.send_to(&buffer[..length], from).unwrap(), length));
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut received = Vec::new();
        let mut ready = Ready::new();
        while received.len() < 2 && Instant::now() < deadline {
            poller.ready(&mut ready).unwrap();
            received.extend(ready.iter().filter_map(|_| ports.receive(port, &mut buffer).ok()));
        }
        assert_eq!(received, [Some((0, length)), None]);
        assert!(ports.is_idle(port));
        poller.ready(&mut ready).unwrap();
        assert!(ready.is_empty(), "it would be reported for ever");
    }
}
