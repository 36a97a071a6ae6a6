//! The addresses of this host and the networks they lie in.
//!
//! `dns` must not ask itself, `discovery` puts endpoint addresses of a network of ours first. Read when asked for: an
//! address may come or go while the process runs.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::policy::{Network, as_seen_from_here};

/// Every address of this host with its network. Empty where the system does not say.
pub fn networks() -> Vec<(IpAddr, Network)> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = ip(interface.address.as_ref()?)?;
            let prefix = match ip(interface.netmask.as_ref()?)? {
                IpAddr::V4(mask) => mask.to_bits().leading_ones(),
                IpAddr::V6(mask) => mask.to_bits().leading_ones(),
            };
            Some((address, Network::holding(address, prefix as u8)))
        })
        .collect()
}

/// Whether who connects to `address` reaches `listener`, a socket of this host whose addresses are `own`.
pub fn reaches(address: SocketAddr, listener: SocketAddr, own: &[IpAddr]) -> bool {
    let ip = as_seen_from_here(SocketAddr::new(address.ip().to_canonical(), address.port())).ip();
    let everywhere = listener.ip().is_unspecified() && listener.is_ipv4() == ip.is_ipv4();
    let here = ip.is_loopback() || own.contains(&ip);
    address.port() == listener.port() && (ip == listener.ip() || everywhere && here)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them_with_its_whole_network() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let (_, network) = networks().into_iter().find(|(address, _)| *address == loopback).unwrap();
        assert!(network.contains([127, 9, 9, 9].into()));
    }
}
