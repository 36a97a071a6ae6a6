//! The tables that may stand many times: `[[endpoint]]`, `[[discovery]]`, `[[upstream.zone]]`. Files only.
//!
//! Their defaults are here, because `default.toml` can only show them: a table written there would be one more source.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use super::document::{Document, Item, Value};
use super::error::{Problem, Reason, quoted};
use super::read::{Located, Reader, values_of};
use super::rules::{Facts, duplicate_servers};
use super::values;
use crate::discovery::{AddressSource, EndpointConfig, HealthCheck, SourceConfig, SourceKind};
use crate::dns::upstream::Server;
use crate::policy::HostName;

/// How often a source is read.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn endpoints(
    document: &Document,
    problems: &mut Vec<Problem>,
    any_region: bool,
    facts: &mut Facts,
) -> Vec<EndpointConfig> {
    let mut endpoints = Vec::new();
    for item in document.items("endpoint") {
        let mut reader = Reader { keys: &item.keys, problems: &mut *problems };
        let region = reader.text("region", |text| values::region(text, any_region)).map(|region| region.value);
        let vpce_id = reader.text("vpce_id", values::vpce_id);
        facts.endpoint_ids.extend(vpce_id.clone());
        facts.endpoint_id_texts.extend(text(item, "vpce_id"));
        let private = reader.list("private_api_ids", values::api_id);
        let private_api_ids = values_of(&private);
        facts.private_ids.extend(private);
        let addresses = addresses(&mut reader, item);
        let default_health = match addresses {
            AddressSource::Static(_) => HealthCheck::Tcp,
            AddressSource::Name(_) | AddressSource::Apex => HealthCheck::Off,
        };
        let words = [("tcp", HealthCheck::Tcp), ("off", HealthCheck::Off)];
        let health = reader.required_text("health", |text| values::one_of(text, &words)).unwrap_or(default_health);
        let port = reader.port("port").unwrap_or(443);
        let vpce_id = vpce_id.map(|id| id.value);
        endpoints.push(EndpointConfig { region, vpce_id, addresses, private_api_ids, health, port });
    }
    endpoints
}

/// `addresses` or `dns_name`; with neither, the apex of the zone.
fn addresses(reader: &mut Reader<'_>, item: &Item) -> AddressSource {
    let addresses = values_of(&reader.list("addresses", values::address));
    let name = reader.text("dns_name", values::host_name);
    if let Some(name) = &name
        && !reader.is_empty("addresses")
    {
        let reason =
            Reason::new("addresses and dns_name exclude each other", "remove one of them from this [[endpoint]]");
        reader.problems.push(name.problem(reason));
    }
    match name {
        Some(name) => AddressSource::Name(name.value),
        None if item.keys.contains_key("addresses") && !addresses.is_empty() => AddressSource::Static(addresses),
        None => AddressSource::Apex,
    }
}

/// A kind of source.
struct Kind {
    name: &'static str,
    /// The key it cannot do without.
    needs: Option<&'static str>,
    /// The others that only it takes.
    takes: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind { name: "file", needs: Some("path"), takes: &[] },
    Kind { name: "url", needs: Some("url"), takes: &["headers"] },
    Kind { name: "api-gateway", needs: None, takes: &["region", "endpoint_url"] },
    Kind { name: "learned", needs: None, takes: &[] },
];

/// What frames a request or its connection (RFC 9110 section 7.6.1): said twice, a server would wait for a body that never
/// comes. Host is the operator's to choose, as where a server is asked by its address.
const OF_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn sources(
    document: &Document,
    problems: &mut Vec<Problem>,
    any_region: bool,
    facts: &mut Facts,
) -> Vec<SourceConfig> {
    let mut sources = Vec::new();
    for item in document.items("discovery") {
        if let Some(source) = source(item, problems, any_region) {
            let (place, shown) = (item.place.clone(), "[[discovery]]".to_owned());
            facts.sources.push(Located { value: source.kind.clone(), place, shown });
            sources.push(source);
        }
    }
    sources
}

