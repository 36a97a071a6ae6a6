//! Which way a name goes, in words: what `sidegate route` prints and `GET /route` answers.

use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Value, json};

use super::status::{rfc3339, said};
use crate::discovery::SourceStatus;
use crate::policy::{
    ApiId, Decision, Endpoint, HostName, Route, SpecialForm, Table, Upstream, route as decide, special_form,
};

/// The decision, the rule, who said so, and where the name leads.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteReport {
    pub name: String,
    pub decision: &'static str,
    pub rule: u8,
    pub rule_text: String,
    pub origin: Option<String>,
    pub endpoint: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub upstream: Option<String>,
    pub servers: Vec<String>,
    /// What each source says of the id.
    pub said: Vec<Value>,
    /// The decision is another if public DNS does not know the name.
    pub learnable: bool,
    pub notes: Vec<String>,
}

impl RouteReport {
    /// What this table and these sources say of a name. `servers` names the servers of an upstream group.
    pub fn new(
        name: &HostName,
        table: &Table,
        sources: &[SourceStatus],
        servers: impl FnOnce(Upstream) -> Vec<String>,
    ) -> Self {
        let decision = decide(table, name);
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
            learnable: false,
            notes: Vec::new(),
        };
        match decision.route {
            Route::Endpoint(endpoint) => report.describe_endpoint(endpoint),
            Route::NoSuchName => report.decision = "does not exist",
            Route::Upstream(upstream) => {
                report.describe_upstream(upstream, table);
                report.servers = servers(upstream);
            }
            Route::NotReady(not_ready) => {
                report.decision = "not ready";
                report.notes.push(not_ready.to_string());
            }
        }
        report.learnable = decision.learnable;
        if decision.learnable {
            report.notes.push(
                "if public DNS does not know it, it is taken for private and goes to the endpoint; /route of a running \
                 Sidegate says what that has learned"
                    .into(),
            );
        }
        if decision.zone.is_none() {
            report.notes.extend(special_form(name).map(|form| match form {
                SpecialForm::DualStack => "a dual-stack form, which is left alone".into(),
                SpecialForm::Fips => "a FIPS form, which is left alone".into(),
                SpecialForm::RegionWithoutEndpoint => "an API of a region without an [[endpoint]]".into(),
            }));
        }
        report.describe_knowledge(table, &decision, name, sources);
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

    fn describe_upstream(&mut self, upstream: Upstream, table: &Table) {
        self.decision = match upstream {
            Upstream::Public => "public",
            Upstream::Vpc => "vpc",
            Upstream::Zone(_) => "zone",
        };
        self.upstream = Some(group_name(table, upstream));
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
            self.said = said(table, &id);
        }
        for SourceStatus { label, snapshot, .. } in sources {
            let from_disk = if snapshot.from_disk { ", kept on disk" } else { "" };
            match (&snapshot.list, snapshot.as_of.map(rfc3339)) {
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

    /// The same as one JSON object.
    pub fn json(&self) -> Value {
        json!({
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
            "learnable": self.learnable,
            "notes": self.notes,
        })
    }
}

/// What an upstream group goes by.
pub(super) fn group_name(table: &Table, upstream: Upstream) -> String {
    match upstream {
        Upstream::Public => "public".to_owned(),
        Upstream::Vpc => "vpc".to_owned(),
        Upstream::Zone(position) => {
            let zone = table.names.forward_zones.iter().find(|(_, at)| **at == position);
            zone.map(|(name, _)| format!("zone {name}")).unwrap_or_default()
        }
    }
}
