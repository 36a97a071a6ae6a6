//! `/status`: all that is known and where from, as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde_json::{Map, Value, json};

use super::known::Known;
use super::route_report::group_name;
use crate::admin::State;
use crate::discovery::{EndpointHealth, HealthCheck, Held, SourceStatus, Standing};
use crate::dns::{self, Found, Way};
use crate::forward;
use crate::policy::{ApiId, Binding, Endpoint, Region, Table, Zone};

/// Ids listed one by one at most; the count is that of all.
const MAX_LISTED: usize = 1000;

/// The whole as one JSON object.
pub(super) fn status(known: &Known) -> String {
    let discovery = Arc::clone(&known.discovery.borrow());
    let service = Arc::clone(&known.dns.borrow());
    let table = discovery.table().borrow().clone();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": rfc3339(SystemTime::now()),
        "uptime_seconds": known.started.elapsed().as_secs(),
        "readiness": readiness(&known.readiness.state()),
        "sources": discovery.sources().iter().map(source).collect::<Vec<_>>(),
        "endpoints": table.endpoints().iter().zip(&discovery.address_health()).map(endpoint).collect::<Vec<_>>(),
        "zones": table.zones().iter().map(zone).collect::<Vec<_>>(),
        "ids": { "count": table.ids.len(), "listed": listed(&table), "listed_are_all": table.ids.len() <= MAX_LISTED },
        "learned": table.learned.len(),
        "not_ready": table.not_ready.as_ref().map(ToString::to_string),
        "upstreams": upstreams(&service.resolver, &table),
        "dns": dns_totals(&service),
        "forwarder": forwarder_totals(&known.forwarder),
        "resolv_conf": {
            "leads_to_us": known.take_over.leads_to_us(),
            "writes": known.take_over.writes(),
            "foreign_rewrites": known.take_over.foreign_rewrites(),
        },
        "reloads": { "succeeded": known.reloads.succeeded(), "refused": known.reloads.refused() },
    });
    format!("{status:#}\n")
}

fn readiness(state: &State) -> Value {
    match state {
        State::Ready => json!({ "state": "ready", "pending": [] }),
        State::Pending(pending) => json!({ "state": "pending", "pending": pending }),
        State::Draining => json!({ "state": "draining", "pending": [] }),
    }
}

fn zone(zone: &Zone) -> Value {
    json!({ "zone": zone.name.to_string(), "region": zone.region.as_str() })
}

/// Each server with its failures in a row and its smoothed time to an answer, if it ever gave one.
fn upstreams(resolver: &dns::Resolver, table: &Table) -> Vec<Value> {
    let states = resolver.upstreams().states().into_iter().map(|(group, server, failures, smoothed)| {
        json!({
            "group": group_name(table, group),
            "server": server,
            "failures": failures,
            "latency_ms": smoothed.map(|smoothed| smoothed.as_micros() as f64 / 1000.0),
        })
    });
    states.collect()
}

/// What was answered since the start, by route and code, and by where the answer was found.
fn dns_totals(service: &dns::Service) -> Value {
    let mut queries: BTreeMap<(Way, &str), u64> = BTreeMap::new();
    let mut found: BTreeMap<Found, u64> = Found::ALL.into_iter().map(|found| (found, 0)).collect();
    for total in service.counters.answered.totals() {
        *queries.entry((total.way, total.rcode)).or_default() += total.count;
        *found.entry(total.found).or_default() += total.count;
    }
    let queries = queries
        .into_iter()
        .map(|((way, rcode), count)| json!({ "route": way.label(), "rcode": rcode, "count": count }));
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (counters, (entries, bytes)) = (&service.counters, service.resolver.cache().usage());
    json!({
        "queries": queries.collect::<Vec<_>>(),
        "found": found.into_iter().map(|(found, count)| (found.label().to_owned(), count.into())).collect::<Map<_, _>>(),
        "cache": { "entries": entries, "bytes": bytes, "max_bytes": service.resolver.cache().max_bytes() },
        "in_flight": service.resolver.in_flight(),
        "connections": counters.connections.open(),
        "ignored": of(&counters.ignored),
        "shed": of(&counters.shed),
        "greedy": of(&counters.greedy),
        "looped": of(&counters.looped),
        "evicted": of(&counters.evicted),
        "accept_errors": of(&counters.accept_errors),
        "handshakes_failed": of(&counters.handshakes_failed),
        "taken_back": of(&counters.taken_back),
        "foreign": of(&counters.foreign),
    })
}

