//! `/metrics`: every counter of the process in the Prometheus text format 0.0.4. METRICS.md names each of them.
//!
//! Nothing here counts: the planes and discovery do, and are read at each scrape.
//!
//! - `family`: one metric and its series
//! - `dns`, `forward`, `discovery`: what each part has counted
//! - `process`: what the system says of the process

mod discovery;
mod dns;
mod family;
mod forward;
mod process;

use std::sync::Arc;
use std::time::SystemTime;

use prometheus::TextEncoder;

use self::family::{Family, counter, gauge};
use super::known::Known;
use crate::admin::State;

/// Writes all of them, under whatever configuration is in force.
pub(super) fn text(known: &Known) -> String {
    let service = Arc::clone(&known.dns.borrow());
    let sources = Arc::clone(&known.discovery.borrow());
    let families = own(known)
        .into_iter()
        .chain(dns::families(&service))
        .chain(forward::families(&known.forwarder))
        .chain(discovery::families(&sources, SystemTime::now()))
        .chain(process::families(known.started_at));
    // A metric without a series says nothing, and the encoder takes none.
    let families: Vec<_> = families.filter_map(Family::into_proto).collect();
    TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
        tracing::error!(%error, "metrics cannot be written");
        String::new()
    })
}

fn own(known: &Known) -> [Family; 6] {
    let (readiness, reloads, take_over) = (&known.readiness, &known.reloads, &known.take_over);
    let is_ready = readiness.state() == State::Ready;
    [
        gauge("sidegate_build_info", "Always 1; the version is a label.")
            .with([("version", env!("CARGO_PKG_VERSION"))], 1_u32),
        gauge("sidegate_ready", "1 while /ready says 200.").with([], u32::from(is_ready)),
        counter("sidegate_reloads_total", "Reloads by result: succeeded, or refused, which left all as it was.")
            .with([("result", "succeeded")], reloads.succeeded())
            .with([("result", "refused")], reloads.refused()),
        gauge("sidegate_resolv_conf_taken_over", "1 while resolv.conf is taken over, to lead to us.")
            .with([], u32::from(take_over.leads_to_us())),
        counter("sidegate_resolv_conf_writes_total", "Times resolv.conf was made to lead to us.")
            .with([], take_over.writes()),
        counter("sidegate_resolv_conf_foreign_rewrites_total", "Times another program changed it while it led to us.")
            .with([], take_over.foreign_rewrites()),
    ]
}
