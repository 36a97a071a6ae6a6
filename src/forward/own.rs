//! Connections that we opened ourselves a moment ago, to know them when they come back.
//!
//! A redirect that does not let us through sends what we dial to our own listener: each connection would open the next.
//! The source address survives a redirect, so the entrances ask here before they dial.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::refusal::{Cause, Refusal};
use crate::policy::canonical;

/// What comes back does so at once; a ClientHello may take a moment to be whole.
const REMEMBERED: Duration = Duration::from_secs(2);
/// Connections remembered at most.
const MAX_REMEMBERED: usize = 4096;

/// The connections that we opened in the last seconds: where they come from, and where they go.
#[derive(Debug, Default)]
pub(super) struct OwnConnections {
    /// Of addresses: few octets for each, and nobody can choose two that have one.
    hasher: RandomState,
    lately: Mutex<Lately>,
}

#[derive(Debug, Default)]
struct Lately {
    opened: HashMap<u64, (u64, Instant)>,
    /// As they were opened; the oldest is in front.
    order: VecDeque<(u64, Instant)>,
}

impl OwnConnections {
    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// We have connected from `local` to `remote`.
    pub(super) fn opened(&self, local: SocketAddr, remote: SocketAddr, now: Instant) {
        let (local, remote) = (self.hasher.hash_one(local), self.hasher.hash_one(remote));
        let Lately { opened, order } = &mut *self.lately();
        while order.len() >= MAX_REMEMBERED || order.front().is_some_and(|(_, at)| now - *at >= REMEMBERED) {
            let Some((oldest, at)) = order.pop_front() else { break };
            // Its port may be another connection's by now.
            if opened.get(&oldest).is_some_and(|(_, newest)| *newest == at) {
                opened.remove(&oldest);
            }
        }
        opened.insert(local, (remote, now));
        order.push_back((local, now));
    }

    /// Refuses a client that is ourselves.
    ///
    /// # Errors
    /// It is one of our connections, redirected.
    pub(super) fn refuse(&self, stream: &TcpStream, client: SocketAddr, now: Instant) -> Result<(), Refusal> {
        let client = self.hasher.hash_one(canonical(client));
        let Some((remote, at)) = self.lately().opened.get(&client).copied() else { return Ok(()) };
        let fresh = now - at < REMEMBERED;
        // Somebody else's connection may have our source port, if it goes elsewhere.
        if !(fresh && destination(stream).is_some_and(|destination| self.hasher.hash_one(destination) == remote)) {
            return Ok(());
        }
        let words = "our own connection was redirected to us: exclude the user that Sidegate runs as from the redirect";
        Err(Refusal::new(Cause::Loop, words))
    }
}

/// Where a connection was going: as netfilter remembers it, which has rewritten it if it was redirected by REDIRECT or DNAT;
/// otherwise where it has come to, which is the same for TPROXY and for what was not redirected.
fn destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = socket.original_dst_v4().or_else(|_| socket.original_dst_v6());
    let original = original.ok().and_then(|address| address.as_socket());
    original.or_else(|| stream.local_addr().ok()).map(canonical)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_of_ours_that_comes_back_is_known_for_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, client) = listener.accept().await.unwrap();
        let (own, now) = (OwnConnections::default(), Instant::now());
        assert_eq!(own.refuse(&stream, client, now), Ok(()));
        own.opened(dialled.local_addr().unwrap(), dialled.peer_addr().unwrap(), now);
        assert_eq!(own.refuse(&stream, client, now).unwrap_err().cause, Cause::Loop);
        assert_eq!(own.refuse(&stream, client, now + REMEMBERED), Ok(()));
    }

    /// The kernel gives one port to connections of one address that lead to different places.
    #[tokio::test]
    async fn a_client_with_the_port_of_one_of_our_connections_is_not_taken_for_us() {
        let (listener, elsewhere) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, client) = listener.accept().await.unwrap();
        let (own, now) = (OwnConnections::default(), Instant::now());
        own.opened(client, elsewhere.local_addr().unwrap(), now);
        assert_eq!(own.refuse(&stream, client, now), Ok(()));
    }

    /// A listener of both families says where an IPv4 connection has come to in IPv6.
    #[tokio::test]
    async fn a_connection_of_ours_is_known_at_a_listener_of_both_families() {
        let Ok(listener) = TcpListener::bind("[::]:0").await else { return };
        let remote = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let dialled = TcpStream::connect(remote).await.unwrap();
        let (stream, client) = listener.accept().await.unwrap();
        let (own, now) = (OwnConnections::default(), Instant::now());
        own.opened(dialled.local_addr().unwrap(), remote, now);
        assert_eq!(own.refuse(&stream, client, now).unwrap_err().cause, Cause::Loop);
    }

    #[test]
    fn the_memory_is_bounded_and_the_old_make_room() {
        let (own, now) = (OwnConnections::default(), Instant::now());
        let address = |i: usize| SocketAddr::from(([10, 0, (i >> 8) as u8, i as u8], 1 + (i >> 16) as u16));
        (0..2 * MAX_REMEMBERED).for_each(|i| own.opened(address(i), address(0), now));
        let remembered = || {
            let lately = own.lately();
            (lately.opened.len(), lately.order.len())
        };
        assert_eq!(remembered(), (MAX_REMEMBERED, MAX_REMEMBERED));
        let newest = own.hasher.hash_one(address(2 * MAX_REMEMBERED - 1));
        assert!(own.lately().opened.contains_key(&newest));
        (0..3).for_each(|_| own.opened(address(3 * MAX_REMEMBERED), address(0), now + REMEMBERED));
        assert_eq!(remembered(), (1, 3), "one port, three times");
        own.opened(address(0), address(0), now + 2 * REMEMBERED);
        assert_eq!(remembered(), (1, 1));
    }
}
