//! The plane's own listeners: UDP and TCP on each address, DNS over TLS, DNS over HTTPS.
//!
//! - `socket`: datagrams in batches; the one module with `unsafe`
//! - `udp`: a thread per worker around `respond`; `asking`: what it asks by itself; `poller`: what it sleeps on
//! - `accept`: who may connect, and how many; TLS
//! - `tcp`: messages on a stream, encrypted or not: pipelining, and how much one connection may ask
//! - `https`: messages in HTTP; `exchange`: one of them; `activity`: when a connection has had its time
//! - [`Listener`]: all of one address, bound before anything is served
//!
//! hickory-server would carry the encrypted ones too, but with bounds of its own: one query after another on a connection,
//! no cap on connections, and a shutdown that drops what is under way. Here all share what the plain ones are held by.

mod accept;
mod activity;
mod asking;
mod exchange;
mod https;
mod poller;
mod socket;
mod tcp;
mod udp;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::socket::Socket;
use self::udp::{Context, LAST_BATCHES, Worker};
use super::health::{self, Pulse};
use super::service::Service;
use crate::inherited::Inherited;
use crate::tcp_listener;

/// Queries that may wait for an upstream at a time, over all UDP workers of a listener; over all its connections as many.
const MAX_WAITING: usize = 8192;
/// What the kernel should hold of datagrams that wait; it may give less.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Times another port is tried where the system chose one that UDP has taken.
const PORT_TRIES: usize = 16;

/// What carries messages at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// UDP and TCP, in the clear.
    Plain,
    /// TLS, RFC 7858.
    Tls,
    /// HTTPS, RFC 8484.
    Https,
}

impl Over {
    /// The key of the configuration that lists such addresses.
    pub fn key(self) -> &'static str {
        match self {
            Over::Plain => "dns.listen",
            Over::Tls => "dns.tls.listen",
            Over::Https => "dns.https.listen",
        }
    }
}

/// An address with all its sockets bound, not served yet.
#[derive(Debug)]
pub struct Bound {
    over: Over,
    asked: SocketAddr,
    address: SocketAddr,
    udp: Vec<Socket>,
    tcp: TcpListener,
    /// Whose queues are the next process's too.
    inherited: Kinds,
}

/// Which of the two sockets of an address.
#[derive(Debug, Clone, Copy)]
struct Kinds {
    udp: bool,
    tcp: bool,
}

/// An address being served; dropping it ends that.
#[derive(Debug)]
pub struct Listener {
    over: Over,
    asked: SocketAddr,
    address: SocketAddr,
    workers: Vec<Worker>,
    vitals: Vec<health::Worker>,
    stop: CancellationToken,
}

impl Bound {
    /// Binds UDP and TCP, or TCP alone for what is encrypted, unless they are among the inherited ones. Port 0 lets the system
    /// choose one port for both.
    ///
    /// A second process on the same address is an error although the UDP workers share it by SO_REUSEPORT: the TCP
    /// socket does not, and it is bound first.
    ///
    /// # Errors
    /// The system's; `AddrInUse` where anybody else has the address.
    pub fn new(over: Over, address: SocketAddr, workers: NonZeroUsize, inherited: &Inherited) -> io::Result<Self> {
        let udp = if over == Over::Plain { inherited.udp(address)? } else { None };
        let tcp = inherited.tcp(address)?;
        let kinds = Kinds { udp: udp.is_some(), tcp: tcp.is_some() };
        if over != Over::Plain {
            let tcp = tcp.map_or_else(|| tcp_listener::bind(address), Ok)?;
            let bound = tcp.local_addr()?;
            return Ok(Self { over, asked: address, address: bound, udp: Vec::new(), tcp, inherited: kinds });
        }
        if kinds.udp || kinds.tcp {
            let tcp = tcp.map_or_else(|| tcp_listener::bind(address), Ok)?;
            let udp = udp.map_or_else(|| bind_udp(address, workers), |socket| share(&socket, workers))?;
            return Ok(Self { over, asked: address, address, udp, tcp, inherited: kinds });
        }
        for _ in 0..PORT_TRIES {
            let tcp = tcp_listener::bind(address)?;
            let actual = tcp.local_addr()?;
            match bind_udp(actual, workers) {
                Err(error) if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                udp => return Ok(Self { over, asked: address, address: actual, udp: udp?, tcp, inherited: kinds }),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// What is served there, and the address with the port the system chose.
    pub fn address(&self) -> (Over, SocketAddr) {
        (self.over, self.address)
    }

    /// Serves, until the result is dropped. Replies still owed then are counted by `tracker`.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn serve(self, service: watch::Receiver<Arc<Service>>, tracker: &TaskTracker) -> io::Result<Listener> {
        let stop = CancellationToken::new();
        let context = Context {
            service: service.clone(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            tracker: tracker.clone(),
            last_batches: if self.inherited.udp { 0 } else { LAST_BATCHES },
        };
        let mut vitals = Vec::new();
        let workers = self.udp.into_iter().map(|socket| {
            let worker = Worker::start(Arc::new(socket), context.clone())?;
            vitals.push(worker.vitals());
            Ok(worker)
        });
        let workers = workers.collect::<io::Result<Vec<_>>>()?;
        let tcp = tokio::net::TcpListener::from_std(self.tcp)?;
        tracker.spawn(accept::serve(self.over, tcp, self.inherited.tcp, service, stop.clone(), tracker.clone()));
        let (over, asked, address) = (self.over, self.asked, self.address);
        Ok(Listener { over, asked, address, workers, vitals, stop })
    }
}

impl Listener {
    /// What is served, and the address as the configuration has it; its port may be 0.
    pub fn asked(&self) -> (Over, SocketAddr) {
        (self.over, self.asked)
    }

    pub fn address(&self) -> (Over, SocketAddr) {
        (self.over, self.address)
    }

    /// To tell whether it is alive, where it listens on UDP.
    pub fn pulse(&self) -> Option<Pulse> {
        (self.over == Over::Plain).then(|| Pulse::new(self.address, self.vitals.clone()))
    }

    /// UDP threads.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One queue for all workers: whoever handed the socket over holds that and no other.
fn share(socket: &UdpSocket, workers: NonZeroUsize) -> io::Result<Vec<Socket>> {
    let options = SockRef::from(socket);
    // Its unit may have given it more (ReceiveBuffer=), beyond what the system allows us.
    let ours = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    ours.set_recv_buffer_size(RECEIVE_BUFFER)?;
    if options.recv_buffer_size()? < ours.recv_buffer_size()? {
        options.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    (0..workers.get()).map(|_| socket.try_clone().and_then(Socket::new)).collect()
}

fn bind_udp(address: SocketAddr, workers: NonZeroUsize) -> io::Result<Vec<Socket>> {
    let shared = workers.get() > 1;
    if shared {
        // Alone first: others that share the port would share our clients' queries too.
        drop(udp_socket(address, false)?);
    }
    (0..workers.get()).map(|_| udp_socket(address, shared).and_then(Socket::new)).collect()
}

fn udp_socket(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    #[test]
    fn an_inherited_buffer_is_raised_and_never_lowered() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let size = || SockRef::from(&socket).recv_buffer_size().unwrap();
        SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
        let small = size();
        share(&socket, NonZeroUsize::MIN).unwrap();
        let raised = size();
        assert!(raised > small);
        // As systemd does, which may; where these tests may not, there is nothing more to see.
        if setsockopt(&socket, sockopt::RcvBufForce, &raised).is_ok() {
            assert!(size() > raised);
            share(&socket, NonZeroUsize::MIN).unwrap();
            assert_eq!(size(), 2 * raised);
        }
    }
}
