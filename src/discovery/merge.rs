//! All that is known, merged into one table.
//!
//! Sources call the methods of [`Discovery`]; each call that changes anything publishes a new table with a new
//! generation. Both planes hold the receiving end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::config::{AddressSource, Config, EndpointConfig, SourceConfig, SourceKind};
use super::learned::Learned;
use crate::interfaces;
use crate::policy::{
    Addresses, Binding, Endpoint, EndpointIndex, HostName, Knowledge, Names, NotReady, Origin, PrivateIds, Region,
    Table, TableError,
};

/// What is known, and the table made from it.
#[derive(Debug)]
pub struct Discovery {
    state: Mutex<State>,
    table: watch::Sender<Arc<Table>>,
    /// Something is held that will have to be forgotten.
    learned_something: Notify,
}

#[derive(Debug)]
struct State {
    config: Config,
    learned: Learned,
}

impl Discovery {
    /// Builds the first table: everything static is in it, addresses that come from DNS are still missing.
    ///
    /// # Errors
    /// An endpoint whose region has no DNS suffix.
    pub fn new(config: Config) -> Result<Self, TableError> {
        let table = build(&config, |endpoint| static_addresses(endpoint).unwrap_or_default())?;
        Ok(Self::of(config, table))
    }

    /// The table, now and whenever it changes.
    pub fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the table with a change; what was computed under the one before it is void.
    fn publish(&self, change: impl FnOnce(&mut Table)) {
        self.table.send_modify(|table| {
            let mut next = Table::clone(table);
            change(&mut next);
            next.generation = next_generation();
            *table = Arc::new(next);
        });
    }

    /// The required sources that have no list yet, by the names they go by in logs.
    pub fn missing_lists(&self) -> Vec<String> {
        missing_lists(&self.state().config).collect()
    }

    /// What takes this one's place under another configuration. Addresses of endpoints that stay are known to it until
    /// they are looked up anew; what was learned is forgotten.
    ///
    /// # Errors
    /// As [`Discovery::new`].
    pub fn successor(&self, config: Config) -> Result<Self, TableError> {
        let state = self.state();
        let current = Arc::clone(&self.table.borrow());
        // An endpoint that names no region, or asks for the apex, is another one under another region or suffix.
        let same_zones = state.config.region == config.region && state.config.dns_suffix == config.dns_suffix;
        let known = |endpoint: &EndpointConfig| {
            let position = state.config.endpoints.iter().position(|was| same_zones && was == endpoint)?;
            Some(current.endpoints().get(position)?.addresses.clone())
        };
        let table =
            build(&config, |endpoint| static_addresses(endpoint).or_else(|| known(endpoint)).unwrap_or_default())?;
        Ok(Self::of(config, table))
    }

    fn of(config: Config, mut table: Table) -> Self {
        table.generation = next_generation();
        Self {
            state: Mutex::new(State { config, learned: Learned::default() }),
            table: watch::Sender::new(Arc::new(table)),
            learned_something: Notify::new(),
        }
    }

    /// Sets what was found for an endpoint. A TTL that starts anew changes no route.
    pub(super) fn set_addresses(&self, index: EndpointIndex, addresses: Addresses) {
        let current = Arc::clone(&self.table.borrow());
        let Some(endpoint) = current.endpoints().get(index.0) else { return };
        let same = Addresses { fresh_until: addresses.fresh_until, ..endpoint.addresses.clone() } == addresses;
        if same {
            self.table.send_modify(|table| {
                let mut next = Table::clone(table);
                next.set_addresses(index, addresses);
                *table = Arc::new(next);
            });
        } else {
            self.publish(|table| table.set_addresses(index, addresses));
        }
    }

    /// Public DNS says that a name does not exist which could be a private API's.
    pub fn learn(&self, name: &HostName) {
        let mut state = self.state();
        if state.learned.add(*name, Instant::now()) {
            let names = Arc::new(state.learned.names());
            self.publish(|table| table.learned = names);
            self.learned_something.notify_one();
        }
    }

    /// Public DNS knows a name that may have been learned.
    pub fn unlearn(&self, name: &HostName) {
        let mut state = self.state();
        if state.learned.remove(name) {
            let names = Arc::new(state.learned.names());
            self.publish(|table| table.learned = names);
        }
    }

