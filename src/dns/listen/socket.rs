//! UDP in batches: many datagrams per system call, each reply from the address that was asked.
//!
//! The one module with `unsafe`: recvmmsg, sendmmsg and IP_PKTINFO (recvmmsg(2), sendmmsg(2), ip(7), ipv6(7)) have no safe
//! form that hands out per-datagram control messages without allocating. Everything it exports is safe. Used by `udp`.

#![allow(unsafe_code, reason = "the system calls named above")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::dns::query::MAX_QUERY;

/// Datagrams per system call.
pub const BATCH: usize = 32;
/// Room for one IPV6_PKTINFO message, the larger of the two.
const CONTROL: usize = 64;

/// A bound UDP socket that does not block.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    /// It is bound to every address, so each datagram must say which one it came to.
    wildcard: bool,
}

/// The address a datagram came to, to be sent from again; `None` where the socket has only one.
pub type LocalAddr = Option<IpAddr>;

/// Datagrams received.
pub struct Batch {
    /// Memory that the system gives as it is first written to: most queries are short.
    queries: Box<[[u8; MAX_QUERY]]>,
    received: [Received; BATCH],
}

/// Replies to be sent together; their memory is used again.
pub struct Replies {
    buffers: [Vec<u8>; BATCH],
    to: [(SocketAddr, LocalAddr); BATCH],
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Received {
    length: usize,
    client: SocketAddr,
    local: LocalAddr,
}

/// Aligned as control messages must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").field("count", &self.count).finish_non_exhaustive()
    }
}

const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

impl Batch {
    pub fn new() -> Self {
        Self {
            queries: vec![[0; MAX_QUERY]; BATCH].into(),
            received: [Received { length: 0, client: NOBODY, local: None }; BATCH],
        }
    }

    /// The datagram at `position`, who sent it and to which address.
    pub fn datagram(&self, position: usize) -> (&[u8], SocketAddr, LocalAddr) {
        let Received { length, client, local } = self.received[position];
        (&self.queries[position][..length], client, local)
    }
}

impl Replies {
    pub fn new() -> Self {
        Self { buffers: [const { Vec::new() }; BATCH], to: [(NOBODY, None); BATCH], count: 0 }
    }

    /// Adds what `write` leaves in the buffer, unless that is nothing. When there is no room for more, all are sent.
    #[inline]
    pub fn add<R>(
        &mut self,
        socket: &Socket,
        client: SocketAddr,
        local: LocalAddr,
        write: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> R {
        let buffer = &mut self.buffers[self.count];
        buffer.clear();
        let written = write(buffer);
        if !buffer.is_empty() {
            self.to[self.count] = (client, local);
            self.count += 1;
            if self.count == BATCH {
                self.send(socket);
            }
        }
        written
    }

    /// Sends those there are. What the system does not take at once is dropped, as a network may.
    pub fn send(&mut self, socket: &Socket) {
        let count = mem::take(&mut self.count);
        let replies = self.buffers.iter().zip(&self.to).take(count);
        socket.send(replies.map(|(reply, &(client, local))| (reply.as_slice(), client, local)));
    }
}

impl Socket {
    /// Takes over a bound socket.
    ///
    /// # Errors
    /// The system's, where a socket option cannot be set.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let wildcard = address.ip().is_unspecified();
        if wildcard {
            let (level, name) = match address {
                SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            };
            let on: libc::c_int = 1;
            // SAFETY: the option value is a live c_int and its size is passed along.
            let result = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    level,
                    name,
                    (&raw const on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                )
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { socket, wildcard })
    }

