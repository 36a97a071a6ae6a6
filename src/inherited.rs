//! Sockets that whoever started this process had bound for it: systemd's socket activation (sd_listen_fds(3)).
//!
//! Such a socket is used for the listener of the configuration that has its kind and address, in place of one that we
//! bind. Whoever holds it as well goes on holding it: what is queued in it when we end waits for the next process.
//! `app` takes them over before any thread runs; `dns`, `forward` and `admin` ask for theirs as they bind.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use listenfd::ListenFd;
use socket2::{SockRef, Socket, Type};

/// The sockets handed over; clones share them. They stay open for as long as any of it is there, so that a reload finds them again.
#[derive(Debug, Clone, Default)]
pub struct Inherited(Arc<Vec<Held>>);

#[derive(Debug)]
struct Held {
    kind: Kind,
    address: SocketAddr,
    /// FileDescriptorName= of the socket unit, by default the unit's name.
    name: String,
    socket: Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Udp,
    Tcp,
}

/// Why a socket that was handed over cannot be used; the socket unit or the configuration is to be corrected.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    #[error(
        "inherited socket {name}: no UDP or listening TCP socket of IPv4 or IPv6: use ListenDatagram= and ListenStream= with an address, and Accept=no"
    )]
    NotOurs { name: String },
    #[error("inherited socket {name}, {kind} {address}: takes IPv4 as well: set BindIPv6Only=ipv6-only in its unit")]
    BothFamilies { name: String, kind: &'static str, address: SocketAddr },
    #[error(
        "inherited socket {name}, {kind} {address}: handed over twice: list it once in its unit, without ReusePort="
    )]
    Twice { name: String, kind: &'static str, address: SocketAddr },
    #[error(
        "inherited socket {name}, {kind} {address}: no listener has it: add it to {keys}, or take it out of its unit"
    )]
    NoListener { name: String, kind: &'static str, address: SocketAddr, keys: &'static str },
    #[error("inherited socket {name}: {error}")]
    System { name: String, error: io::Error },
}

impl Inherited {
    /// Takes over what LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES name; nothing where they are absent or meant for another
    /// process. To be called once, before any thread is started: it takes LISTEN_FDS and LISTEN_PID out of the environment.
    ///
    /// # Errors
    /// A descriptor that is no socket of ours.
    pub fn from_environment() -> Result<Self, InheritedError> {
        // Without a process id it may be anybody's: a parent's that has forgotten to take it out.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned);
        let mut handed = ListenFd::from_env();
        let sockets = (0..handed.len()).map(|position| {
            let name = names.next().unwrap_or_else(|| format!("number {}", position + 1));
            let stream = handed.take_tcp_listener(position).ok().flatten().map(OwnedFd::from);
            let either = stream.or_else(|| handed.take_udp_socket(position).ok().flatten().map(OwnedFd::from));
            either.map(|socket| (name.clone(), socket)).ok_or(InheritedError::NotOurs { name })
        });
        Self::of(sockets.collect::<Result<Vec<_>, _>>()?)
    }

