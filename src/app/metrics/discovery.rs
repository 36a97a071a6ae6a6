//! What is known, how old it is, and how well addresses of endpoints do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::family::{Family, counter, gauge};
use crate::discovery::{Discovery, Held, SourceStatus, Standing};

/// Each standing of an address, with its label.
const STANDINGS: [(Standing, &str); 3] =
    [(Standing::Up, "up"), (Standing::Probation, "probation"), (Standing::Down, "down")];

pub(super) fn families(discovery: &Discovery, now: SystemTime) -> Vec<Family> {
    let mut families = sources(&discovery.sources(), now);
    families.extend(known(discovery));
    families.extend(endpoints(discovery));
    families
}

fn sources(sources: &[SourceStatus], now: SystemTime) -> Vec<Family> {
    let mut ids = gauge("sidegate_source_ids", "Ids in the list of each source.");
    let mut age = gauge("sidegate_source_age_seconds", "Time since each source last said what is in its list.");
    let mut reads = counter("sidegate_source_reads_total", "Reads of each source, by result.");
    let mut failing = gauge("sidegate_source_failing", "1 while the last read of a source has failed.");
    let mut held = gauge("sidegate_source_held_ids", "Ids that a source no longer gives and that stay for now.");
    let mut from_disk = gauge("sidegate_source_from_disk", "1 while a source goes by its last good list on disk.");
    for SourceStatus { label, snapshot, .. } in sources {
        let source = ("source", &**label);
        if let Some(list) = &snapshot.list {
            ids = ids.with([source], list.len());
        }
        if let Some(as_of) = snapshot.as_of {
            // A clock that was set back makes nothing older than now.
            age = age.with([source], now.duration_since(as_of).unwrap_or_default().as_secs_f64());
        }
        reads = reads.with([source, ("result", "read")], snapshot.reads);
        reads = reads.with([source, ("result", "failed")], snapshot.failures);
        failing = failing.with([source], u32::from(snapshot.error.is_some()));
        let (removals, everything) = match snapshot.held {
            Held::Nothing => (0, 0),
            Held::Removals(ids) => (ids, 0),
            Held::Everything(ids) => (0, ids),
        };
        held = held.with([source, ("kind", "removals")], removals).with([source, ("kind", "everything")], everything);
        from_disk = from_disk.with([source], u32::from(snapshot.from_disk));
    }
    vec![ids, age, reads, failing, held, from_disk]
}

fn known(discovery: &Discovery) -> [Family; 3] {
    let table = discovery.table().borrow().clone();
    [
        gauge("sidegate_private_ids", "Ids known to be private, from the configuration and all sources.")
            .with([], table.ids.len()),
        gauge("sidegate_learned_names", "Names learned from public DNS, held for a minute at most.")
            .with([], table.learned.len()),
        gauge("sidegate_list_missing", "1 while a required source has given no list: unknown ids are SERVFAIL.")
            .with([], u32::from(table.not_ready.is_some())),
    ]
}

fn endpoints(discovery: &Discovery) -> [Family; 3] {
    // Two endpoints of one region may have one name.
    let mut standing: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for endpoint in discovery.address_health() {
        for (of, label) in STANDINGS {
            let so_many = endpoint.addresses.iter().filter(|address| address.standing == of).count() as u64;
            *standing.entry((endpoint.label.clone(), label)).or_default() += so_many;
        }
    }
    let addresses = gauge("sidegate_endpoint_addresses", "Addresses of each endpoint, by how they stand.");
    let addresses = standing.iter().fold(addresses, |family, ((endpoint, standing), count)| {
        family.with([("endpoint", endpoint), ("standing", standing)], *count)
    });
    let counters = discovery.counters();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    [
        addresses,
        counter("sidegate_endpoint_health_changes_total", "Addresses of endpoints that went down or came up again.")
            .with([("to", "down")], read(&counters.went_down))
            .with([("to", "up")], read(&counters.came_up)),
        counter("sidegate_endpoint_probes_total", "Probes of endpoint addresses, by result.")
            .with([("result", "connected")], read(&counters.probes_connected))
            .with([("result", "failed")], read(&counters.probes_failed)),
    ]
}
