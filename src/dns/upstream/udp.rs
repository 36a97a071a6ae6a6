//! One question over UDP: a socket of its own with a port and an id nobody can guess, connected, so that the kernel
//! drops what comes from elsewhere.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::exchange::{AskError, OwnSockets, Protocol, has_edns, is_bare_refusal, is_reply_to, remove_edns};
use crate::dns::wire::HEADER;

/// More than any answer to a query that offers 1232 octets.
const BUFFER: usize = 4096;

/// Sends the query and waits for its reply; whatever else arrives is passed over. A server that cannot read EDNS may fail to
/// repeat the question: that is no reply, but the query is sent once more without. Either may have been `received` already
/// by who sent the query. Has no deadline of its own.
///
/// # Errors
/// The system's, which includes what the network says of the server.
pub async fn ask(
    server: SocketAddr,
    query: &mut Vec<u8>,
    own: &OwnSockets,
    received: Option<Vec<u8>>,
) -> Result<Vec<u8>, AskError> {
    match received {
        Some(reply) if reply.len() > HEADER => return Ok(reply),
        Some(_) => remove_edns(query),
        None => {}
    }
    loop {
        if let Some(reply) = exchange(server, query, own).await? {
            return Ok(reply);
        }
        remove_edns(query);
    }
}

/// `None` if the query should be sent without EDNS, which is said only of one that has it.
async fn exchange(server: SocketAddr, query: &mut [u8], own: &OwnSockets) -> Result<Option<Vec<u8>>, AskError> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let _own = own.add(Protocol::Udp, socket.local_addr()?);
    query[..2].copy_from_slice(&rand::random::<[u8; 2]>());
    socket.send(query).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_reply_to(query, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(Some(buffer));
        }
        if has_edns(query) && is_bare_refusal(query, &buffer[..length]) {
            return Ok(None);
        }
    }
}