fn source(item: &Item, problems: &mut Vec<Problem>, any_region: bool) -> Option<SourceConfig> {
    let mut reader = Reader { keys: &item.keys, problems };
    let interval = reader.duration("interval", "1s", "1d").unwrap_or(DEFAULT_INTERVAL);
    if !item.keys.contains_key("kind") {
        let fix = "add kind = \"file\", \"url\", \"api-gateway\" or \"learned\"";
        reader.problems.push(missing(item, "discovery", "kind", fix));
        return None;
    }
    let words: Vec<(&str, &Kind)> = KINDS.iter().map(|kind| (kind.name, kind)).collect();
    let &Kind { name: kind, needs, .. } = reader.required_text("kind", |text| values::one_of(text, &words))?;
    foreign_keys(&mut reader, item, kind);
    if let Some(key) = needs.filter(|key| reader.is_empty(key)) {
        let fix = format!("add {key} = \"...\"");
        reader.problems.push(missing(item, &format!("discovery of kind {}", quoted(kind)), key, &fix));
    }
    let required = required(&mut reader, kind == "learned");
    let kind = match kind {
        "file" => SourceKind::File { path: reader.path("path").map(|path| path.value)? },
        "url" => SourceKind::Url { url: reader.text("url", values::url)?.value, headers: headers(&mut reader) },
        "api-gateway" => SourceKind::ApiGateway {
            region: reader.text("region", |text| values::region(text, any_region)).map(|region| region.value),
            endpoint_url: reader.text("endpoint_url", values::url).map(|url| url.value),
        },
        _ => SourceKind::Learned,
    };
    Some(SourceConfig { kind, interval, required })
}

/// Keys that belong to other kinds: a `path` beside a `url` would be silently without effect.
fn foreign_keys(reader: &mut Reader<'_>, item: &Item, kind: &str) {
    for &Kind { name: owner, needs, takes } in KINDS.iter().filter(|other| other.name != kind) {
        for name in needs.iter().chain(takes) {
            if let Some(node) = item.keys.get(name) {
                let rule = format!("a source of kind {} has no such key", quoted(kind));
                let reason = Reason::new(rule, format!("remove {name}, or write kind = {}", quoted(owner)));
                reader.problems.push(Problem::new(&node.place, *name, reason));
            }
        }
    }
}

/// What public DNS teaches comes name by name: there is no first list to wait for.
fn required(reader: &mut Reader<'_>, learned: bool) -> bool {
    let required = reader.keys.get("required").map(|node| (node.value == Value::Boolean(true), &node.place));
    match required {
        Some((true, place)) if learned => {
            let reason = Reason::new("a source of kind \"learned\" has no list to wait for", "remove required");
            reader.problems.push(Problem::new(place, "required = true", reason));
            false
        }
        Some((required, _)) => required,
        None => !learned,
    }
}

fn headers(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in reader.table("headers").to_vec() {
        let rule = "a header has a name of letters, digits and dashes and a value of visible characters";
        let parsed = name.text.parse::<HeaderName>();
        if parsed.as_ref().is_ok_and(|name| OF_CONNECTION.contains(&name.as_str())) {
            let reason = Reason::new("this header is about the connection, which is ours", "remove it");
            reader.problems.push(Problem::new(&name.place, quoted(&name.text), reason));
        // A name that does not fit may be the value, in the wrong place.
        } else if parsed.is_err() {
            let reason = Reason::new(rule, "correct this header's name");
            reader.problems.push(Problem::new(&name.place, "\"***\"", reason));
        } else if value.text.parse::<HeaderValue>().is_err() {
            let reason = Reason::new(rule, format!("correct the value of {}", quoted(&name.text)));
            reader.problems.push(Problem::new(&value.place, value.shown(), reason));
        } else {
            headers.push((name.text, value.text));
        }
    }
    headers
}

/// The names and the servers of `[[upstream.zone]]`, position by position.
pub(super) fn zones(
    document: &Document,
    problems: &mut Vec<Problem>,
    facts: &mut Facts,
) -> (Vec<HostName>, Vec<Vec<Server>>) {
    let (mut names, mut groups) = (Vec::new(), Vec::new());
    for item in document.items("upstream.zone") {
        let mut reader = Reader { keys: &item.keys, problems: &mut *problems };
        if reader.is_empty("name") {
            reader.problems.push(missing(item, "upstream.zone", "name", "add name = \"corp.internal\" or the like"));
        }
        if reader.is_empty("servers") {
            reader.problems.push(missing(item, "upstream.zone", "servers", "add servers = [\"10.0.0.2\"] or the like"));
        }
        let name = reader.text("name", values::host_name);
        let servers = reader.list("servers", values::server);
        duplicate_servers("this [[upstream.zone]]", &servers, reader.problems);
        if let Some(name) = name {
            names.push(name.value);
            groups.push(values_of(&servers));
            facts.zones.push(name);
        }
        facts.servers.extend(servers);
    }
    (names, groups)
}

fn missing(item: &Item, table: &str, key: &str, fix: &str) -> Problem {
    Problem::new(&item.place, format!("[[{}]]", table_name(table)), Reason::new(format!("{table} needs {key}"), fix))
}

/// `discovery of kind "url"` stands in the file as `discovery`.
fn table_name(table: &str) -> &str {
    table.split(' ').next().unwrap_or(table)
}

fn text(item: &Item, key: &str) -> Option<Located<String>> {
    match &item.keys.get(key)?.value {
        Value::Text(entry) => Some(Located::new(entry.text.clone(), entry)),
        _ => None,
    }
}
