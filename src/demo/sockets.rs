//! Ports that several sockets share, and that the OS chooses unless somebody has. For `dns_server` and `world`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, UdpSocket};

/// A port that is free on one socket may be taken on the next; so often is another one tried.
const ATTEMPTS: usize = 32;

/// A UDP socket and a TCP listener on `address`; on the same port of it if that is 0.
///
/// # Errors
/// `address` cannot be bound, or no port was free for both.
pub(super) async fn udp_and_tcp(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 0;
    loop {
        let tcp = bind_tcp(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) => again(&mut attempt, error)?,
        }
    }
}

/// A listener on every one of `addresses`, all with the same port, as clients choose an address and know one port: with
/// `port`, or one that is free if that is 0.
///
/// # Errors
/// One of them cannot be bound, or no port was free on all.
pub async fn tcp_on_one_port(addresses: &[IpAddr], port: u16) -> io::Result<Vec<TcpListener>> {
    let mut attempt = 0;
    let chosen = port;
    'port: loop {
        let mut port = chosen;
        let mut listeners = Vec::with_capacity(addresses.len());
        for ip in addresses {
            match bind_tcp(SocketAddr::new(*ip, port)).await {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    listeners.push(listener);
                }
                Err(error) => {
                    again(&mut attempt, error)?;
                    continue 'port;
                }
            }
        }
        return Ok(listeners);
    }
}

/// Lets a taken port be tried again, and hands back everything else.
fn again(attempt: &mut usize, error: io::Error) -> io::Result<()> {
    *attempt += 1;
    if error.kind() == io::ErrorKind::AddrInUse && *attempt < ATTEMPTS { Ok(()) } else { Err(error) }
}

async fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            // Linux has all of 127.0.0.0/8 from the start; others have 127.0.0.1 alone.
            io::ErrorKind::AddrNotAvailable => ": add it to the loopback interface, for example ifconfig lo0 alias",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listeners_on_several_addresses_share_one_port() {
        let addresses = [[127, 0, 0, 11], [127, 0, 0, 12], [127, 0, 0, 21]].map(IpAddr::from);
        let listeners = tcp_on_one_port(&addresses, 0).await.unwrap();
        let bound: Vec<SocketAddr> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert_eq!(bound.iter().map(SocketAddr::ip).collect::<Vec<_>>(), addresses);
        assert!(bound.iter().all(|address| address.port() == bound[0].port() && address.port() != 0));
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_an_error_that_names_it() {
        let error = tcp_on_one_port(&[IpAddr::from([192, 0, 2, 1])], 0).await.unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
    }
}
