//! `sidegate route NAME`: the decision, the rule, who said so, and where the name leads. NAME may be a URL, or an id alone.

use std::io::Write;

use serde_json::Value;

use crate::app::{self, RouteReport, Surroundings};
use crate::config::Config;
use crate::dns::upstream::Server;
use crate::policy::{HostName, Table, Upstream, Zone};

/// What somebody asks about, as they have it at hand.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    host: HostName,
    /// More than a name was given: the path or the query of a URL may hold a secret, and is not repeated.
    is_cut_out: bool,
    /// One label that could be an API's, and no dot behind it.
    is_id: bool,
}

impl Asked {
    /// The name, the host of a URL, or an id, just as the admin page reads what is typed there.
    ///
    /// # Errors
    /// What is left after all else was taken off is no name.
    pub(super) fn of(text: &str) -> anyhow::Result<Self> {
        let given = text.trim();
        let is_scheme = |scheme: &str| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let rest = given.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).map_or(given, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        anyhow::ensure!(!host.starts_with('['), "{host}: an address is not routed by its name: write a host name");
        let is_port = |port: &str| port.bytes().all(|octet| octet.is_ascii_digit());
        let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
        let is_id = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        let host = name.parse().map_err(|error| anyhow::anyhow!("{name:?}: {error}"))?;
        Ok(Self { host, is_cut_out: name != given, is_id })
    }

    /// The names that are meant, each with what is to be said of that.
    fn names(&self, table: &Table) -> Vec<(HostName, Option<String>)> {
        if self.is_id {
            let in_zone = |zone: &Zone| {
                let note = format!("an id alone stands for its name in each zone of ours, here in {}", zone.name);
                Some((self.host.join(&zone.name)?, Some(note)))
            };
            let names: Vec<_> = table.zones().iter().filter_map(in_zone).collect();
            if !names.is_empty() {
                return names;
            }
        }
        vec![(self.host, self.is_cut_out.then(|| "the host of what was given; nothing else of it matters".to_owned()))]
    }
}

/// Prints which way a name goes under a configuration. Endpoints whose addresses come from DNS are looked up once.
pub(super) async fn route(
    config: &Config,
    surroundings: &Surroundings,
    asked: &Asked,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let (table, sources) = app::known(config, surroundings).await?;
    let upstreams = app::upstreams(config, surroundings).await;
    let servers = |upstream| {
        let servers: &[Server] = match upstream {
            Upstream::Public => &upstreams.public,
            Upstream::Vpc => &upstreams.vpc,
            Upstream::Zone(position) => upstreams.zones.get(position).map_or(&[], Vec::as_slice),
        };
        servers.iter().map(ToString::to_string).collect()
    };
    for (position, (name, note)) in asked.names(&table).into_iter().enumerate() {
        let mut report = RouteReport::new(&name, &table, &sources, servers);
        report.notes.splice(..0, note);
        if json {
            writeln!(out, "{:#}", report.json())?;
        } else {
            if position > 0 {
                writeln!(out)?;
            }
            print(&report, out)?;
        }
    }
    Ok(true)
}

fn print(report: &RouteReport, out: &mut impl Write) -> std::io::Result<()> {
    let addresses: Vec<String> = report.addresses.iter().map(ToString::to_string).collect();
    let to = report.endpoint.clone().or_else(|| report.upstream.as_ref().map(|group| format!("upstream {group}")));
    writeln!(out, "name       {}", report.name)?;
    let unless = if report.learnable { ", unless public DNS does not know it: then endpoint" } else { "" };
    writeln!(out, "decision   {}{unless}", report.decision)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_what_people_paste() {
        let name = "a1.execute-api.us-east-1.amazonaws.com";
        for (given, host, is_cut_out, is_id) in [
            (name.to_owned(), name, false, false),
            (format!("https://{name}/prod/x?token=hush@b.example#c"), name, true, false),
            (format!("HTTPS://user:word@{name}:443"), name, true, false),
            (format!("{name}:8443/prod"), name, true, false),
            ("a1b2c3d4e5".to_owned(), "a1b2c3d4e5", false, true),
            ("a1-vpce-0123456789abcdef0".to_owned(), "a1-vpce-0123456789abcdef0", false, true),
            // As resolvers have it: a whole name.
            ("db.".to_owned(), "db", false, false),
        ] {
            let asked = Asked { host: host.parse().unwrap(), is_cut_out, is_id };
            assert_eq!(Asked::of(&given).unwrap(), asked, "{given}");
        }
        for wrong in ["", "https://", "https:///x?hush", "a..b/hush", "https://[::1]:443/hush", "a:hush2/x"] {
            let error = Asked::of(wrong).unwrap_err().to_string();
            assert!(error.contains("name") && !error.contains("hush/"), "{wrong}: {error}");
        }
    }
}
