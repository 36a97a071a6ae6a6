//! What several keys must keep together: rules that no single value can break.
//!
//! `load` calls [`check`] once every section is read. [`Facts`] are the values these rules compare, each with its place.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::Config;
use super::document::{Document, Place, Value};
use super::error::{Problem, Reason, quoted};
use super::read::Located;
use super::whole_vpc;
use crate::discovery::SourceKind;
use crate::dns::ZoneAnswer;
use crate::dns::upstream::Server;
use crate::egress_proxy::{EgressProxy, Host};
use crate::forward::Others;
use crate::policy::{ApiId, HostName, Table, VpceId};

/// An account that is asked more often than this has fewer of its calls left for deployments (API Gateway guide, "Quotas").
const OFTEN: Duration = Duration::from_secs(10);

/// Values with their places, gathered while sections are read.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Every listener, by key.
    pub(super) listeners: Vec<(&'static str, Located<SocketAddr>)>,
    /// Every upstream server of every group.
    pub(super) servers: Vec<Located<Server>>,
    /// Private ids of `[policy]` and of every endpoint.
    pub(super) private_ids: Vec<Located<ApiId>>,
    pub(super) always_public_ids: Vec<Located<ApiId>>,
    pub(super) private_names: Vec<(Located<HostName>, Located<VpceId>)>,
    /// The names of `[[upstream.zone]]`.
    pub(super) zones: Vec<Located<HostName>>,
    /// What each `[[discovery]]` reads.
    pub(super) sources: Vec<Located<SourceKind>>,
    pub(super) endpoint_ids: Vec<Located<VpceId>>,
    /// The same as written, with those that are no ids: what refers to them needs no second error.
    pub(super) endpoint_id_texts: Vec<Located<String>>,
    /// Whether `https://` servers are asked through `forward.parent_proxy`.
    pub(super) via_parent: bool,
    pub(super) parent_proxy: Option<Located<EgressProxy>>,
    /// Whether `dns.forwarder_addresses` has any.
    pub(super) has_forwarder_addresses: bool,
    /// `forward.http`'s certificate and key.
    pub(super) tls: (Option<Located<PathBuf>>, Option<Located<PathBuf>>),
    /// Those of encrypted DNS.
    pub(super) dns_tls: (Option<Located<PathBuf>>, Option<Located<PathBuf>>),
}

/// Checks all rules; returns what is allowed and still deserves a warning.
pub(super) fn check(config: &Config, facts: &Facts, document: &Document, problems: &mut Vec<Problem>) -> Vec<String> {
    ids_in_both_lists(facts, problems);
    duplicate_endpoint_ids(facts, problems);
    private_names(facts, problems);
    duplicate_zones(facts, problems);
    zones_of_ours(config, facts, document, problems);
    duplicate_sources(config, facts, problems);
    duplicate_listeners(facts, problems);
    loops(facts, problems);
    tls_pairs(facts, problems);
    whole_vpc::check(config, facts, document, problems);
    answer_by_forwarder(config, document, problems);
    take_over(config, document, problems);
    via_parent(facts, document, problems);
    own_proxy(facts, problems);
    warnings(config, facts)
}

fn ids_in_both_lists(facts: &Facts, problems: &mut Vec<Problem>) {
    let public: HashSet<&ApiId> = facts.always_public_ids.iter().map(|id| &id.value).collect();
    for id in facts.private_ids.iter().filter(|id| public.contains(&id.value)) {
        let rule = "an id is private or public: this one is in policy.always_public as well";
        problems.push(id.problem(Reason::new(rule, "remove it from one of the two lists")));
    }
}

/// Reports every value that an earlier one equals.
fn duplicates<T: Eq + std::hash::Hash>(
    located: impl IntoIterator<Item = Located<T>>,
    reason: &Reason,
    problems: &mut Vec<Problem>,
) {
    let mut seen = HashSet::new();
    for Located { value, place, shown } in located {
        if !seen.insert(value) {
            problems.push(Problem::new(&place, shown, reason.clone()));
        }
    }
}

fn duplicate_endpoint_ids(facts: &Facts, problems: &mut Vec<Problem>) {
    let reason = Reason::new("another [[endpoint]] has this vpce_id", "merge the two, or correct one id");
    duplicates(facts.endpoint_ids.iter().cloned(), &reason, problems);
}

