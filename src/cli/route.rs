//! `sidegate route NAME`: the decision, the rule, who said so, and where the name leads.

use std::io::Write;

use serde_json::Value;

use crate::app::{self, RouteReport, Surroundings};
use crate::config::Config;
use crate::dns::upstream::Server;
use crate::policy::{HostName, Upstream};

/// Prints which way a name goes under a configuration. Endpoints whose addresses come from DNS are looked up once.
pub(super) async fn route(
    config: &Config,
    surroundings: &Surroundings,
    name: &HostName,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let (table, sources) = app::known(config, surroundings).await?;
    let upstreams = app::upstreams(config, surroundings).await;
    let report = RouteReport::new(name, &table, &sources, |upstream| {
        let servers: &[Server] = match upstream {
            Upstream::Public => &upstreams.public,
            Upstream::Vpc => &upstreams.vpc,
            Upstream::Zone(position) => upstreams.zones.get(position).map_or(&[], Vec::as_slice),
        };
        servers.iter().map(ToString::to_string).collect()
    });
    if json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        print(&report, out)?;
    }
    Ok(true)
}

fn print(report: &RouteReport, out: &mut impl Write) -> std::io::Result<()> {
    let addresses: Vec<String> = report.addresses.iter().map(ToString::to_string).collect();
    let to = report.endpoint.clone().or_else(|| report.upstream.as_ref().map(|group| format!("upstream {group}")));
    writeln!(out, "name       {}", report.name)?;
    writeln!(out, "decision   {}", report.decision)?;
    writeln!(out, "rule       {}, {}", report.rule, report.rule_text)?;
    for (label, value) in [
        ("origin", report.origin.clone()),
        ("to", to),
        ("addresses", (!addresses.is_empty()).then(|| addresses.join(", "))),
        ("servers", (!report.servers.is_empty()).then(|| report.servers.join(", "))),
    ] {
        if let Some(value) = value {
            writeln!(out, "{label:<10} {value}")?;
        }
    }
    // One statement without an age says no more than the origin.
    let tells = |said: &&Value| report.said.len() > 1 || said.get("since").is_some_and(Value::is_string);
    for said in report.said.iter().filter(tells) {
        let of = |key: &str| said.get(key).and_then(Value::as_str);
        let since = of("since").map(|since| format!(", since {since}")).unwrap_or_default();
        let region = of("region").map(|region| format!(", in {region}")).unwrap_or_default();
        writeln!(out, "said       by {}{region}{since}", of("origin").unwrap_or_default())?;
    }
    report.notes.iter().try_for_each(|note| writeln!(out, "note       {note}"))
}
