//! Networks in CIDR form, and lists of them: who may use a listener, which addresses may be dialled.
//!
//! Both planes guard every listener with one [`Networks`], so that neither is open to the world.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("a network is an IP address and a prefix length, like 10.0.0.0/8 or fc00::/7")]
    Form,
    #[error("the prefix length is at most {0} here")]
    Prefix(u8),
    #[error("the address has bits beyond its prefix: write {0}")]
    HostBits(Network),
}

/// An IP network: an address whose bits beyond the prefix are zero. A bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn width(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// The network of this prefix length that holds `address`; prefixes beyond the family's width count as full.
    pub fn holding(address: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(Self::width(address));
        let address = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into())
            }
        };
        Self { address, prefix }
    }

    /// Whether an address is in it. IPv4-mapped IPv6 addresses count as the IPv4 addresses they carry.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let width = Self::width(address);
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|&p| p <= width).ok_or(NetworkError::Prefix(width))?
            }
            Some(_) => return Err(NetworkError::Form),
            None => width,
        };
        let network = Self::holding(address, prefix);
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A list of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Exactly these.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Loopback, RFC 1918, the carrier range that EKS and ECS use (RFC 6598), and unique local IPv6 (RFC 4193).
    pub fn private() -> Self {
        let network = |address: [u8; 4], prefix| Network { address: IpAddr::from(address), prefix };
        Self(vec![
            network([127, 0, 0, 0], 8),
            network([10, 0, 0, 0], 8),
            network([172, 16, 0, 0], 12),
            network([192, 168, 0, 0], 16),
            network([100, 64, 0, 0], 10),
            Network { address: IpAddr::from(1u128.to_be_bytes()), prefix: 128 },
            Network { address: IpAddr::from((0xfc00_u128 << 112).to_be_bytes()), prefix: 7 },
        ])
    }

    /// Whether any of them holds the address.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// Networks that are not globally reachable (IANA special-purpose address registries), as far as an address in them can
/// be met: everything that must not be taken for a public server.
const SPECIAL: &[(IpAddr, u8)] = &[
    (v4(0, 0), 8),
    (v4(10, 0), 8),
    (v4(100, 64), 10),
    (v4(127, 0), 8),
    (v4(169, 254), 16),
    (v4(172, 16), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 0)), 24),
    (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0)), 24),
    (v4(192, 168), 16),
    (v4(198, 18), 15),
    (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 0)), 24),
    (IpAddr::V4(Ipv4Addr::new(203, 0, 113, 0)), 24),
    (v4(224, 0), 4),
    (v4(240, 0), 4),
];

const fn v4(first: u8, second: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(first, second, 0, 0))
}

/// Where somebody on this host reaches a socket bound to `address`: who binds to no address in particular is on loopback
/// too.
pub fn as_seen_from_here(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

/// An address as an IPv4 peer has it, where a socket for both families has it as IPv6.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an address can be reached from anywhere on the internet.
pub fn is_globally_routable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(_) => !SPECIAL.iter().any(|&(network, prefix)| Network::holding(network, prefix).contains(address)),
        // Global unicast is 2000::/3; in it, 2001::/23 is for protocols and 2001:db8::/32 for documents, and 6to4
        // carries an IPv4 address.
        IpAddr::V6(v6) => match v6.segments() {
            [0x2002, high, low, ..] => {
                is_globally_routable(IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))))
            }
            [0x2001, second, ..] => second >= 0x0200 && second != 0x0db8,
            [0x3fff, second, ..] => second >= 0x1000,
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_written_and_refused_with_the_rule() {
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
        assert_eq!("::/0".parse::<Network>().unwrap().to_string(), "::/0");
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Prefix(32)));
        assert_eq!("10.0.0/8".parse::<Network>(), Err(NetworkError::Form));
        assert_eq!("10.0.0.0/+8".parse::<Network>(), Err(NetworkError::Form));
        let error = "10.0.0.1/8".parse::<Network>().unwrap_err();
        assert_eq!(error.to_string(), "the address has bits beyond its prefix: write 10.0.0.0/8");
    }

    #[test]
    fn the_default_is_everything_private_and_nothing_public() {
        let private = Networks::private();
        for inside in
            ["127.0.0.1", "::1", "10.9.9.9", "172.31.0.1", "192.168.1.1", "100.127.0.1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(private.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in
            ["8.8.8.8", "172.32.0.1", "100.128.0.1", "169.254.1.1", "fe80::1", "2001:db8::1", "::ffff:8.8.8.8"]
        {
            assert!(!private.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("203.0.113.1".parse().unwrap()));
    }

    #[test]
    fn only_what_the_internet_can_reach_is_globally_routable() {
        for global in ["1.1.1.1", "52.94.0.1", "2606:4700::1111", "2600:1f00::1", "::ffff:8.8.8.8", "2002:808:808::1"] {
            assert!(is_globally_routable(global.parse().unwrap()), "{global}");
        }
        for other in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.2.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::808:808",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::1",
            "ff02::1",
        ] {
            assert!(!is_globally_routable(other.parse().unwrap()), "{other}");
        }
    }
}