/// Two of one group are one server that is asked twice, and whose questions are counted twice.
pub(super) fn duplicate_servers(group: &str, servers: &[Located<Server>], problems: &mut Vec<Problem>) {
    let reason = Reason::new(format!("{group} has this server already"), "remove one of the two");
    duplicates(servers.iter().cloned(), &reason, problems);
}

fn duplicate_zones(facts: &Facts, problems: &mut Vec<Problem>) {
    let reason = Reason::new("another [[upstream.zone]] has this name", "list all its servers in one of them");
    duplicates(facts.zones.iter().cloned(), &reason, problems);
}

/// Two that read the same would keep one list on disk for both.
fn duplicate_sources(config: &Config, facts: &Facts, problems: &mut Vec<Problem>) {
    for (at, source) in facts.sources.iter().enumerate() {
        if facts.sources[..at].iter().any(|earlier| reads_the_same(&earlier.value, &source.value, config)) {
            let reason = Reason::new("another [[discovery]] reads the same", "remove one of the two");
            problems.push(source.problem(reason));
        }
    }
}

fn reads_the_same(one: &SourceKind, other: &SourceKind, config: &Config) -> bool {
    match (one, other) {
        (SourceKind::Url { url, .. }, SourceKind::Url { url: other, .. }) => url == other,
        (
            SourceKind::ApiGateway { region, endpoint_url },
            SourceKind::ApiGateway { region: of_other, endpoint_url: other_url },
        ) => {
            let own = config.region.as_ref();
            region.as_ref().or(own) == of_other.as_ref().or(own) && endpoint_url == other_url
        }
        _ => one == other,
    }
}

fn private_names(facts: &Facts, problems: &mut Vec<Problem>) {
    let names = facts.private_names.iter().map(|(name, _)| name.clone());
    let reason = Reason::new("policy.private_names has this name twice", "remove one of the two");
    duplicates(names, &reason, problems);
    let configured: Vec<&str> = facts.endpoint_id_texts.iter().map(|id| id.value.as_str()).collect();
    for (_, id) in facts.private_names.iter().filter(|(_, id)| !configured.contains(&id.value.as_str())) {
        let fix = match configured.first() {
            Some(first) => format!("add an [[endpoint]] with this vpce_id, or write {}", quoted(first)),
            None => format!("add an [[endpoint]] with vpce_id = {}", quoted(id.value.as_str())),
        };
        problems.push(id.problem(Reason::new("no [[endpoint]] has this vpce_id", fix)));
    }
}

/// Names inside the zones of our endpoints are the policy's own.
fn zones_of_ours(config: &Config, facts: &Facts, document: &Document, problems: &mut Vec<Problem>) {
    let ours = our_zones(config, document, problems);
    for (name, _) in &facts.private_names {
        if let Some(zone) = ours.iter().find(|zone| name.value.is_within(zone)) {
            let rule = format!("private_names is for custom domains: this is in the zone {zone}");
            problems.push(name.problem(Reason::new(rule, "list the API's id in policy.private_api_ids instead")));
        } else if let Some(zone) = ours.iter().find(|zone| zone.is_within(&name.value)) {
            let rule = format!("a private name hides all names below it, and the zone {zone} is below this one");
            problems.push(name.problem(Reason::new(rule, "write the whole name of one custom domain")));
        }
    }
    for name in &facts.zones {
        if let Some(zone) = ours.iter().find(|zone| name.value.is_within(zone)) {
            let rule = format!("names in the zone {zone} go where the policy says");
            let fix = "remove this [[upstream.zone]]; for public APIs set upstream.public";
            problems.push(name.problem(Reason::new(rule, fix)));
        }
    }
}

/// The zones of the endpoints' regions, as far as these are known before start.
fn our_zones(config: &Config, document: &Document, problems: &mut Vec<Problem>) -> Vec<HostName> {
    let own = config.endpoints.iter().map(|endpoint| endpoint.region.as_ref().or(config.region.as_ref()));
    let default = config.endpoints.is_empty().then_some(config.region.as_ref());
    let mut zones = Vec::new();
    for region in own.chain(default).flatten() {
        match Table::zone_name(region, config.policy.dns_suffix.as_ref()) {
            Ok(zone) => zones.push(zone),
            Err(error) => {
                let suffix = config.policy.dns_suffix.map(|suffix| suffix.to_string()).unwrap_or_default();
                let reason = Reason::new(error.to_string(), "write a DNS suffix like \"amazonaws.com\"");
                problems.push(Problem::new(&place(document, "policy.dns_suffix"), quoted(&suffix), reason));
                break;
            }
        }
    }
    zones
}

