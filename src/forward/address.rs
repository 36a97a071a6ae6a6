//! May this address be dialled? Asked for every address, at the moment it is about to be.
//!
//! A name is permitted by what it says; what it leads to is decided by whoever runs its DNS. So the dialer checks the
//! address itself: no name leads to this host, to its link, or to the services that hand out credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::permit::{Permit, Way};
use super::refusal::{Cause, Refusal};
use crate::interfaces;
use crate::policy::{Network, Networks, is_globally_routable};

/// What the configuration says about addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRules {
    /// Networks that may be dialled although they are special, or not globally routable.
    pub public_networks: Networks,
    /// Every TCP listener of this process.
    pub own_listeners: Vec<SocketAddr>,
}

impl AddressRules {
    /// Decides whether `address` may be dialled for this permit.
    ///
    /// # Errors
    /// With the rule that forbids it.
    pub fn check(&self, address: SocketAddr, permit: &Permit) -> Result<(), Refusal> {
        if self.is_our_own(address) {
            let words = format!("{} leads to {address}, a listener of this forwarder", permit.destination.host);
            return Err(Refusal::new(Cause::Loop, words));
        }
        let ip = carried(address.ip());
        let named_by_configuration = permit.way.endpoint().is_some_and(|endpoint| endpoint.addresses.are_static());
        if named_by_configuration || self.public_networks.contains(address.ip()) || self.public_networks.contains(ip) {
            return Ok(());
        }
        let what = if is_of_this_link(ip) {
            "an address of this host, of its link or of its metadata services"
        } else if matches!(permit.way, Way::Upstream(_))
            && !permit.may_stay_inside
            && !is_globally_routable(address.ip())
        {
            "which the internet cannot reach"
        } else {
            return Ok(());
        };
        let host = permit.destination.host;
        let words =
            format!("{host} leads to {}, {what}: add it to forward.public_networks if it is right", address.ip());
        Err(Refusal::new(Cause::ProhibitedAddress, words))
    }

    /// Whether who connects to `address` reaches this process.
    pub fn is_our_own(&self, address: SocketAddr) -> bool {
        let address = SocketAddr::new(carried(address.ip()), address.port());
        let at_port = || self.own_listeners.iter().filter(|listener| listener.port() == address.port());
        if at_port().any(|listener| interfaces::reaches(address, *listener, &[])) {
            return true;
        }
        // Which addresses an unspecified one stands for is for the system to say, and that takes a while.
        at_port().any(|listener| listener.ip().is_unspecified()) && {
            let own: Vec<IpAddr> = interfaces::networks().into_iter().map(|(ip, _)| ip).collect();
            at_port().any(|listener| interfaces::reaches(address, *listener, &own))
        }
    }
}

/// The address that is meant: an IPv6 address may carry an IPv4 one, mapped or compatible (RFC 4291 section 2.5.5), for a
/// translator (64:ff9b::/96, RFC 6052; 64:ff9b:1::/48, RFC 8215, by its last octets) or for a tunnel (2002::/16, RFC 3056).
fn carried(ip: IpAddr) -> IpAddr {
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match ip.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => v4(high, low),
            [0x2002, high, low, ..] => v4(high, low),
            [0, 0, 0, 0, 0, 0, high, low] if high > 0 => v4(high, low),
            _ => IpAddr::V6(v6),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Loopback, unspecified, link-local, multicast, and `fd00:ec2::/32`, where AWS has its services for instances.
fn is_of_this_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            let instance_services = Network::holding(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0).into(), 32);
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || instance_services.contains(ip)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::time::Instant;

    use super::*;
    use crate::forward::Destination;
    use crate::policy::{Addresses, Endpoint, Rule, Upstream};

    const SERVICES: [&str; 23] = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.169.253",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "::ffff:169.254.169.254",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
    ];
    const INSIDE: [&str; 7] =
        ["10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"];
    const OUTSIDE: [&str; 3] = ["52.94.0.1", "2600:1f00::1", "::ffff:8.8.8.8"];

    fn rules(public: &[&str]) -> AddressRules {
        let public_networks = Networks::new(public.iter().map(|network| network.parse().unwrap()).collect());
        AddressRules { public_networks, own_listeners: vec!["0.0.0.0:8443".parse().unwrap()] }
    }

    fn upstream(upstream: Upstream, may_stay_inside: bool) -> Permit {
        Permit {
            destination: Destination::of_connect("api.example.com:443").unwrap(),
            rule: Rule::Default,
            way: Way::Upstream(upstream),
            ours: false,
            may_stay_inside,
            learnable: false,
        }
    }

    fn endpoint(addresses: Addresses) -> Permit {
        let endpoint = Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port: 443 };
        Permit { way: Way::Endpoint(Arc::new(endpoint)), ..upstream(Upstream::Public, false) }
    }

    fn cause(rules: &AddressRules, permit: &Permit, ip: &str) -> Option<Cause> {
        rules.check(SocketAddr::new(ip.parse().unwrap(), 443), permit).err().map(|refusal| refusal.cause)
    }

    #[test]
    fn no_name_leads_to_this_host_its_link_or_its_credentials() {
        let found_by_dns = endpoint(Addresses { fresh_until: Some(Instant::now()), ..Addresses::default() });
        for permit in [upstream(Upstream::Public, false), upstream(Upstream::Vpc, true), found_by_dns] {
            for ip in SERVICES {
                assert_eq!(cause(&rules(&[]), &permit, ip), Some(Cause::ProhibitedAddress), "{ip}");
            }
            for ip in OUTSIDE {
                assert_eq!(cause(&rules(&[]), &permit, ip), None, "{ip}");
            }
        }
    }

    #[test]
    fn the_public_route_leads_out_and_nowhere_else() {
        for ip in INSIDE {
            let public = upstream(Upstream::Public, false);
            assert_eq!(cause(&rules(&[]), &public, ip), Some(Cause::ProhibitedAddress), "{ip}");
            assert_eq!(cause(&rules(&[]), &upstream(Upstream::Vpc, true), ip), None, "{ip}");
        }
    }

    #[test]
    fn what_the_configuration_names_is_exempt() {
        let labs = rules(&["127.0.0.0/8", "169.254.0.0/16", "10.0.0.0/8"]);
        for ip in ["127.0.0.1", "169.254.1.1", "10.0.0.1", "::ffff:10.0.0.1"] {
            assert_eq!(cause(&labs, &upstream(Upstream::Public, false), ip), None, "{ip}");
        }
        assert_eq!(cause(&rules(&[]), &endpoint(Addresses::default()), "127.0.0.11"), None);
    }

    #[test]
    fn our_own_listeners_are_refused_whatever_the_configuration_says() {
        let everything = rules(&["0.0.0.0/0", "::/0"]);
        for ip in ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            let refusal = everything.check(SocketAddr::new(ip.parse().unwrap(), 8443), &endpoint(Addresses::default()));
            assert_eq!(refusal.unwrap_err().cause, Cause::Loop, "{ip}");
        }
    }
}
