//! Networks in CIDR form, and lists of them: who may use a listener, which addresses may be dialled.
//!
//! Both planes guard every listener with one [`Networks`], so that neither is open to the world.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

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
}