fn duplicate_listeners(facts: &Facts, problems: &mut Vec<Problem>) {
    let mut taken: HashMap<SocketAddr, &str> = HashMap::new();
    // Port 0 is a new port each time.
    for (key, listener) in facts.listeners.iter().filter(|(_, listener)| listener.value.port() != 0) {
        if let Some(other) = taken.insert(listener.value, key) {
            let rule = format!("{key} and {other} cannot share an address");
            let rule = if *key == other { format!("{key} has this address twice") } else { rule };
            problems.push(listener.problem(Reason::new(rule, "use another port for one of them, or remove it")));
        }
    }
}

/// A server that is one of our own listeners would ask us what we ask it.
fn loops(facts: &Facts, problems: &mut Vec<Problem>) {
    let ours = || facts.listeners.iter().filter(|(key, _)| key.starts_with("dns."));
    for server in &facts.servers {
        let Some(address) = server.value.address() else { continue };
        let Some((key, listener)) = ours().find(|(_, listener)| reaches(address, listener.value)) else { continue };
        let rule = format!("a server cannot be ourselves: {key} has {}", quoted(&listener.value.to_string()));
        // A default server nobody wrote is not what must change.
        if matches!(server.place, Place::Default(_)) {
            let rule = format!("{key} cannot be an upstream server, and {} is one", server.shown);
            problems.push(listener.problem(Reason::new(rule, "listen on an address of this host")));
        } else {
            problems.push(server.problem(Reason::new(rule, "write the server that should be asked instead of us")));
        }
    }
}

/// Whether a packet sent to `address` would arrive at `listener`, as far as addresses alone can tell.
fn reaches(address: SocketAddr, listener: SocketAddr) -> bool {
    let (to, at) = (address.ip().to_canonical(), listener.ip().to_canonical());
    let wildcard = at.is_unspecified() && (to.is_loopback() || to.is_unspecified()) && families_meet(to, at);
    listener.port() != 0 && address.port() == listener.port() && (to == at || wildcard)
}

/// `[::]` takes no IPv4 here, `0.0.0.0` no IPv6 anywhere.
fn families_meet(to: IpAddr, wildcard: IpAddr) -> bool {
    to.is_ipv4() == wildcard.is_ipv4()
}

fn tls_pairs(facts: &Facts, problems: &mut Vec<Problem>) {
    for (table, pair) in [("forward.http", &facts.tls), ("dns", &facts.dns_tls)] {
        let (given, missing) = match pair {
            (Some(given), None) => (given, "tls_key"),
            (None, Some(given)) => (given, "tls_certificate"),
            _ => continue,
        };
        let rule = format!("{table} needs both tls_certificate and tls_key, or neither");
        problems.push(given.problem(Reason::new(rule, format!("set {table}.{missing} to a PEM file"))));
    }
    let encrypted = facts.listeners.iter().find(|(key, _)| matches!(*key, "dns.tls.listen" | "dns.https.listen"));
    if let (Some((key, listener)), (None, None)) = (encrypted, &facts.dns_tls) {
        let rule = format!("{key} needs a certificate to show");
        problems.push(listener.problem(Reason::new(rule, "set dns.tls_certificate and dns.tls_key to PEM files")));
    }
}

fn answer_by_forwarder(config: &Config, document: &Document, problems: &mut Vec<Problem>) {
    let on_443 = has_port(document, "forward.sni.listen", ":443");
    if matches!(config.dns.answer, ZoneAnswer::Forwarder(_)) && !on_443 {
        let rule = "this needs forward.sni on port 443, where clients will connect to";
        let reason = Reason::new(rule, "set forward.sni.listen = [\"0.0.0.0:443\"], or dns.answer = \"endpoint\"");
        problems.push(Problem::new(&place(document, "dns.answer"), "\"forwarder\"", reason));
    }
}

