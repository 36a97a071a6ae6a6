//! `/decisions`: what either plane decided last, as JSON.

use std::time::{Instant, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::dns;
use crate::forward;

/// The last of both planes, the newest first. Asking has more of them noted for a while.
pub(super) fn decisions(dns: &dns::Counters, forwarder: &forward::Counters) -> String {
    let now = Instant::now();
    let queries = dns.decided.look(now).into_iter().map(|(at, decided)| (at, query(&decided)));
    let connections = forwarder.journal.decided.look(now).into_iter().map(|(at, decided)| (at, connection(&decided)));
    let mut all: Vec<(SystemTime, Value)> = queries.chain(connections).collect();
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let timed = |(at, mut decision): (SystemTime, Value)| {
        decision["at"] = to_the_millisecond(at).into();
        decision
    };
    format!("{:#}\n", json!({ "decisions": all.into_iter().map(timed).collect::<Vec<_>>() }))
}

fn query(decided: &dns::Decided) -> Value {
    json!({
        "by": "dns",
        "name": decided.name.to_string(),
        "type": type_name(decided.qtype),
        "route": decided.way.label(),
        "rule": decided.rule.map(|rule| rule as u8),
        "result": dns::rcode_label(decided.rcode),
        "found": decided.found.label(),
    })
}

fn connection(decided: &forward::Decided) -> Value {
    json!({
        "by": decided.entrance.label(),
        "name": decided.destination.map(|destination| destination.to_string()),
        "type": null,
        "route": decided.route.map(|(route, _)| route),
        "rule": decided.route.map(|(_, rule)| rule),
        "result": decided.reason,
        "found": null,
    })
}

/// A record type by its name, or as RFC 3597 section 5 writes those without.
fn type_name(code: u16) -> String {
    match RecordType::from(code) {
        RecordType::Unknown(_) => format!("TYPE{code}"),
        known => known.to_string(),
    }
}

/// As in RFC 3339, in UTC.
fn to_the_millisecond(moment: SystemTime) -> String {
    let millis = DateTime::from(moment).to_millis().unwrap_or_default();
    DateTime::from_millis(millis).fmt(Format::DateTime).unwrap_or_default()
}
