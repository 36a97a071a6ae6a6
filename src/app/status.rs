//! `/status`: all that is known and where from, as JSON.

use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde_json::{Value, json};

use super::reloads;
use crate::discovery::{Discovery, EndpointHealth, HealthCheck, Held, SourceStatus, Standing};
use crate::policy::{ApiId, Binding, Endpoint, Region, Table};

/// Ids listed one by one at most; the count is that of all.
const MAX_LISTED: usize = 1000;

/// The whole as one JSON object.
pub(super) fn status(discovery: &Discovery, reloads: &reloads::Totals) -> String {
    let table = discovery.table().borrow().clone();
    let status = json!({
        "sources": discovery.sources().iter().map(source).collect::<Vec<_>>(),
        "endpoints": table.endpoints().iter().zip(&discovery.address_health()).map(endpoint).collect::<Vec<_>>(),
        "ids": { "count": table.ids.len(), "listed": listed(&table), "listed_are_all": table.ids.len() <= MAX_LISTED },
        "learned": table.learned.len(),
        "not_ready": table.not_ready.as_ref().map(ToString::to_string),
        "reloads": { "succeeded": reloads.succeeded(), "refused": reloads.refused() },
    });
    format!("{status:#}\n")
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

fn endpoint((endpoint, health): (&Endpoint, &EndpointHealth)) -> Value {
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
pub fn said(table: &Table, id: &ApiId) -> Vec<Value> {
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
pub fn rfc3339(moment: SystemTime) -> String {
    let whole = DateTime::from_secs(DateTime::from(moment).secs());
    whole.fmt(Format::DateTime).unwrap_or_default()
}
