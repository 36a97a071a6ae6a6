//! What one exchange with one server needs, whatever carries it: whether a reply is the reply, why there is none, and
//! which sockets are our own.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dns::wire::{HEADER, Malformed, flag, put_u16, rcode, u16_at};
use crate::egress_proxy::EgressError;
use crate::policy::canonical;

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed before the answer came")]
    Closed,
    #[error("the answer is no DNS message")]
    Malformed,
    #[error("{0}")]
    Transport(String),
    #[error("answered HTTP status {0}")]
    Status(hyper::StatusCode),
    /// The server's own name, or that of the egress proxy before it, and what is wrong with it.
    #[error("the way to the server does not resolve: {0}")]
    Bootstrap(String),
    #[error("egress proxy: {0}")]
    Egress(#[from] EgressError),
    #[error("no server is configured")]
    NoServer,
    /// With `dns.whole_vpc`: the VPC's resolver would ask us.
    #[error("{0} comes back to us from the VPC's resolver, so it is not asked: use a name outside of this zone")]
    ComesBack(String),
    #[error("answered {0}")]
    Lame(&'static str),
}

impl From<Malformed> for AskError {
    fn from(Malformed: Malformed) -> Self {
        AskError::Malformed
    }
}

impl AskError {
    /// Whether this machine has run out of something, which says nothing about the server.
    pub fn is_local(&self) -> bool {
        let (AskError::Io(error) | AskError::Egress(EgressError::Io(error))) = self else { return false };
        is_local(error)
    }
}

/// As [`AskError::is_local`].
pub fn is_local(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether `reply` answers `query`: same id, one question, the same one byte for byte, case included (RFC 5452).
pub fn is_reply_to(query: &[u8], reply: &[u8]) -> bool {
    let Some(question) = question_of(query) else { return false };
    reply.len() >= HEADER
        && reply[..2] == query[..2]
        && u16_at(reply, 2) & (flag::QR | flag::OPCODE) == flag::QR
        && u16_at(reply, 4) == 1
        && reply[HEADER..].starts_with(question)
}

/// Whether `reply` is a header alone that refuses the query of this id, as old servers send that cannot read EDNS. It does
/// not repeat the question, so it must not decide anything.
pub fn is_bare_refusal(query: &[u8], reply: &[u8]) -> bool {
    reply.len() == HEADER
        && reply[..2] == query[..2]
        && u16_at(reply, 2) & (flag::QR | flag::OPCODE) == flag::QR
        && matches!(u16_at(reply, 2) & 0xf, rcode::FORMERR | rcode::NOTIMP | rcode::REFUSED)
        && reply[4..] == [0; 8]
}

/// Whether a query we wrote has an OPT record: we add no other.
pub fn has_edns(query: &[u8]) -> bool {
    u16_at(query, 10) > 0
}

/// Takes the OPT record, which comes last, off a query we wrote.
pub fn remove_edns(query: &mut Vec<u8>) {
    put_u16(query, 10, 0);
    if let Some(length) = question_of(query).map(<[u8]>::len) {
        query.truncate(HEADER + length);
    }
}

/// The question section of a query we wrote: name, type, class.
fn question_of(query: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    while let Some(&length) = query.get(at).filter(|&&length| length > 0) {
        at += 1 + usize::from(length);
    }
    query.get(HEADER..at + 5)
}

/// What a socket speaks: addresses of different kinds have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Udp,
    Tcp,
}

/// The local addresses of sockets that wait for an upstream. A query that comes from one of them is our own: somebody
/// has pointed us at ourselves.
#[derive(Debug, Clone, Default)]
pub struct OwnSockets(Arc<Mutex<HashSet<(Protocol, SocketAddr)>>>);

/// Keeps an address in [`OwnSockets`] while it lives.
#[derive(Debug)]
pub struct OwnSocket {
    address: (Protocol, SocketAddr),
    all: OwnSockets,
}

impl OwnSockets {
    /// Whether an upstream is being asked from this address.
    pub fn contains(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let address = (protocol, canonical(address));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// Adds an address until the result is dropped.
    pub fn add(&self, protocol: Protocol, address: SocketAddr) -> OwnSocket {
        let address = (protocol, canonical(address));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
        OwnSocket { address, all: self.clone() }
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::question::Question;

    #[test]
    fn only_the_exact_reply_is_taken() {
        let mut query = Question::new("www.example.com".parse().unwrap(), 1).to_wire(true);
        query[..2].copy_from_slice(&[0x12, 0x34]);
        let mut reply = query.clone();
        reply[2] |= 0x80;
        assert!(is_reply_to(&query, &reply));
        let varied = |at: usize, value: u8| {
            let mut reply = reply.clone();
            reply[at] = value;
            is_reply_to(&query, &reply)
        };
        let (name_at, type_at) = (13, 12 + 17 + 1);
        assert!(!varied(1, 0x35), "another id");
        assert!(!varied(2, 0x01), "no reply");
        assert!(!varied(2, 0x91), "another opcode");
        assert!(!varied(5, 0), "no question");
        assert!(!varied(5, 2), "two questions");
        assert!(!varied(name_at, b'x'), "another name");
        assert!(!varied(name_at, b'W'), "another case");
        assert!(!varied(type_at, 28), "another type");
        assert!(!varied(type_at + 2, 3), "another class");
        assert!(!is_reply_to(&query, &reply[..20]), "cut off");
    }

    #[test]
    fn a_query_without_its_edns_is_the_one_that_never_had_it() {
        let question = Question::new("www.example.com".parse().unwrap(), 1);
        let mut query = question.to_wire(true);
        assert!(has_edns(&query));
        remove_edns(&mut query);
        assert!(!has_edns(&query));
        assert_eq!(query, question.to_wire(false));
    }

    #[test]
    fn what_this_machine_lacks_is_not_the_servers_fault() {
        let is_local = |code| AskError::Io(io::Error::from_raw_os_error(code)).is_local();
        assert!([libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::EADDRNOTAVAIL].into_iter().all(is_local));
        assert!(![libc::ECONNREFUSED, libc::ENETUNREACH, libc::EHOSTUNREACH].into_iter().any(is_local));
        assert!(AskError::Egress(EgressError::Io(io::Error::from_raw_os_error(libc::EMFILE))).is_local());
        assert!(!AskError::Egress(EgressError::Closed).is_local());
        assert!(!AskError::Timeout.is_local());
    }

    #[test]
    fn a_socket_is_ours_while_it_waits() {
        let (sockets, address) = (OwnSockets::default(), "127.0.0.1:4000".parse().unwrap());
        let guard = sockets.add(Protocol::Udp, address);
        assert!(sockets.contains(Protocol::Udp, address));
        assert!(sockets.contains(Protocol::Udp, "[::ffff:127.0.0.1]:4000".parse().unwrap()));
        assert!(!sockets.contains(Protocol::Tcp, address));
        drop(sockets.add(Protocol::Tcp, address));
        assert!(sockets.contains(Protocol::Udp, address));
        drop(guard);
        assert!(!sockets.contains(Protocol::Udp, address));
    }
}
