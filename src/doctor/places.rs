//! Which addresses are the endpoint's, which the internet's, and which way the policy sends a name.
//!
//! For `examine`; no I/O.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::examine::{Names, Surroundings};
use super::name::ZoneName;
use super::observations::{Answer, Place, Policy, Way};
use crate::policy::{
    Endpoint, HostName, Networks, Origin, Route, Rule, Table, Upstream, is_globally_routable, route as decide,
};

/// The addresses of the endpoint, and what counts as the internet.
pub(super) struct Places<'a> {
    /// Where the endpoint is called: the addresses that Sidegate would use, else those that private DNS gives.
    pub(super) endpoint: Vec<SocketAddr>,
    /// All that are known to be an endpoint's.
    of_endpoint: HashSet<IpAddr>,
    public_networks: &'a Networks,
    public_port: u16,
}

impl<'a> Places<'a> {
    pub(super) fn new(names: &Names, table: Option<&Table>, around: &'a Surroundings) -> Self {
        let in_zone = names.alias_in_zone.or_else(|| names.apex.as_ref().map(|(apex, _)| *apex));
        let endpoint = table.and_then(|table| endpoint_of(table, &names.host, in_zone.as_ref()));
        let configured: Vec<SocketAddr> = endpoint.into_iter().flat_map(sockets_of).collect();
        // The shape that private DNS has: every name is an alias of the apex, whose addresses are the endpoint's.
        let apex = names.apex.as_ref();
        let leads_there = |answer: &&Answer| apex.is_some_and(|(apex, _)| answer.aliases().contains(apex));
        let servers = names.system.servers.iter().map(|(_, answer)| answer);
        let captured = servers.chain([&names.vpc]).filter(leads_there);
        let by_apex: Vec<IpAddr> = apex
            .map(|(_, answer)| answer)
            .into_iter()
            .chain(captured)
            .flat_map(Answer::addresses)
            .copied()
            .filter(|ip| !is_globally_routable(*ip))
            .collect();
        let port = endpoint.map_or(around.public_port, |endpoint| endpoint.port);
        let mut of_endpoint: HashSet<IpAddr> = configured.iter().map(SocketAddr::ip).collect();
        of_endpoint.extend(&by_apex);
        let endpoint = if configured.is_empty() {
            let mut addresses: Vec<SocketAddr> = by_apex.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
            let mut seen = HashSet::new();
            addresses.retain(|address| seen.insert(*address));
            addresses
        } else {
            configured
        };
        Self { endpoint, of_endpoint, public_networks: &around.public_networks, public_port: around.public_port }
    }

    /// Where whoever gets these addresses goes: the first one says.
    pub(super) fn of(&self, addresses: &[IpAddr]) -> Place {
        match addresses.first() {
            None => Place::Nowhere,
            Some(ip) if self.of_endpoint.contains(ip) => Place::Endpoint,
            Some(ip) if self.is_internet(*ip) => Place::Internet,
            Some(_) => Place::Elsewhere,
        }
    }

    fn is_internet(&self, ip: IpAddr) -> bool {
        !self.of_endpoint.contains(&ip) && (is_globally_routable(ip) || self.public_networks.contains(ip))
    }

    /// The public side, as public DNS knows it, else as the system does.
    pub(super) fn internet(&self, public: &Answer, system: &Answer) -> Vec<SocketAddr> {
        let of = |answer: &Answer| {
            let addresses = answer.addresses().iter().copied();
            self.sockets(&addresses.filter(|ip| self.is_internet(*ip)).collect::<Vec<_>>())
        };
        let public = of(public);
        if public.is_empty() { of(system) } else { public }
    }

    pub(super) fn sockets(&self, addresses: &[IpAddr]) -> Vec<SocketAddr> {
        addresses.iter().map(|ip| SocketAddr::new(*ip, self.public_port)).collect()
    }
}

/// The endpoint that serves the name, else the first of its region.
fn endpoint_of<'t>(table: &'t Table, host: &HostName, in_zone: Option<&HostName>) -> Option<&'t Endpoint> {
    if let Route::Endpoint(endpoint) = decide(table, host).route {
        return Some(endpoint);
    }
    let zone = in_zone.and_then(|name| table.zone_of(name)).or_else(|| table.zone_of(host))?;
    table.endpoints().get(zone.first.0).map(|endpoint| &**endpoint)
}

fn sockets_of(endpoint: &Endpoint) -> impl Iterator<Item = SocketAddr> {
    let v4 = endpoint.addresses.v4.iter().copied().map(IpAddr::V4);
    let all = v4.chain(endpoint.addresses.v6.iter().copied().map(IpAddr::V6));
    all.map(|ip| SocketAddr::new(ip, endpoint.port))
}

/// Which way the policy sends a name, where its alias in a zone leads included (the CNAME rule).
pub(super) fn way_of(table: &Table, host: &HostName, alias: Option<&HostName>, public: &Answer) -> Policy {
    let of_host = decide(table, host);
    // Only what is resolved outside can turn out to be an alias.
    let decision = match (of_host.route, alias) {
        (Route::Upstream(_), Some(alias)) if table.zone_of(alias).is_some() => decide(table, alias),
        _ => of_host,
    };
    // Sidegate would learn that it is private.
    let learned = decision.learnable && *public == Answer::NoSuchName;
    let way = match decision.route {
        Route::Endpoint(_) => Way::Endpoint,
        Route::NoSuchName => Way::NoSuchName,
        Route::NotReady(not_ready) => Way::NotReady(not_ready.to_string()),
        Route::Upstream(Upstream::Public) if learned => Way::Endpoint,
        Route::Upstream(Upstream::Public) => Way::Public,
        Route::Upstream(Upstream::Vpc | Upstream::Zone(_)) => Way::Inside,
    };
    let apex = ZoneName::of(alias.unwrap_or(host)).map(|name| name.apex);
    let (rule, origin) =
        if learned { (Rule::PrivateId, Some(&Origin::Learned)) } else { (decision.rule, decision.origin) };
    Policy {
        way,
        rule: Some((rule as u8, rule.to_string())),
        origin: origin.map(ToString::to_string),
        endpoint: endpoint_of(table, host, apex.as_ref()).map(Endpoint::label),
    }
}