/// Whether a list of listeners has one on this port. As written: an entry that is no address has its own error already.
fn has_port(document: &Document, path: &str, port: &str) -> bool {
    match document.keys.get(path).map(|node| &node.value) {
        Some(Value::List(entries)) => entries.iter().any(|entry| entry.text.ends_with(port)),
        _ => false,
    }
}

fn take_over(config: &Config, document: &Document, problems: &mut Vec<Problem>) {
    if config.take_over && !has_port(document, "dns.listen", ":53") {
        let rule = "resolv.conf knows port 53 alone, and dns.listen has no address with it";
        let reason = Reason::new(rule, "add \"127.0.0.1:53\" to dns.listen, or remove take_over");
        problems.push(Problem::new(&place(document, "dns.take_over"), "true", reason));
    }
}

fn via_parent(facts: &Facts, document: &Document, problems: &mut Vec<Problem>) {
    let has_proxy = document.keys.get("forward.parent_proxy").is_some_and(|node| match &node.value {
        Value::Text(entry) => !entry.text.is_empty(),
        _ => false,
    });
    if facts.via_parent && !has_proxy {
        let reason = Reason::new("this needs forward.parent_proxy", "set forward.parent_proxy, or remove via_parent");
        problems.push(Problem::new(&place(document, "upstream.via_parent"), "true", reason));
    }
}

/// A proxy that is one of our own listeners would hand us what we hand it.
fn own_proxy(facts: &Facts, problems: &mut Vec<Problem>) {
    let Some(proxy) = &facts.parent_proxy else { return };
    let &Host::Address(ip) = proxy.value.host() else { return };
    let address = SocketAddr::new(ip, proxy.value.port());
    if let Some((key, listener)) = facts.listeners.iter().find(|(_, listener)| reaches(address, listener.value)) {
        let rule = format!("a proxy cannot be ourselves: {key} has {}", quoted(&listener.value.to_string()));
        problems.push(proxy.problem(Reason::new(rule, "move that listener, or name another proxy")));
    }
}

pub(super) fn place(document: &Document, path: &str) -> Place {
    document.keys.get(path).map_or_else(|| Place::Named(path.to_owned()), |node| node.place.clone())
}

fn warnings(config: &Config, facts: &Facts) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |sentence: String| warnings.push(sentence);
    let outside = [IpAddr::from([8, 8, 8, 8]), IpAddr::from([0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888])];
    if outside.iter().any(|&address| config.clients.contains(address)) {
        warn("clients holds public addresses: list only the networks that should use the listeners".to_owned());
    }
    for (name, _) in &config.policy.private_names {
        if config.policy.always_public_names.contains(name) {
            warn(format!("{name} is in policy.always_public, which wins over policy.private_names: remove one"));
        }
    }
    if config.dns.upstreams.public.is_empty() && !config.dns.listen.is_empty() {
        warn("upstream.public is empty, so public APIs do not resolve: list a server".to_owned());
    }
    if config.dns.answer == ZoneAnswer::Endpoint && facts.has_forwarder_addresses {
        warn("dns.forwarder_addresses has no effect without dns.answer = \"forwarder\"".to_owned());
    }
    for source in &config.discovery {
        if sends_secrets_in_the_clear(&source.kind) {
            warn(format!("{}: its headers or password go there unencrypted: write https://", source.label()));
        }
        if matches!(source.kind, SourceKind::ApiGateway { .. }) && source.interval < OFTEN {
            let rule = "everything in the account shares ten calls a second";
            warn(format!("{}: {rule}: set interval = \"10s\" or longer", source.label()));
        }
    }
    let exposed = config.forward.connect_listen.iter().find(|listener| !listener.ip().is_loopback());
    if let (Some(listener), Some(Others::Direct)) = (exposed, config.forward.others) {
        warn(format!(
            "forward.connect on {listener} reaches every name for every client: forward.others is \"direct\""
        ));
    }
    warnings
}

fn sends_secrets_in_the_clear(source: &SourceKind) -> bool {
    let SourceKind::Url { url, headers } = source else { return false };
    let Ok(url) = url.parse::<Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let has_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    url.scheme_str() == Some("http") && !is_loopback && (has_user || !headers.is_empty())
}