    /// Receives what is there, at most [`BATCH`] datagrams; `WouldBlock` if nothing is.
    ///
    /// # Errors
    /// The system's.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
        // SAFETY: both are plain C data for which zeros are valid.
        let (mut headers, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) = unsafe { mem::zeroed() };
        for position in 0..BATCH {
            let query = &mut batch.queries[position];
            vectors[position] = libc::iovec { iov_base: query.as_mut_ptr().cast(), iov_len: query.len() };
            let header = &mut headers[position].msg_hdr;
            header.msg_name = names[position].as_mut_ptr().cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[position];
            header.msg_iovlen = 1;
            if self.wildcard {
                header.msg_control = controls[position].as_mut_ptr().cast();
                header.msg_controllen = CONTROL as _;
            }
        }
        // SAFETY: every header points to a buffer, a name and a control area that outlive the call, with their sizes.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for position in 0..count {
            let header = &headers[position];
            let cut_off = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            batch.received[position] = Received {
                // What does not fit is no query that anybody sends; an empty one is passed over in silence.
                length: if cut_off { 0 } else { (header.msg_len as usize).min(MAX_QUERY) },
                client: socket_addr(&names[position], header.msg_hdr.msg_namelen).unwrap_or(NOBODY),
                local: if self.wildcard { local_addr(&header.msg_hdr) } else { None },
            };
        }
        Ok(count)
    }

    /// Sends one reply.
    pub fn send_one(&self, reply: &[u8], client: SocketAddr, local: LocalAddr) {
        self.send(std::iter::once((reply, client, local)));
    }

    fn send<'r>(&self, replies: impl Iterator<Item = (&'r [u8], SocketAddr, LocalAddr)>) {
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut count = 0;
        for (reply, client, local) in replies.take(BATCH) {
            let vector = libc::iovec { iov_base: reply.as_ptr().cast_mut().cast(), iov_len: reply.len() };
            // SAFETY: plain C data for which zeros are valid.
            let header = headers[count].write(unsafe { mem::zeroed() });
            header.msg_hdr.msg_namelen = put_socket_addr(client, &mut names[count]);
            header.msg_hdr.msg_name = names[count].as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vectors[count].write(vector);
            header.msg_hdr.msg_iovlen = 1;
            if let Some(local) = local {
                header.msg_hdr.msg_control = std::ptr::from_mut(controls[count].write(Control([0; CONTROL]))).cast();
                header.msg_hdr.msg_controllen = CONTROL as _;
                put_local_addr(local, &mut header.msg_hdr);
            }
            count += 1;
        }
        let mut sent = 0;
        while sent < count {
            // SAFETY: the first `count` headers are written, and point to live replies, names and control areas; the kernel
            // only reads.
            let result = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    headers[sent..].as_mut_ptr().cast(),
                    (count - sent) as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            // An error belongs to the first datagram (a client port 0, an unreachable network): go on behind it.
            sent += usize::try_from(result).unwrap_or(1).max(1);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address of which the kernel wrote `length` octets.
fn socket_addr(storage: &MaybeUninit<libc::sockaddr_storage>, length: libc::socklen_t) -> Option<SocketAddr> {
    let (start, length) = (storage.as_ptr(), length as usize);
    if length < size_of::<libc::sa_family_t>() {
        return None;
    }
    // SAFETY: the family comes first, and was written.
    let family = unsafe { start.cast::<libc::sa_family_t>().read() };
    match i32::from(family) {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the kernel wrote a sockaddr_in, which is smaller than the storage and aligned no stricter.
            let v4 = unsafe { &*start.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above, a sockaddr_in6.
            let v6 = unsafe { &*start.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn put_socket_addr(address: SocketAddr, storage: &mut MaybeUninit<libc::sockaddr_storage>) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large enough and aligned for every socket address.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// The address a datagram came to, from its control messages.
fn local_addr(header: &libc::msghdr) -> LocalAddr {
    // SAFETY: the kernel filled the control area of this header and set its length; CMSG_* walk within it.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            match ((*control).cmsg_level, (*control).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = libc::CMSG_DATA(control).cast::<libc::in_pktinfo>().read_unaligned();
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = libc::CMSG_DATA(control).cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => control = libc::CMSG_NXTHDR(header, control),
            }
        }
    }
    None
}

/// Writes the control message that makes the kernel send from `local`, and sets the length to what it takes.
fn put_local_addr(local: IpAddr, header: &mut libc::msghdr) {
    // SAFETY: the control area is zeroed, aligned and larger than either message (CONTROL).
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null() {
            return;
        }
        let size = match local {
            IpAddr::V4(v4) => {
                (*control).cmsg_level = libc::IPPROTO_IP;
                (*control).cmsg_type = libc::IP_PKTINFO;
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(v4).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                libc::CMSG_DATA(control).cast::<libc::in_pktinfo>().write_unaligned(info);
                size_of::<libc::in_pktinfo>()
            }
            IpAddr::V6(v6) => {
                (*control).cmsg_level = libc::IPPROTO_IPV6;
                (*control).cmsg_type = libc::IPV6_PKTINFO;
                let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: v6.octets() }, ipi6_ifindex: 0 };
                libc::CMSG_DATA(control).cast::<libc::in6_pktinfo>().write_unaligned(info);
                size_of::<libc::in6_pktinfo>()
            }
        } as libc::c_uint;
        (*control).cmsg_len = libc::CMSG_LEN(size) as _;
        header.msg_controllen = libc::CMSG_SPACE(size) as _;
    }
}

#[cfg(test)]
mod tests;
