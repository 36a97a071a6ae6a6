//! Everything known at one moment: the immutable table that [`super::route()`] reads.
//!
//! `discovery` builds one whenever an id or an address changes and publishes it whole; both planes only read. Parts that
//! seldom change sit behind `Arc`, so that a new table costs the same with ten ids and with a hundred thousand.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use super::{ApiId, ApiZones, HostName, Partition, PrivateIds, Region, Upstream, VpceId};

/// The position of an endpoint in [`Table::endpoints`], the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointIndex(pub usize);

/// An interface VPC endpoint for `execute-api`, with the addresses known for it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The region whose APIs it serves.
    pub region: Region,
    /// Its id, where the configuration names it: rule 3 and bindings need it.
    pub vpce_id: Option<VpceId>,
    /// Where it is.
    pub addresses: Addresses,
    /// The TCP port it listens on: 443 but in labs.
    pub port: u16,
}

impl Endpoint {
    /// How people tell it from others: its id, or the region it stands for.
    pub fn label(&self) -> String {
        match &self.vpce_id {
            Some(id) => id.to_string(),
            None => format!("the endpoint of {}", self.region),
        }
    }
}

/// The addresses of an endpoint; addresses in a subnet of this host come first in each family.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Addresses {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
    /// How many of `v4`, from the front, lie in a subnet of this host.
    pub near_v4: usize,
    /// How many of `v6`, from the front, lie in a subnet of this host.
    pub near_v6: usize,
    /// When the DNS answer they came from runs out; `None` for static addresses.
    pub fresh_until: Option<Instant>,
    /// Why there is none, or why these are old; in words for an operator.
    pub problem: Option<String>,
}

impl Addresses {
    /// Whether nothing can be answered from here.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether the configuration names them, rather than DNS.
    pub fn are_static(&self) -> bool {
        self.fresh_until.is_none()
    }
}

/// An `execute-api` zone whose region has an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// `execute-api.<region>.<dns-suffix>`.
    pub name: HostName,
    pub region: Region,
    /// The region's first endpoint.
    pub first: EndpointIndex,
}

/// What the configuration says of single names; fixed until the next reload.
#[derive(Debug, Default)]
pub struct Names {
    pub always_public_ids: HashSet<ApiId>,
    pub always_public_names: HashSet<HostName>,
    pub private_names: HashMap<HostName, EndpointIndex>,
    /// Zones with servers of their own, by position in the configuration.
    pub forward_zones: HashMap<HostName, usize>,
    /// Where rule 7 sends names: [`Upstream::Public`] or [`Upstream::Vpc`].
    pub default_upstream: Upstream,
    /// Whether the VPC's resolver sends names of API Gateway's zones to us. Rule 7 then sends all of these to
    /// [`Upstream::Public`]: asked of [`Upstream::Vpc`], they would come back.
    pub whole_vpc: bool,
    /// Whether ids that public DNS does not know are learned.
    pub learn: bool,
}

/// A required source that has produced nothing yet: unknown ids cannot be told from private ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The source by the name it goes by in logs.
    pub source: Arc<str>,
    /// What went wrong last, if anything did.
    pub last_error: Option<String>,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no list yet from {}", self.source)?;
        match &self.last_error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

/// Why endpoints and names do not make a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("region {0} belongs to no AWS partition: set policy.dns_suffix")]
    NoSuffix(Region),
    #[error("execute-api.{0}.{1} is longer than a DNS name may be: shorten policy.dns_suffix")]
    LongZone(Region, String),
}

/// The table. Build it with [`Table::new`], then set what differs from the defaults.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Shared, as each connection keeps the one it goes to.
    endpoints: Vec<Arc<Endpoint>>,
    zones: Vec<Zone>,
    api_zones: Arc<ApiZones>,
    pub names: Arc<Names>,
    pub ids: Arc<PrivateIds>,
    /// Names that public DNS answered NXDOMAIN lately; each lies directly in one of the zones.
    pub learned: Arc<HashSet<HostName>>,
    pub not_ready: Option<NotReady>,
    /// Counts changes of routes and addresses. What was computed under another number must be computed again.
    pub generation: u64,
}

impl Table {
    /// A table of these endpoints that knows no id yet. `dns_suffix` overrides the partitions' suffixes.
    ///
    /// # Errors
    /// A region without a suffix, or a zone name that would be too long.
    pub fn new(endpoints: Vec<Endpoint>, names: Arc<Names>, dns_suffix: Option<&HostName>) -> Result<Self, TableError> {
        let mut zones: Vec<Zone> = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            if zones.iter().all(|zone| zone.region != endpoint.region) {
                let name = Self::zone_name(&endpoint.region, dns_suffix)?;
                zones.push(Zone { name, region: endpoint.region.clone(), first: EndpointIndex(index) });
            }
        }
        let api_zones = Arc::new(ApiZones::of(&zones));
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        Ok(Self { endpoints, zones, api_zones, names, ..Self::default() })
    }

    /// `execute-api.<region>.<dns-suffix>`.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub fn zone_name(region: &Region, dns_suffix: Option<&HostName>) -> Result<HostName, TableError> {
        let suffix = match dns_suffix {
            Some(suffix) => *suffix,
            None => Partition::of(region.as_str())
                .and_then(|partition| partition.dns_suffix.parse().ok())
                .ok_or_else(|| TableError::NoSuffix(region.clone()))?,
        };
        format!("execute-api.{region}")
            .parse::<HostName>()
            .ok()
            .and_then(|zone| zone.join(&suffix))
            .ok_or_else(|| TableError::LongZone(region.clone(), suffix.to_string()))
    }

    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// All zones of API Gateway, with ours and those of every other region.
    pub fn api_zones(&self) -> &Arc<ApiZones> {
        &self.api_zones
    }

    /// Replaces what is known of an endpoint's addresses.
    pub fn set_addresses(&mut self, EndpointIndex(index): EndpointIndex, addresses: Addresses) {
        if let Some(endpoint) = self.endpoints.get_mut(index) {
            Arc::make_mut(endpoint).addresses = addresses;
        }
    }

    /// The zone a name is in, if any.
    #[inline]
    pub fn zone_of(&self, name: &HostName) -> Option<&Zone> {
        self.zones.iter().find(|zone| name.is_within(&zone.name))
    }

    /// The endpoint with this id in this region.
    pub(super) fn endpoint_with_id(&self, region: &Region, id: &[u8]) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| {
            endpoint.region == *region && endpoint.vpce_id.as_ref().is_some_and(|own| own.as_bytes() == id)
        })
    }
}
