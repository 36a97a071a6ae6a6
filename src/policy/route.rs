//! `route(table, host)`: the one decision both planes share.
//!
//! First match wins, rules 0 to 7 in the order of [`Rule`]. A look-up walks the labels of one name and asks hash maps;
//! what it costs does not depend on how many ids are known, and it allocates nothing.

use std::fmt;
use std::sync::Arc;

use super::private_ids::{Binding, Knowledge, Origin};
use super::table::{Endpoint, EndpointIndex, NotReady, Table, Zone};
use super::{ApiId, HostName, VpceId};

/// A group of servers outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Upstream {
    /// DNS as the internet sees it.
    #[default]
    Public,
    /// The resolver of the VPC.
    Vpc,
    /// The servers of an `[[upstream.zone]]`, by position in the configuration.
    Zone(usize),
}

/// Which way a name goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Route<'t> {
    /// To this VPC endpoint: we answer with its addresses, and connect to them.
    Endpoint(&'t Arc<Endpoint>),
    /// The name does not exist, whatever anybody else says.
    NoSuchName,
    /// To these servers for resolution.
    Upstream(Upstream),
    /// Cannot be told yet: a required list is missing, and this could be one of its ids.
    NotReady(&'t NotReady),
}

/// The rule that decided. The numbers are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// 0: listed by name in the configuration.
    Listed = 0,
    /// 1: the apex of a zone.
    Apex = 1,
    /// 2: an id known to be private.
    PrivateId = 2,
    /// 3: `<id>-<vpce-id>`.
    EndpointAlias = 3,
    /// 4: below a known private name.
    BelowPrivate = 4,
    /// 5: any other name in a zone.
    OtherInZone = 5,
    /// 6: under an `[[upstream.zone]]`.
    ForwardZone = 6,
    /// 7: everything else.
    Default = 7,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Listed => "listed by name in the configuration",
            Rule::Apex => "the apex of the zone",
            Rule::PrivateId => "an API id known to be private",
            Rule::EndpointAlias => "an API id with an endpoint id",
            Rule::BelowPrivate => "below a private name",
            Rule::OtherInZone => "any other name in the zone",
            Rule::ForwardZone => "under a zone with servers of its own",
            Rule::Default => "everything else",
        })
    }
}

/// A route and how it came about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision<'t> {
    pub route: Route<'t>,
    pub rule: Rule,
    /// The zone of ours the name is in.
    pub zone: Option<&'t Zone>,
    /// Who said so, where somebody did.
    pub origin: Option<&'t Origin>,
    /// If public DNS says that the name does not exist, it may be a private API ([`Origin::Learned`]).
    pub learnable: bool,
}

impl<'t> Decision<'t> {
    fn new(rule: Rule, zone: Option<&'t Zone>, route: Route<'t>) -> Self {
        Self { route, rule, zone, origin: None, learnable: false }
    }

    fn said_by(self, origin: &'t Origin) -> Self {
        Self { origin: Some(origin), ..self }
    }
}

/// Decides where a name goes. Total: every name has a route.
#[inline]
pub fn route<'t>(table: &'t Table, host: &HostName) -> Decision<'t> {
    if let Some(listed) = listed(table, host) {
        return listed;
    }
    for zone in table.zones() {
        if let Some(above) = host.above_zone(&zone.name) {
            return in_zone(table, zone, host, above);
        }
    }
    if is_below_private_name(table, host) {
        return Decision::new(Rule::BelowPrivate, None, Route::NoSuchName).said_by(&Origin::PrivateNames);
    }
    if !table.names.forward_zones.is_empty() {
        let longest = host.suffixes().find_map(|suffix| table.names.forward_zones.get(suffix));
        if let Some(&position) = longest {
            return Decision::new(Rule::ForwardZone, None, Route::Upstream(Upstream::Zone(position)));
        }
    }
    let comes_back = || table.names.whole_vpc && table.api_zones().hold(host);
    let upstream = match table.names.default_upstream {
        Upstream::Vpc if comes_back() => Upstream::Public,
        default => default,
    };
    Decision::new(Rule::Default, None, Route::Upstream(upstream))
}

/// Rule 0 for names; ids in `always_public` are seen in [`in_zone`].
fn listed<'t>(table: &'t Table, host: &HostName) -> Option<Decision<'t>> {
    let names = &table.names;
    if !names.always_public_names.is_empty() && names.always_public_names.contains(host) {
        let public = Decision::new(Rule::Listed, table.zone_of(host), Route::Upstream(Upstream::Public));
        return Some(public.said_by(&Origin::AlwaysPublic));
    }
    if names.private_names.is_empty() {
        return None;
    }
    let &EndpointIndex(index) = names.private_names.get(host)?;
    let endpoint = table.endpoints().get(index)?;
    Some(Decision::new(Rule::Listed, table.zone_of(host), Route::Endpoint(endpoint)).said_by(&Origin::PrivateNames))
}

