//! Who may go where: the destination rules, and the way the policy gives to what is permitted.
//!
//! Pure: the entrances call [`permit`] with what the client asked for, the dialer goes the [`Way`] it says.

use std::sync::Arc;

use super::config::{AllowedDestination, Others};
use super::destination::Destination;
use super::refusal::{Cause, Refusal};
use crate::policy::{ApiId, Decision, Endpoint, HostName, Route, Rule, Table, Upstream, Zone, route};

/// How a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entrance {
    Connect,
    Sni,
    Http,
}

impl Entrance {
    pub const ALL: [Entrance; 3] = [Entrance::Connect, Entrance::Sni, Entrance::Http];

    /// Its label in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Entrance::Connect => "connect",
            Entrance::Sni => "sni",
            Entrance::Http => "http",
        }
    }
}

/// What the configuration says about destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations {
    pub allow: Vec<AllowedDestination>,
    /// What CONNECT does with other names.
    pub others: Others,
}

/// A destination that may be dialled, and which way.
#[derive(Debug, Clone, PartialEq)]
pub struct Permit {
    pub destination: Destination,
    pub rule: Rule,
    pub way: Way,
    /// Whether it is a name that Sidegate exists for, rather than one that is allowed beside them.
    pub ours: bool,
    /// Whether addresses of the VPC may be dialled, or only those that the internet can reach.
    pub may_stay_inside: bool,
    /// Public DNS may say that the name does not exist, and that it is a private API by that.
    pub learnable: bool,
}

/// Which way a permitted destination goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// To a VPC endpoint, with the addresses known now.
    Endpoint(Arc<Endpoint>),
    /// To the addresses that this group of servers says.
    Upstream(Upstream),
}

impl Way {
    /// Its label in logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Way::Endpoint(_) => "endpoint",
            Way::Upstream(Upstream::Public) => "public",
            Way::Upstream(Upstream::Vpc) => "vpc",
            Way::Upstream(Upstream::Zone(_)) => "zone",
        }
    }

    /// Whether it leads where another leads: to the same endpoint, or outside. Addresses may have changed in between.
    fn is_as(&self, other: &Self) -> bool {
        match (self.endpoint(), other.endpoint()) {
            (Some(one), Some(other)) => one.region == other.region && one.vpce_id == other.vpce_id,
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The endpoint it leads to.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Way::Endpoint(endpoint) => Some(endpoint),
            Way::Upstream(_) => None,
        }
    }
}

/// Decides whether a destination may be dialled by way of this entrance.
///
/// # Errors
/// With what to change, or with why it cannot be told now.
pub fn permit(
    table: &Table,
    rules: &Destinations,
    entrance: Entrance,
    destination: Destination,
) -> Result<Permit, Refusal> {
    let decision = route(table, &destination.host);
    let ours = is_ours(&decision);
    let allowed = rules.allow.iter().any(|entry| entry.holds(&destination));
    let other = entrance == Entrance::Connect && rules.others == Others::Direct && destination.port == 443;
    if !(ours && destination.port == 443 || allowed || other) {
        return Err(not_allowed(rules, entrance, &destination, ours));
    }
    let way = way(&decision, &destination)?;
    let of_the_policy = decision.rule < Rule::ForwardZone;
    Ok(Permit {
        destination,
        rule: decision.rule,
        may_stay_inside: !of_the_policy && (other || way != Way::Upstream(Upstream::Public)),
        way,
        ours,
        learnable: decision.learnable,
    })
}

/// Whether a name is in our zones, or in `private_names`, or below one of those.
pub(super) fn is_ours(decision: &Decision<'_>) -> bool {
    let listed_private = decision.rule == Rule::Listed && matches!(decision.route, Route::Endpoint(_));
    decision.zone.is_some() || listed_private || decision.rule == Rule::BelowPrivate
}

/// Checks that `x-apigw-api-id`, which overrules the Host header at the far side, leads the same way as the name (T14).
///
/// # Errors
/// Where the id goes another way, or is none.
pub fn permit_api_id(table: &Table, permit: &Permit, value: &[u8]) -> Result<(), Refusal> {
    let refuse = |words: String| Err(Refusal::new(Cause::Mismatch, words));
    let Some(id) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<ApiId>().ok()) else {
        return refuse("x-apigw-api-id holds no API id: letters and digits only".to_owned());
    };
    let host = &permit.destination.host;
    let concerned = |zone: &&Zone| match (table.zone_of(host), &permit.way) {
        (Some(own), _) => *own == **zone,
        (None, Way::Endpoint(endpoint)) => endpoint.region == zone.region,
        (None, Way::Upstream(_)) => true,
    };
    for zone in table.zones().iter().filter(concerned) {
        let Some(name) = id.as_str().parse::<HostName>().ok().and_then(|label| label.join(&zone.name)) else {
            continue;
        };
        if !way(&route(table, &name), &Destination { host: name, port: 443 })?.is_as(&permit.way) {
            return refuse(format!(
                "x-apigw-api-id names {name}, which goes another way than {host}: call it by its name"
            ));
        }
    }
    Ok(())
}

fn way(decision: &Decision<'_>, destination: &Destination) -> Result<Way, Refusal> {
    match decision.route {
        Route::Endpoint(endpoint) if endpoint.addresses.is_empty() => {
            let problem = endpoint.addresses.problem.as_deref().unwrap_or("it was not looked up yet");
            Err(Refusal::new(Cause::NoAddress, format!("{} has no usable address: {problem}", endpoint.label())))
        }
        Route::Endpoint(endpoint) => Ok(Way::Endpoint(Arc::clone(endpoint))),
        Route::Upstream(upstream) => Ok(Way::Upstream(upstream)),
        Route::NoSuchName => {
            let words = format!("{} does not exist, being below a private name: correct the name", destination.host);
            Err(Refusal::new(Cause::NoSuchName, words))
        }
        Route::NotReady(not_ready) => Err(Refusal::new(Cause::NotReady, format!("not ready: {not_ready}"))),
    }
}

fn not_allowed(rules: &Destinations, entrance: Entrance, destination: &Destination, ours: bool) -> Refusal {
    let Destination { host, port } = destination;
    let words = if ours {
        format!("{destination}: APIs listen on port 443 only; for another port add \"{destination}\" to forward.allow")
    } else if entrance == Entrance::Connect && rules.others == Others::Direct {
        format!("{destination}: only port 443 is connected to; add \"{destination}\" to forward.allow")
    } else {
        let entry = if *port == 443 { host.to_string() } else { destination.to_string() };
        let direct = if entrance == Entrance::Connect { ", or set forward.others = \"direct\"" } else { "" };
        format!("{host} is no name of an API here: add \"{entry}\" to forward.allow{direct}")
    };
    Refusal::new(Cause::NotAllowed, words)
}

#[cfg(test)]
mod tests;
