//! The addresses of this host and the networks they lie in.
//!
//! `dns` must not ask itself, `discovery` puts endpoint addresses of a network of ours first, and both `discovery` and
//! `forward` tell a family that this host does not have from ports that it has used up. Read when asked for: an
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

/// Whether this host has an address that it could connect to `destination` from. Without one connecting fails with
/// EADDRNOTAVAIL, as it does where there is no port left.
pub fn has_source_for(destination: IpAddr) -> bool {
    networks().into_iter().any(|(own, _)| is_source_for(own, destination))
}

/// Whether who has the address `own` may connect to `destination` from it, by family and reach.
fn is_source_for(own: IpAddr, destination: IpAddr) -> bool {
    let (own, destination) = (own.to_canonical(), destination.to_canonical());
    // RFC 3927 and RFC 4291 section 2.5.6.
    let is_link_local = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    own.is_ipv4() == destination.is_ipv4()
        && (destination.is_loopback() || !own.is_loopback())
        && (is_link_local(destination) || !is_link_local(own))
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
        assert!(has_source_for([127, 9, 9, 9].into()));
    }

    #[test]
    fn only_an_address_of_the_family_that_reaches_as_far_is_one_to_connect_from() {
        let is_source =
            |own: &str, destination: &str| is_source_for(own.parse().unwrap(), destination.parse().unwrap());
        for (own, destination) in [
            ("10.0.0.1", "10.0.9.9"),
            ("10.0.0.1", "::ffff:10.0.9.9"),
            ("fd00::1", "2001:db8::1"),
            ("127.0.0.1", "127.0.0.9"),
            ("10.0.0.1", "127.0.0.9"),
            ("fe80::1", "fe80::2"),
        ] {
            assert!(is_source(own, destination), "{own} to {destination}");
        }
        for (own, destination) in [
            ("10.0.0.1", "fd00::1"),
            ("fd00::1", "10.0.0.1"),
            ("::1", "fd00::1"),
            ("127.0.0.1", "10.0.0.1"),
            ("fe80::1", "fd00::1"),
            ("169.254.0.1", "10.0.0.1"),
        ] {
            assert!(!is_source(own, destination), "{own} to {destination}");
        }
    }
}