/// Connections, tunnels and requests by entrance: those that have ended, with bytes from and to clients; open ones.
fn forwarder_totals(counters: &forward::Counters) -> Value {
    let ended = counters.journal.totals().into_iter().map(|((entrance, reason), total)| {
        let (count, up, down) = (total.count, total.up, total.down);
        json!({ "entrance": entrance.label(), "reason": reason, "count": count, "up": up, "down": down })
    });
    let open = counters.open().map(|(entrance, open)| json!({ "entrance": entrance.label(), "connections": open }));
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let bounds = &counters.bounds;
    json!({
        "ended": ended.collect::<Vec<_>>(),
        "open": open.collect::<Vec<_>>(),
        "evicted": of(&bounds.evicted),
        "accept_errors": of(&bounds.accept_errors),
        "foreign": of(&bounds.foreign),
    })
}

fn source(source: &SourceStatus) -> Value {
    let snapshot = &source.snapshot;
    json!({
        "source": source.label,
        "required": source.required,
        "interval_seconds": source.interval.as_secs(),
        "ids": snapshot.list.as_ref().map(|list| list.len()),
        "as_of": snapshot.as_of.map(rfc3339),
        "from_disk": snapshot.from_disk,
        "error": snapshot.error,
        "reads": snapshot.reads,
        "failures": snapshot.failures,
        "held": match snapshot.held {
            Held::Nothing => Value::Null,
            Held::Removals(ids) => json!({ "removals": ids }),
            Held::Everything(ids) => json!({ "everything": ids }),
        },
    })
}

fn endpoint((endpoint, health): (&Arc<Endpoint>, &EndpointHealth)) -> Value {
    let addresses = health.addresses.iter().map(|address| {
        json!({
            "address": address.address,
            "near": address.is_near,
            "up": address.standing != Standing::Down,
            "standing": match address.standing {
                Standing::Up => "up",
                Standing::Probation => "on probation",
                Standing::Down => "down",
            },
            "for_seconds": address.since.map(|since| since.elapsed().as_secs()),
            "last_error": address.last_error,
        })
    });
    json!({
        "endpoint": health.label,
        "region": endpoint.region.as_str(),
        "port": health.port,
        "health": match health.check {
            HealthCheck::Tcp => "tcp",
            HealthCheck::Off => "off",
        },
        "addresses": addresses.collect::<Vec<_>>(),
        "all_down": health.is_all_down,
        "problem": health.problem,
    })
}

/// The first ids in their order, each with what every source says of it.
fn listed(table: &Table) -> Vec<Value> {
    let mut ids: Vec<&str> = table.ids.ids().collect();
    if ids.len() > MAX_LISTED {
        ids.select_nth_unstable(MAX_LISTED);
        ids.truncate(MAX_LISTED);
    }
    ids.sort_unstable();
    let ids = ids.into_iter().filter_map(|id| id.parse().ok());
    ids.map(|id: ApiId| json!({ "id": id.as_str(), "said": said(table, &id) })).collect()
}

/// Each statement about an id: who makes it, for which region and endpoints, since when.
pub(super) fn said(table: &Table, id: &ApiId) -> Vec<Value> {
    let said = table.ids.of(id).map(|statement| {
        let endpoints = match statement.binding {
            Some(Binding::Index(index)) => table.endpoints().get(index.0).map(|endpoint| vec![endpoint.label()]),
            Some(Binding::Ids(ids)) => Some(ids.iter().map(ToString::to_string).collect()),
            None => None,
        };
        json!({
            "origin": statement.origin.to_string(),
            "region": statement.region.map(Region::as_str),
            "endpoints": endpoints,
            "since": statement.since.map(rfc3339),
        })
    });
    said.collect()
}

/// A moment as in RFC 3339, to the second, in UTC.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    let whole = DateTime::from_secs(DateTime::from(moment).secs());
    whole.fmt(Format::DateTime).unwrap_or_default()
}
