//! What the HTTPS forwarder has counted.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::family::{Family, counter, gauge, histogram};
use crate::forward::{Counters, Entrance};

pub(super) fn families(counters: &Counters) -> [Family; 5] {
    let totals = counters.journal.totals();
    let ended = counter(
        "sidegate_forward_connections_total",
        "Connections, tunnels and requests that have ended, by entrance and reason.",
    );
    let ended = totals.iter().fold(ended, |family, ((entrance, reason), total)| {
        family.with([("entrance", entrance.label()), ("reason", reason)], total.count)
    });
    let mut carried: BTreeMap<Entrance, (u64, u64)> = Entrance::ALL.map(|entrance| (entrance, (0, 0))).into();
    for ((entrance, _), total) in &totals {
        let (up, down) = carried.entry(*entrance).or_default();
        (*up, *down) = (*up + total.up, *down + total.down);
    }
    let bytes =
        counter("sidegate_forward_bytes_total", "Bytes of what has ended, from clients (up) and to them (down).");
    let bytes = carried.into_iter().fold(bytes, |family, (entrance, (up, down))| {
        let entrance = ("entrance", entrance.label());
        family.with([entrance, ("direction", "up")], up).with([entrance, ("direction", "down")], down)
    });
    let open = counters.open().fold(
        gauge("sidegate_forward_open_connections", "Connections of clients, and streams that count as one."),
        |family, (entrance, open)| family.with([("entrance", entrance.label())], open),
    );
    let connecting = histogram(
        "sidegate_forward_connect_duration_seconds",
        "Time from a request to its connection, look-ups included, by entrance and way.",
    );
    let connecting = counters.journal.connected().iter().fold(connecting, |family, ((entrance, way), read)| {
        family.with_durations([("entrance", entrance.label()), ("way", way)], read)
    });
    let bounds = &*counters.bounds;
    let drops = [("evicted", &bounds.evicted), ("not_permitted", &bounds.foreign), ("accept", &bounds.accept_errors)];
    let drops = drops.into_iter().fold(
        counter("sidegate_forward_drops_total", "Connections turned away or closed, by the bound they met."),
        |family, (reason, count)| family.with([("reason", reason)], count.load(Ordering::Relaxed)),
    );
    [ended, bytes, open, connecting, drops]
}
