//! `sidegate route NAME`: the decision, the rule, who said so, and where the name leads.

use std::io::Write;
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::app::{self, Surroundings};
use crate::config::Config;
use crate::discovery::SourceStatus;
use crate::dns::Upstreams;
use crate::policy::{
    ApiId, Decision, Endpoint, HostName, Route, SpecialForm, Table, Upstream, route as decide, special_form,
};

/// Prints which way a name goes under a configuration. Endpoints whose addresses come from DNS are looked up once.
pub(super) async fn route(
    config: &Config,
    surroundings: &Surroundings,
    name: &HostName,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let (table, sources) = app::known(config, surroundings).await?;
    let decision = decide(&table, name);
    let mut report = Report::new(name, &decision, config, &app::upstreams(config, surroundings));
    report.describe_knowledge(&table, &decision, name, &sources);
    if json {
        report.print_json(out)?;
    } else {
        report.print(out)?;
    }
    Ok(true)
}

/// What is printed, in words.
struct Report {
    name: String,
    decision: &'static str,
    rule: u8,
    rule_text: String,
    origin: Option<String>,
    endpoint: Option<String>,
    addresses: Vec<IpAddr>,
    upstream: Option<String>,
    servers: Vec<String>,
    /// What each source says of the id.
    said: Vec<Value>,
    notes: Vec<String>,
}

impl Report {
    fn new(name: &HostName, decision: &Decision<'_>, config: &Config, upstreams: &Upstreams) -> Self {
        let mut report = Self {
            name: name.to_string(),
            decision: "",
            rule: decision.rule as u8,
            rule_text: decision.rule.to_string(),
            origin: decision.origin.map(ToString::to_string),
            endpoint: None,
            addresses: Vec::new(),
            upstream: None,
            servers: Vec::new(),
            said: Vec::new(),
            notes: Vec::new(),
        };
        match decision.route {
            Route::Endpoint(endpoint) => report.describe_endpoint(endpoint),
            Route::NoSuchName => report.decision = "does not exist",
            Route::Upstream(upstream) => report.describe_upstream(upstream, config, upstreams),
            Route::NotReady(not_ready) => {
                report.decision = "not ready";
                report.notes.push(not_ready.to_string());
            }
        }
        if decision.learnable {
            report
                .notes
                .push("if public DNS does not know it, it is taken for private and goes to the endpoint".into());
        }
        if decision.zone.is_none() {
            report.notes.extend(special_form(name).map(|form| match form {
                SpecialForm::DualStack => "a dual-stack form, which is left alone".into(),
                SpecialForm::Fips => "a FIPS form, which is left alone".into(),
                SpecialForm::RegionWithoutEndpoint => "an API of a region without an [[endpoint]]".into(),
            }));
        }
        report
    }

    fn describe_endpoint(&mut self, endpoint: &Endpoint) {
        let addresses = &endpoint.addresses;
        self.decision = "endpoint";
        self.endpoint = Some(endpoint.label());
        self.addresses.extend(addresses.v4.iter().copied().map(IpAddr::V4));
        self.addresses.extend(addresses.v6.iter().copied().map(IpAddr::V6));
        self.notes.extend(addresses.problem.clone());
    }

    fn describe_upstream(&mut self, upstream: Upstream, config: &Config, upstreams: &Upstreams) {
        let (decision, label, servers) = match upstream {
            Upstream::Public => ("public", "public".to_owned(), Some(&upstreams.public)),
            Upstream::Vpc => ("vpc", "vpc".to_owned(), Some(&upstreams.vpc)),
            Upstream::Zone(position) => {
                let zone = config.zones.get(position).map(|zone| format!("zone {zone}")).unwrap_or_default();
                ("zone", zone, upstreams.zones.get(position))
            }
        };
        self.decision = decision;
        self.upstream = Some(label);
        self.servers.extend(servers.into_iter().flatten().map(ToString::to_string));
    }

    /// Who says what of the id, how old their lists are, and which sources could not be read.
    fn describe_knowledge(
        &mut self,
        table: &Table,
        decision: &Decision<'_>,
        name: &HostName,
        sources: &[SourceStatus],
    ) {
        if decision.zone.is_some()
            && let Some(id) = name.labels().next().and_then(|label| ApiId::from_str(str::from_utf8(label).ok()?).ok())
        {
            self.said = app::said(table, &id);
        }
        for SourceStatus { label, snapshot, .. } in sources {
            let from_disk = if snapshot.from_disk { ", kept on disk" } else { "" };
            match (&snapshot.list, snapshot.as_of.map(app::rfc3339)) {
                (Some(list), Some(as_of)) => {
                    self.notes.push(format!("{label}: {} ids as of {as_of}{from_disk}", list.len()));
                }
                _ => self.notes.push(format!("{label}: no list")),
            }
            let is_news = |error: &&String| !self.notes.iter().any(|note| note.contains(error.as_str()));
            let error = snapshot.error.as_ref().filter(is_news).map(|error| format!("{label}: {error}"));
            self.notes.extend(error);
        }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let to = self.endpoint.clone().or_else(|| self.upstream.as_ref().map(|group| format!("upstream {group}")));
        writeln!(out, "name       {}", self.name)?;
        writeln!(out, "decision   {}", self.decision)?;
        writeln!(out, "rule       {}, {}", self.rule, self.rule_text)?;
        for (label, value) in [
            ("origin", self.origin.clone()),
            ("to", to),
            ("addresses", (!addresses.is_empty()).then(|| addresses.join(", "))),
            ("servers", (!self.servers.is_empty()).then(|| self.servers.join(", "))),
        ] {
            if let Some(value) = value {
                writeln!(out, "{label:<10} {value}")?;
            }
        }
        // One statement without an age says no more than the origin.
        let tells = |said: &&Value| self.said.len() > 1 || said.get("since").is_some_and(Value::is_string);
        for said in self.said.iter().filter(tells) {
            let of = |key: &str| said.get(key).and_then(Value::as_str);
            let since = of("since").map(|since| format!(", since {since}")).unwrap_or_default();
            let region = of("region").map(|region| format!(", in {region}")).unwrap_or_default();
            writeln!(out, "said       by {}{region}{since}", of("origin").unwrap_or_default())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "note       {note}"))
    }

    fn print_json(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let value = json!({
            "name": self.name,
            "decision": self.decision,
            "rule": self.rule,
            "rule_text": self.rule_text,
            "origin": self.origin,
            "endpoint": self.endpoint,
            "addresses": self.addresses,
            "upstream": self.upstream,
            "servers": self.servers,
            "said": self.said,
            "notes": self.notes,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
        Ok(())
    }
}