    /// Forgets learned names when their time is over. Never returns.
    pub async fn expire_learned(&self) {
        loop {
            let next = self.state().learned.next_expiry();
            match next {
                None => self.learned_something.notified().await,
                Some(next) => tokio::time::sleep_until(next.into()).await,
            }
            let mut state = self.state();
            if state.learned.expire(Instant::now()) {
                let names = Arc::new(state.learned.names());
                self.publish(|table| table.learned = names);
            }
        }
    }

    /// The endpoints whose addresses come from DNS: position, and the name to ask for.
    pub(super) fn names_to_look_up(&self) -> Vec<(EndpointIndex, HostName, bool)> {
        let state = self.state();
        let table = self.table.borrow();
        let apex_of = |region: &Region| table.zones().iter().find(|zone| zone.region == *region).map(|zone| zone.name);
        let endpoints = state.config.endpoints.iter().zip(table.endpoints()).enumerate();
        endpoints
            .filter_map(|(index, (config, endpoint))| match &config.addresses {
                AddressSource::Static(_) => None,
                AddressSource::Name(name) => Some((EndpointIndex(index), *name, false)),
                AddressSource::Apex => Some((EndpointIndex(index), apex_of(&endpoint.region)?, true)),
            })
            .collect()
    }
}

/// Generations are never used twice in a process, so that what one table's answers are cached under is not mistaken for
/// another's.
fn next_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Static addresses, nearest first; `None` where they come from DNS.
fn static_addresses(endpoint: &EndpointConfig) -> Option<Addresses> {
    match &endpoint.addresses {
        AddressSource::Static(addresses) => Some(nearest_first(addresses.iter().copied())),
        AddressSource::Name(_) | AddressSource::Apex => None,
    }
}

/// Sorts addresses by family, those in a network of this host first.
pub(super) fn nearest_first(addresses: impl Iterator<Item = IpAddr>) -> Addresses {
    let networks = interfaces::networks();
    let is_near = |address: &IpAddr| networks.iter().any(|(_, network)| network.contains(*address));
    let (near, far): (Vec<_>, Vec<_>) = addresses.partition(is_near);
    let mut sorted = Addresses::default();
    for (addresses, is_near) in [(near, true), (far, false)] {
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

fn build(config: &Config, addresses: impl Fn(&EndpointConfig) -> Addresses) -> Result<Table, TableError> {
    let endpoints = config.endpoints.iter().map(|endpoint| Endpoint {
        region: endpoint.region.clone().unwrap_or_else(|| config.region.clone()),
        vpce_id: endpoint.vpce_id.clone(),
        addresses: addresses(endpoint),
        port: endpoint.port,
    });
    let mut table = Table::new(endpoints.collect(), Arc::new(names(config)), config.dns_suffix.as_ref())?;
    table.ids = Arc::new(ids(config));
    table.not_ready = missing_lists(config).next().map(|source| NotReady {
        source: source.into(),
        last_error: Some("this version has no source of this kind: list the ids in policy.private_api_ids".to_owned()),
    });
    Ok(table)
}

/// No source but `learned` is built, so every other required one is still without a list.
fn missing_lists(config: &Config) -> impl Iterator<Item = String> {
    let lacks_list = |source: &&SourceConfig| source.required && source.kind != SourceKind::Learned;
    config.sources.iter().filter(lacks_list).map(SourceConfig::label)
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
        learn: config.learns(),
    }
}

/// Ids bound to one endpoint first: they say more than the list for all.
fn ids(config: &Config) -> PrivateIds {
    let mut ids = PrivateIds::default();
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let region = endpoint.region.clone().unwrap_or_else(|| config.region.clone());
        for id in &endpoint.private_api_ids {
            let binding = Some(Binding::Index(EndpointIndex(index)));
            ids.add(id.clone(), Knowledge { region: Some(region.clone()), binding, origin: Origin::Endpoint });
        }
    }
    for id in &config.private_api_ids {
        ids.add(id.clone(), Knowledge { region: None, binding: None, origin: Origin::Static });
    }
    ids
}

#[cfg(test)]
mod tests;
