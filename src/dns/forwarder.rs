//! `dns.answer = "forwarder"`: the names of our zones resolve to the HTTPS forwarder, which finds out by itself where each
//! is.
//!
//! What the policy and public DNS say of a name decides, as ever, whether it exists; its addresses alone are replaced,
//! and only when a reply is written. So the cache holds what public DNS said, and a reload has nothing to flush.
//!
//! This is for questions about names that rules 1 to 5 decide. Names of rule 0 keep their own addresses, and so does
//! every other name, even where it is an alias of one in our zones: a client that asks for `api.example.com` says
//! `api.example.com` to whatever it connects to, and the forwarder refuses names that it does not serve. The dialer
//! resolves beneath this as well ([`Resolver::addresses`](super::Resolver::addresses)).
//!
//! `respond` and `service` write through it; `plane` works the addresses out.

use std::net::IpAddr;

use super::query::Query;
use super::reply::{self, ReplyLimit};
use super::resolver::Resolved;
use super::wire::{rcode, rtype};
use crate::policy::{Addresses, Decision, HostName, Rule};

/// What replaces the addresses of one name.
#[derive(Debug, Clone, Copy)]
pub struct StandIn<'a> {
    addresses: &'a Addresses,
    /// The zone of the name, for the SOA record where there is no address of the family asked for.
    apex: Option<&'a HostName>,
}

impl<'a> StandIn<'a> {
    /// The forwarder's addresses, if there are any and they replace those of a name that the policy decides so.
    #[inline]
    pub fn of(forwarder: Option<&'a Addresses>, decision: &Decision<'a>) -> Option<Self> {
        let addresses = forwarder.filter(|_| (Rule::Apex..=Rule::OtherInZone).contains(&decision.rule))?;
        Some(Self { addresses, apex: decision.zone.map(|zone| &zone.name) })
    }

    pub fn addresses(&self) -> &'a Addresses {
        self.addresses
    }
}

/// Writes the reply to a client: what was resolved, or, for a name that has one and exists, the addresses of its stand-in.
/// These live as long as what was resolved, at most as long as any address of ours.
pub fn render(
    resolved: &Resolved,
    stand_in: Option<StandIn<'_>>,
    query: &Query<'_>,
    limit: ReplyLimit,
    out: &mut Vec<u8>,
) {
    let asks_for_addresses = matches!(query.qtype, rtype::A | rtype::AAAA);
    match stand_in {
        Some(StandIn { addresses, apex }) if asks_for_addresses && resolved.answer().rcode() == rcode::NOERROR => {
            let ttl = resolved.seconds_left().min(reply::MAX_TTL);
            reply::addresses(query, addresses, ttl, apex, limit, out);
        }
        _ => resolved.render(query, limit, out),
    }
}

/// The addresses to hand out. `listed` are those of the configuration; an unspecified one stands for all in `own` of its
/// family that others can reach, or for loopback where there are none.
pub fn reachable(listed: &[IpAddr], own: &[IpAddr]) -> Addresses {
    let mut addresses = Addresses::default();
    for ip in listed.iter().map(IpAddr::to_canonical) {
        if ip.is_unspecified() {
            let of_family = || own.iter().filter(|own| own.is_ipv4() == ip.is_ipv4());
            let is_for_others = |own: &&IpAddr| !own.is_loopback() && !is_link_local(own);
            if of_family().any(|own| is_for_others(&own)) {
                of_family().filter(is_for_others).for_each(|own| add(&mut addresses, *own));
            } else {
                of_family().filter(|own| own.is_loopback()).for_each(|own| add(&mut addresses, *own));
            }
        } else {
            add(&mut addresses, ip);
        }
    }
    addresses
}

fn add(addresses: &mut Addresses, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) if !addresses.v4.contains(&v4) => addresses.v4.push(v4),
        IpAddr::V6(v6) if !addresses.v6.contains(&v6) => addresses.v6.push(v6),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_unspecified_address_stands_for_those_of_its_family_that_others_can_reach() {
        let own = parsed(&["127.0.0.1", "10.0.0.5", "169.254.7.7", "10.0.1.5", "::1", "fe80::1", "fd00::5"]);
        let all = reachable(&parsed(&["0.0.0.0", "::"]), &own);
        assert_eq!((all.v4, all.v6), (parsed(&["10.0.0.5", "10.0.1.5"]), parsed(&["fd00::5"])));
        let v6 = reachable(&parsed(&["::"]), &own);
        assert_eq!((v6.v4, v6.v6), (Vec::new(), parsed(&["fd00::5"])), "[::] takes no IPv4");
        let alone = reachable(&parsed(&["0.0.0.0"]), &parsed(&["127.0.0.1", "169.254.7.7", "fd00::5"]));
        assert_eq!((alone.v4, alone.v6), (parsed(&["127.0.0.1"]), Vec::new()));
    }

    #[test]
    fn addresses_that_are_written_are_taken_as_they_are_each_once() {
        let listed = parsed(&["127.0.0.9", "10.0.0.5", "::ffff:10.0.0.5", "169.254.7.7", "0.0.0.0", "fe80::1"]);
        let taken = reachable(&listed, &parsed(&["10.0.0.5", "10.0.0.6"]));
        assert_eq!(taken.v4, parsed::<std::net::Ipv4Addr>(&["127.0.0.9", "10.0.0.5", "169.254.7.7", "10.0.0.6"]));
        assert_eq!(taken.v6, parsed::<std::net::Ipv6Addr>(&["fe80::1"]));
    }
}
