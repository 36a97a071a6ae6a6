//! What `dns.whole_vpc` asks of the rest: nothing that we ask the VPC's resolver may be a name that it sends to us.
//!
//! Called by `rules`. What only shows at start, such as servers that resolv.conf names, `dns` refuses itself.

use hyper::Uri;

use super::Config;
use super::document::{Document, Place, Value};
use super::error::{Problem, Reason, quoted};
use super::rules::{Facts, place};
use crate::discovery::{AddressSource, SourceKind};
use crate::egress_proxy::Host;
use crate::policy::{ApiZones, HostName};

pub(super) fn check(config: &Config, facts: &Facts, document: &Document, problems: &mut Vec<Problem>) {
    if !config.dns.whole_vpc {
        return;
    }
    endpoints(config, document, problems);
    public_servers(config, document, problems);
    zone_servers(config, facts, problems);
    own_look_ups(config, facts, problems);
}

fn endpoints(config: &Config, document: &Document, problems: &mut Vec<Problem>) {
    let fix = "set dns_name to the endpoint's vpce-... name, or addresses";
    if config.endpoints.is_empty() {
        let rule =
            "the default endpoint is found at the apex of the zone, which comes back to us from the VPC's resolver";
        let reason = Reason::new(rule, "add an [[endpoint]] with the dns_name \"vpce-...\", or with addresses");
        problems.push(Problem::new(&place(document, "dns.whole_vpc"), "true", reason));
    }
    for (endpoint, item) in config.endpoints.iter().zip(document.items("endpoint")) {
        match &endpoint.addresses {
            AddressSource::Static(_) => {}
            AddressSource::Apex => {
                let rule = "with dns.whole_vpc the apex of the zone comes back to us from the VPC's resolver";
                problems.push(Problem::new(&item.place, "[[endpoint]]", Reason::new(rule, fix)));
            }
            AddressSource::Name(name) => {
                if let Some(zone) = zone_of(config, name) {
                    let at = item.keys.get("dns_name").map_or(&item.place, |node| &node.place);
                    problems.push(Problem::new(at, quoted(&name.to_string()), Reason::new(comes_back(&zone), fix)));
                }
            }
        }
    }
}

fn public_servers(config: &Config, document: &Document, problems: &mut Vec<Problem>) {
    let servers = &config.dns.upstreams.public;
    // An entry that is no server has its own error, and then the positions may differ.
    let entries = match document.keys.get("upstream.public").map(|node| &node.value) {
        Some(Value::List(entries)) if entries.len() == servers.len() => entries.as_slice(),
        _ => &[],
    };
    for server in config.dns.upstreams.in_vpc(servers) {
        let entry = servers.iter().position(|other| other == server).and_then(|at| entries.get(at));
        let rule = "with dns.whole_vpc the VPC's resolver asks us for the names that upstream.public is asked for, and this \
                    is that resolver or may be: its addresses are private or link-local";
        let reason = Reason::new(rule, "name servers outside the VPC, as \"https://1.1.1.1/dns-query\"");
        let (at, shown) = match entry {
            Some(entry) => (entry.place.clone(), entry.shown()),
            None => (place(document, "upstream.public"), quoted(&server.to_string())),
        };
        problems.push(Problem::new(&at, shown, reason));
    }
}

fn zone_servers(config: &Config, facts: &Facts, problems: &mut Vec<Problem>) {
    let (zones, upstreams) = (ApiZones::with(config.policy.dns_suffix.as_ref()), &config.dns.upstreams);
    for (name, servers) in facts.zones.iter().zip(&upstreams.zones).filter(|(name, _)| zones.meet(&name.value)) {
        if let Some(server) = upstreams.in_vpc(servers).next() {
            let rule = format!(
                "with dns.whole_vpc the VPC's resolver asks us for names of API Gateway, this zone has some, and {server} is \
                 that resolver or may be: its address is private or link-local"
            );
            problems.push(name.problem(Reason::new(rule, "name a narrower zone, or servers outside the VPC")));
        }
    }
}

/// Names that we look up ourselves, all of them through the `vpc` group.
fn own_look_ups(config: &Config, facts: &Facts, problems: &mut Vec<Problem>) {
    let of_url = |url: &str| url.parse::<Uri>().ok()?.host()?.parse::<HostName>().ok();
    let servers = facts.servers.iter().map(|server| (named(&server.value.host), &server.place, &server.shown));
    let proxy = facts.parent_proxy.iter().map(|proxy| (named(proxy.value.host()), &proxy.place, &proxy.shown));
    let sources = facts.sources.iter().map(|source| {
        let name = match &source.value {
            SourceKind::Url { url, .. } => of_url(url),
            SourceKind::ApiGateway { endpoint_url, .. } => endpoint_url.as_deref().and_then(of_url),
            SourceKind::File { .. } | SourceKind::Learned => None,
        };
        (name, &source.place, &source.shown)
    });
    let all: Vec<(Option<HostName>, &Place, &String)> = servers.chain(proxy).chain(sources).collect();
    for (name, place, shown) in all {
        if let Some(zone) = name.and_then(|name| zone_of(config, &name)) {
            let reason = Reason::new(comes_back(&zone), "name a host outside of the zone, or an IP address");
            problems.push(Problem::new(place, shown.clone(), reason));
        }
    }
}

fn named(host: &Host) -> Option<HostName> {
    match host {
        Host::Name(name) => Some(*name),
        Host::Address(_) => None,
    }
}

fn comes_back(zone: &HostName) -> String {
    format!("with dns.whole_vpc names in {zone} come back to us from the VPC's resolver")
}

/// The zone of API Gateway that a name is in, of whichever region and form.
fn zone_of(config: &Config, name: &HostName) -> Option<HostName> {
    ApiZones::with(config.policy.dns_suffix.as_ref()).zone_of(name)
}