    /// Takes over these sockets, each with its name.
    ///
    /// # Errors
    /// One that no listener can use, or the same twice.
    pub fn of(sockets: Vec<(String, OwnedFd)>) -> Result<Self, InheritedError> {
        let mut held: Vec<Held> = Vec::new();
        for (name, socket) in sockets {
            let next = Held::new(name, socket.into())?;
            if held.iter().any(|other| (other.kind, other.address) == (next.kind, next.address)) {
                let Held { kind, address, name, .. } = next;
                return Err(InheritedError::Twice { name, kind: kind.label(), address });
            }
            held.push(next);
        }
        Ok(Self(Arc::new(held)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// # Errors
    /// A socket whose kind and address no listener of the configuration has: what arrives there would wait for ever.
    pub fn refuse_unused(&self, udp: &[SocketAddr], tcp: &[SocketAddr]) -> Result<(), InheritedError> {
        for Held { kind, address, name, .. } in self.0.iter() {
            let (listeners, keys) = match kind {
                Kind::Udp => (udp, "dns.listen"),
                Kind::Tcp => (tcp, "dns.listen, dns.tls.listen, dns.https.listen, forward.*.listen or admin.listen"),
            };
            if !listeners.contains(address) {
                let (name, kind, address) = (name.clone(), kind.label(), *address);
                return Err(InheritedError::NoListener { name, kind, address, keys });
            }
        }
        Ok(())
    }

    /// The listening socket with this address, if there is one; it does not block.
    ///
    /// # Errors
    /// The system's, where it gives no descriptor.
    pub fn tcp(&self, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        self.duplicate(Kind::Tcp, address).map(|socket| socket.map(TcpListener::from))
    }

    /// The datagram socket with this address, if there is one. Descriptors taken at different times share its queue.
    ///
    /// # Errors
    /// As [`Inherited::tcp`].
    pub fn udp(&self, address: SocketAddr) -> io::Result<Option<UdpSocket>> {
        self.duplicate(Kind::Udp, address).map(|socket| socket.map(UdpSocket::from))
    }

    fn duplicate(&self, kind: Kind, address: SocketAddr) -> io::Result<Option<Socket>> {
        let held = self.0.iter().find(|held| (held.kind, held.address) == (kind, address));
        let socket = held.map(|held| held.socket.try_clone()).transpose()?;
        socket.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        Ok(socket)
    }
}

impl Held {
    fn new(name: String, socket: Socket) -> Result<Self, InheritedError> {
        let read = || {
            let kind = match socket.r#type()? {
                Type::DGRAM => Some(Kind::Udp),
                // One that was accepted is a client's (Accept=yes).
                Type::STREAM if SockRef::from(&socket).is_listener()? => Some(Kind::Tcp),
                _ => None,
            };
            Ok(kind.zip(socket.local_addr()?.as_socket()))
        };
        let found = read().map_err(|error| InheritedError::System { name: name.clone(), error })?;
        let Some((kind, address)) = found else { return Err(InheritedError::NotOurs { name }) };
        // As with those that we bind; it cannot be changed any more. With any other address it makes no difference.
        if address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6().unwrap_or(false) {
            return Err(InheritedError::BothFamilies { name, kind: kind.label(), address });
        }
        Ok(Self { kind, address, name, socket })
    }
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use socket2::Domain;

    use super::*;

    fn inherited(sockets: Vec<OwnedFd>) -> Result<Inherited, String> {
        let named = sockets.into_iter().map(|socket| ("sidegate.socket".to_owned(), socket)).collect();
        Inherited::of(named).map_err(|error| error.to_string())
    }

    fn udp() -> (OwnedFd, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket.into(), address)
    }

    #[test]
    fn a_socket_is_found_by_its_kind_and_address() {
        let (udp, address) = udp();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = tcp.local_addr().unwrap();
        let inherited = inherited(vec![udp, tcp.into()]).unwrap();
        assert_eq!(inherited.udp(address).unwrap().unwrap().local_addr().unwrap(), address);
        assert_eq!(inherited.tcp(stream).unwrap().unwrap().local_addr().unwrap(), stream);
        assert!(inherited.tcp(address).unwrap().is_none() && inherited.udp(stream).unwrap().is_none());
        assert!(inherited.udp(address).unwrap().is_some(), "a reload finds it again");
        inherited.refuse_unused(&[address], &[stream]).unwrap();
    }

    #[test]
    fn a_socket_without_a_listener_is_an_error_that_names_the_key() {
        let (socket, address) = udp();
        let held = inherited(vec![socket]).unwrap();
        let error = held.refuse_unused(&[], &[address]).unwrap_err().to_string();
        let expected =
            format!("inherited socket sidegate.socket, UDP {address}: no listener has it: add it to dns.listen, or");
        assert!(error.starts_with(&expected), "{error}");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = inherited(vec![tcp.into()]).unwrap().refuse_unused(&[], &[]).unwrap_err().to_string();
        let keys = "dns.listen, dns.tls.listen, dns.https.listen, forward.*.listen or admin.listen";
        assert!(error.contains(&format!("add it to {keys}, or take it out")), "{error}");
    }

    #[test]
    fn what_no_listener_can_use_is_an_error_that_names_the_setting() {
        let unix = UnixDatagram::unbound().unwrap();
        assert!(inherited(vec![unix.into()]).unwrap_err().contains("use ListenDatagram= and ListenStream="));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let accepted = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(inherited(vec![accepted.into()]).unwrap_err().contains("Accept=no"));
        let (socket, _) = udp();
        let again = socket.try_clone().unwrap();
        assert!(inherited(vec![socket, again]).unwrap_err().contains("handed over twice"));
        for (only_v6, refused) in [(false, true), (true, false)] {
            let both = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
            both.set_only_v6(only_v6).unwrap();
            both.bind(&SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
            let outcome = inherited(vec![both.into()]);
            assert_eq!(outcome.is_err_and(|error| error.contains("set BindIPv6Only=ipv6-only")), refused);
        }
    }
}
