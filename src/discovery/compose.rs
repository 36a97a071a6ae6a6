//! The table's parts, from the configuration and from the lists of all sources. Pure, but that it asks which networks
//! this host is in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::config::{AddressSource, Config, EndpointConfig};
use super::list::List;
use crate::interfaces;
use crate::policy::{
    Addresses, Binding, Endpoint, EndpointIndex, Knowledge, Names, Origin, PrivateIds, Region, Table, TableError,
};

/// A table that knows what the configuration says, and `addresses` of the endpoints.
pub(super) fn table(config: &Config, addresses: impl Fn(&EndpointConfig) -> Addresses) -> Result<Table, TableError> {
    let endpoints = config.endpoints.iter().map(|endpoint| Endpoint {
        region: region_of(endpoint, config).clone(),
        vpce_id: endpoint.vpce_id.clone(),
        addresses: addresses(endpoint),
        port: endpoint.port,
    });
    let mut table = Table::new(endpoints.collect(), Arc::new(names(config)), config.dns_suffix.as_ref())?;
    table.ids = Arc::new(ids(config, &[]));
    Ok(table)
}

/// Static addresses, nearest first; `None` where they come from DNS.
pub(super) fn static_addresses(endpoint: &EndpointConfig) -> Option<Addresses> {
    match &endpoint.addresses {
        AddressSource::Static(addresses) => Some(nearest_first(addresses.iter().copied(), &[])),
        AddressSource::Name(_) | AddressSource::Apex => None,
    }
}

/// Sorts addresses by family, those in a network of this host first, then those of `zonal`; both are near.
pub(super) fn nearest_first(addresses: impl Iterator<Item = IpAddr>, zonal: &[IpAddr]) -> Addresses {
    let networks = interfaces::networks();
    let is_in_subnet = |address: &IpAddr| networks.iter().any(|(_, network)| network.contains(*address));
    let (in_subnet, others): (Vec<_>, Vec<_>) = addresses.partition(is_in_subnet);
    let (in_zone, far): (Vec<_>, Vec<_>) = others.into_iter().partition(|address| zonal.contains(address));
    let mut sorted = Addresses::default();
    for (addresses, is_near) in [(in_subnet, true), (in_zone, true), (far, false)] {
        for address in addresses {
            match address {
                IpAddr::V4(v4) => sorted.v4.push(v4),
                IpAddr::V6(v6) => sorted.v6.push(v6),
            }
        }
        if is_near {
            (sorted.near_v4, sorted.near_v6) = (sorted.v4.len(), sorted.v6.len());
        }
    }
    sorted
}

fn names(config: &Config) -> Names {
    let index_of = |id| config.endpoints.iter().position(|endpoint| endpoint.vpce_id.as_ref() == Some(id));
    let private_names: HashMap<_, _> =
        config.private_names.iter().filter_map(|(name, id)| Some((*name, EndpointIndex(index_of(id)?)))).collect();
    Names {
        always_public_ids: config.always_public_ids.iter().cloned().collect(),
        always_public_names: config.always_public_names.iter().copied().collect(),
        private_names,
        forward_zones: config.forward_zones.iter().enumerate().map(|(position, zone)| (*zone, position)).collect(),
        default_upstream: config.default_upstream,
        whole_vpc: config.whole_vpc,
        learn: config.learns(),
    }
}

/// Ids bound to one endpoint first, as they say more than the list for all; then the lists of the sources, each by the
/// name it goes by in logs, in the order of the configuration.
pub(super) fn ids(config: &Config, lists: &[(Arc<str>, Arc<List>)]) -> PrivateIds {
    let of_config = config.endpoints.iter().map(|endpoint| endpoint.private_api_ids.len()).sum::<usize>();
    let of_lists = lists.iter().map(|(_, list)| list.len()).sum::<usize>();
    let mut ids = PrivateIds::with_capacity(of_config + config.private_api_ids.len() + of_lists);
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let region = Some(region_of(endpoint, config));
        for id in &endpoint.private_api_ids {
            let binding = Some(Binding::Index(EndpointIndex(index)));
            ids.add(id, Knowledge { region, binding, ..Knowledge::of(&Origin::Endpoint) });
        }
    }
    for id in &config.private_api_ids {
        ids.add(id, Knowledge::of(&Origin::Static));
    }
    for (label, list) in lists {
        let origin = Origin::Source(Arc::clone(label));
        for entry in list.entries() {
            let bound = entry.vpc_endpoint_ids.as_slice();
            let binding = (!bound.is_empty()).then_some(Binding::Ids(bound));
            ids.add(
                &entry.id,
                Knowledge { region: entry.region.as_ref(), binding, origin: &origin, since: entry.since },
            );
        }
    }
    ids
}

fn region_of<'c>(endpoint: &'c EndpointConfig, config: &'c Config) -> &'c Region {
    endpoint.region.as_ref().unwrap_or(&config.region)
}
