//! The plane's own listeners, UDP and TCP on each address.
//!
//! - `socket`: datagrams in batches; the one module with `unsafe`
//! - `udp`: a thread per worker around `respond`
//! - `tcp`: pipelining, and how much one connection may ask
//! - [`Listener`]: both on one address, bound before anything is served

mod socket;
mod tcp;
mod udp;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;

use socket2::{Domain, Protocol, Type};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::socket::Socket;
use self::udp::{Context, Worker};
use super::service::Service;
use crate::tcp_listener;

/// What the kernel should hold of datagrams that wait; it may give less.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Times another port is tried where the system chose one that UDP has taken.
const PORT_TRIES: usize = 16;

/// An address with all its sockets bound, not served yet.
#[derive(Debug)]
pub struct Bound {
    asked: SocketAddr,
    address: SocketAddr,
    udp: Vec<Socket>,
    tcp: TcpListener,
}

/// An address being served; dropping it ends that.
#[derive(Debug)]
pub struct Listener {
    asked: SocketAddr,
    address: SocketAddr,
    workers: Vec<Worker>,
    stop: CancellationToken,
}

impl Bound {
    /// Binds UDP and TCP. Port 0 lets the system choose one port for both.
    ///
    /// A second process on the same address is an error although the UDP workers share it by SO_REUSEPORT: the TCP
    /// socket does not, and it is bound first.
    ///
    /// # Errors
    /// The system's; `AddrInUse` where anybody else has the address.
    pub fn new(address: SocketAddr, workers: NonZeroUsize) -> io::Result<Self> {
        for _ in 0..PORT_TRIES {
            let tcp = tcp_listener::bind(address)?;
            let actual = tcp.local_addr()?;
            match bind_udp(actual, workers) {
                Err(error) if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                udp => return Ok(Self { asked: address, address: actual, udp: udp?, tcp }),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// The address, with the port the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves, until the result is dropped. Replies still owed then are counted by `tracker`.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn serve(self, service: watch::Receiver<Arc<Service>>, tracker: &TaskTracker) -> io::Result<Listener> {
        let stop = CancellationToken::new();
        let context = Context {
            service: service.clone(),
            waiting: Arc::new(Semaphore::new(udp::MAX_WAITING)),
            tracker: tracker.clone(),
        };
        let workers = self.udp.into_iter().map(|socket| Worker::start(socket, context.clone()));
        let workers = workers.collect::<io::Result<_>>()?;
        let tcp = tokio::net::TcpListener::from_std(self.tcp)?;
        tracker.spawn(tcp::serve(tcp, service, stop.clone(), tracker.clone()));
        Ok(Listener { asked: self.asked, address: self.address, workers, stop })
    }
}

impl Listener {
    /// The address as the configuration has it; its port may be 0.
    pub fn asked(&self) -> SocketAddr {
        self.asked
    }

    pub fn address(&self) -> SocketAddr {
        self.address
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
