//! TCP listeners as both planes have them: bound before anything is served, never ended by a failed accept, and with
//! bounds on who may stay connected.
//!
//! `dns` and `forward` say what a connection is for; this is how it comes to be one.

mod connections;
mod taken_back;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use connections::{Bounds, Connections, Place, Roster};
pub use taken_back::TakenBack;

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// A peer that is silent for so long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// The longest pause after the system failed to accept, for want of descriptors or memory.
const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// Binds a listener for `tokio::net::TcpListener::from_std`. A second process on the address is an error.
///
/// # Errors
/// The system's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that still linger must not keep a restart from binding.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether a socket at the one address keeps another from being bound to the other. Ours of IPv6 take no IPv4.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// What an operator can do about an address that cannot be bound; `ours` is a listener of this process that overlaps it.
pub fn bind_advice(error: &io::Error, address: &SocketAddr, ours: &Option<SocketAddr>) -> String {
    match (error.kind(), ours) {
        (io::ErrorKind::AddrInUse, Some(ours)) => {
            format!("this address overlaps {ours} of this process: restart for this change")
        }
        (io::ErrorKind::AddrInUse, None) => {
            "another process has this address: stop it (a second Sidegate?), or set a free one".to_owned()
        }
        (io::ErrorKind::PermissionDenied, _) if address.port() < 1024 => {
            format!("ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or use a port above {}", address.port())
        }
        (io::ErrorKind::AddrNotAvailable, _) => "no interface of this host has it: set one of its own".to_owned(),
        _ => error.to_string(),
    }
}

/// Accepts until `stop`, then takes what the kernel has accepted in our name. `failed` is told of each failure that is
/// the system's rather than one connection's; it is followed by a pause.
pub async fn accept(
    listener: tokio::net::TcpListener,
    stop: &CancellationToken,
    admit: impl Fn(TcpStream, SocketAddr),
    failed: impl Fn(),
) {
    accept_until(&listener, stop, &admit, failed).await;
    // Who is in the kernel's queue has been told that it is connected. There are no more than the queue holds.
    let Ok(listener) = listener.into_std() else { return };
    for (stream, client) in (0..BACKLOG).map_while(|_| listener.accept().ok()) {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            admit(stream, client);
        }
    }
}

/// As [`accept`], but leaves what is in the kernel's queue to the next process that is handed the socket.
pub async fn accept_until(
    listener: &tokio::net::TcpListener,
    stop: &CancellationToken,
    admit: impl Fn(TcpStream, SocketAddr),
    failed: impl Fn(),
) {
    let mut back_off = Duration::ZERO;
    loop {
        let accepted = tokio::select! {
            // In this order: who is still in the queue then is not ours to take.
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                back_off = Duration::ZERO;
                admit(stream, client);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                failed();
                back_off = (back_off * 2).clamp(Duration::from_millis(10), MAX_BACK_OFF);
                tracing::warn!(%error, "cannot accept TCP connections: raise the limit of open files, or use fewer");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep(back_off) => {}
                }
            }
        }
    }
}

/// Has the system ask a silent peer whether it is still there, and send small pieces as they come: what is relayed was cut
/// into packets by whoever sent it. NAT gateways forget a flow after 350 s without a packet.
///
/// What a listener accepts has it from the listener (tcp(7)).
pub fn keep_alive(socket: &impl AsFd) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    // Without either the connection is worse, not wrong.
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
    send_at_once(socket);
}

/// Has the system send small pieces as they come; what a listener accepts has it from the listener.
pub fn send_at_once(socket: &impl AsFd) {
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
}

/// Errors that accept(2) passes on from a connection that has failed already.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_listener_accepts_is_kept_alive_and_sends_at_once_as_the_listener_says() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        keep_alive(&listener);
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap() && accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), KEEPALIVE / 4);
    }

    #[test]
    fn addresses_overlap_where_one_socket_keeps_the_other_out() {
        for (one, other) in [
            ("127.0.0.1:5353", "0.0.0.0:5353"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("127.0.0.1:5353", "127.0.0.2:5353"),
            ("127.0.0.1:5353", "0.0.0.0:5354"),
            ("127.0.0.1:5353", "[::]:5353"),
            ("[::1]:5353", "[::]:5353"),
            ("0.0.0.0:5353", "[::]:5353"),
        ] {
            // Those that linger in the system after a connection do not count, and there are none yet.
            let (one, other): (SocketAddr, SocketAddr) = (one.parse().unwrap(), other.parse().unwrap());
            let at = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
            let held = bind(at(one, 0)).unwrap();
            let port = held.local_addr().unwrap().port();
            let other = at(other, if other.port() == one.port() { port } else { 0 });
            let is_refused = bind(other).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
            assert_eq!(overlap(at(one, port), other), is_refused, "{one} {other}");
            assert_eq!(overlap(other, at(one, port)), is_refused, "{other} {one}");
        }
    }
}