/// Rules 1 to 5. `above` is what stands to the left of the zone, in wire form.
fn in_zone<'t>(table: &'t Table, zone: &'t Zone, host: &HostName, above: &[u8]) -> Decision<'t> {
    let Some((label, single)) = nearest_label(above) else {
        return match table.endpoints().get(zone.first.0) {
            Some(endpoint) => Decision::new(Rule::Apex, Some(zone), Route::Endpoint(endpoint)),
            None => Decision::new(Rule::OtherInZone, Some(zone), Route::Upstream(Upstream::Public)),
        };
    };
    let public = Decision::new(Rule::OtherInZone, Some(zone), Route::Upstream(Upstream::Public));

    if !table.names.always_public_ids.is_empty() && table.names.always_public_ids.contains(label) {
        let rule = if single { Rule::Listed } else { Rule::OtherInZone };
        return Decision { rule, ..public }.said_by(&Origin::AlwaysPublic);
    }
    if let Some((rule, endpoint, origin)) = known_private(table, zone, label) {
        let (rule, route) =
            if single { (rule, Route::Endpoint(endpoint)) } else { (Rule::BelowPrivate, Route::NoSuchName) };
        return Decision { origin, ..Decision::new(rule, Some(zone), route) };
    }
    if single && VpceId::split_alias(label).is_some() {
        return Decision { rule: Rule::EndpointAlias, ..public };
    }
    if is_below_private_name(table, host) {
        return Decision::new(Rule::BelowPrivate, Some(zone), Route::NoSuchName).said_by(&Origin::PrivateNames);
    }
    if !ApiId::fits(label) {
        return public;
    }
    match &table.not_ready {
        Some(not_ready) => Decision { route: Route::NotReady(not_ready), ..public },
        None => Decision { learnable: single && table.names.learn, ..public },
    }
}

/// Rules 2 and 3: the endpoint that serves the name `<label>.<zone>`, if it is known to be private.
fn known_private<'t>(
    table: &'t Table,
    zone: &'t Zone,
    label: &[u8],
) -> Option<(Rule, &'t Arc<Endpoint>, Option<&'t Origin>)> {
    let mut fitting = table.ids.of_label(label).filter(|said| said.region.is_none_or(|region| *region == zone.region));
    if let Some(first) = fitting.next() {
        // Who knows an id first need not know its endpoint.
        let bound = std::iter::once(first).chain(fitting).find_map(|said| bound_endpoint(table, zone, said));
        let endpoint = bound.or_else(|| table.endpoints().get(zone.first.0))?;
        return Some((Rule::PrivateId, endpoint, Some(first.origin)));
    }
    if !table.learned.is_empty() && ApiId::fits(label) {
        let name = HostName::below(label, &zone.name)?;
        if table.learned.contains(&name) {
            return Some((Rule::PrivateId, table.endpoints().get(zone.first.0)?, Some(&Origin::Learned)));
        }
    }
    let (_, vpce_id) = VpceId::split_alias(label)?;
    Some((Rule::EndpointAlias, table.endpoint_with_id(&zone.region, vpce_id)?, None))
}

/// The endpoint a statement binds its id to; bindings to endpoints of other regions are passed over.
fn bound_endpoint<'t>(table: &'t Table, zone: &Zone, statement: Knowledge<'_>) -> Option<&'t Arc<Endpoint>> {
    match statement.binding? {
        Binding::Index(EndpointIndex(index)) => table.endpoints().get(index).filter(|e| e.region == zone.region),
        Binding::Ids(ids) => ids.iter().find_map(|id| table.endpoint_with_id(&zone.region, id.as_bytes())),
    }
}

/// The label next to the zone, and whether it is the only one.
fn nearest_label(above: &[u8]) -> Option<(&[u8], bool)> {
    let mut at = 0;
    loop {
        let length = *above.get(at)? as usize;
        let next = at + 1 + length;
        if next >= above.len() {
            return Some((above.get(at + 1..next)?, at == 0));
        }
        at = next;
    }
}

fn is_below_private_name(table: &Table, host: &HostName) -> bool {
    let listed = &table.names.private_names;
    !listed.is_empty() && host.suffixes().skip(1).any(|parent| listed.contains_key(parent))
}

#[cfg(test)]
mod tests;
