//! All that is known, merged into one table.
//!
//! Sources publish lists, look-ups and health checks call the methods of [`Discovery`]; whatever changes anything
//! publishes a new table with a new generation. Both planes hold the receiving end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::addresses::{Followed, now};
use super::compose::{self, static_addresses};
use super::config::{AddressSource, Config, EndpointConfig};
use super::learned::Learned;
use super::list::List;
use super::source::Source;
use super::status::Counters;
use crate::policy::{EndpointIndex, HostName, NotReady, Region, Table, TableError};

/// What is known, and the table made from it.
#[derive(Debug)]
pub struct Discovery {
    pub(super) config: Arc<Config>,
    /// In the order of the configuration.
    pub(super) sources: Vec<Arc<Source>>,
    state: Mutex<State>,
    table: watch::Sender<Arc<Table>>,
    /// Something is held that will have to be forgotten.
    learned_something: Notify,
    /// Other addresses are to be probed, or one has to be brought back later.
    pub(super) health_changed: Notify,
    pub(super) counters: Arc<Counters>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// In the order of the configuration.
    pub(super) endpoints: Vec<Followed>,
    learned: Learned,
    /// The lists that the table is made of, by position of their sources.
    lists: Vec<Option<Arc<List>>>,
}

impl Discovery {
    /// Builds the first table: everything static and the last good lists are in it, addresses that come from DNS are still
    /// missing.
    ///
    /// # Errors
    /// An endpoint whose region has no DNS suffix.
    pub fn new(config: Config) -> Result<Self, TableError> {
        let table = compose::table(&config, |endpoint| static_addresses(endpoint).unwrap_or_default())?;
        let sources = sources(&config);
        sources.iter().for_each(Source::recall);
        Ok(Self::of(config, sources, table))
    }

    /// The table, now and whenever it changes.
    pub fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the table with a change; what was computed under the one before it is void.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Table)) {
        self.publish_quietly(|table| {
            change(table);
            table.generation = next_generation();
        });
    }

    /// Publishes the table with a change that makes nothing void.
    pub(super) fn publish_quietly(&self, change: impl FnOnce(&mut Table)) {
        self.table.send_modify(|table| {
            let mut next = Table::clone(table);
            change(&mut next);
            *table = Arc::new(next);
        });
    }

    /// What takes this one's place under another configuration. Addresses of endpoints and lists of sources that stay are
    /// known to it until they are looked up anew, and the health of addresses that stay; what was learned is forgotten.
    ///
    /// # Errors
    /// As [`Discovery::new`].
    pub fn successor(&self, config: Config) -> Result<Self, TableError> {
        // An endpoint that names no region, or asks for the apex, is another one under another region or suffix.
        let same_zones = self.config.region == config.region && self.config.dns_suffix == config.dns_suffix;
        let known = |endpoint: &EndpointConfig| {
            let position = self.config.endpoints.iter().position(|was| same_zones && was == endpoint)?;
            Some(self.addresses(EndpointIndex(position)))
        };
        let addresses =
            |endpoint: &EndpointConfig| static_addresses(endpoint).or_else(|| known(endpoint)).unwrap_or_default();
        let table = compose::table(&config, addresses)?;
        let mut sources = sources(&config);
        for source in &mut sources {
            match self.sources.iter().find(|before| source.is_same(before)) {
                Some(before) => source.succeed(before),
                None => source.recall(),
            }
        }
        let successor = Self { counters: Arc::clone(&self.counters), ..Self::of(config, sources, table) };
        successor.inherit_health(self);
        Ok(successor)
    }

    fn of(config: Config, sources: Vec<Source>, mut table: Table) -> Self {
        let sources: Vec<_> = sources.into_iter().map(Arc::new).collect();
        let config = Arc::new(config);
        let (lists, not_ready) = gather(&sources);
        if lists.iter().any(Option::is_some) {
            table.ids = Arc::new(compose::ids(&config, &labelled(&sources, &lists)));
        }
        table.not_ready = not_ready;
        table.generation = next_generation();
        let followed = config.endpoints.iter().zip(table.endpoints());
        let endpoints = followed.map(|(config, endpoint)| Followed::new(config, endpoint, now())).collect();
        Self {
            config,
            sources,
            state: Mutex::new(State { endpoints, lists, ..State::default() }),
            table: watch::Sender::new(Arc::new(table)),
            learned_something: Notify::new(),
            health_changed: Notify::new(),
            counters: Arc::default(),
        }
    }

    /// Whether the table holds the list of the source at this position.
    pub(super) fn has_list_of(&self, position: usize) -> bool {
        self.state().lists.get(position).is_some_and(Option::is_some)
    }

    /// Takes over what the sources of the one before have read since this one was made its successor.
    pub async fn catch_up(&self, before: &Self) {
        for source in &self.sources {
            before.sources.iter().find(|before| source.is_same(before)).inspect(|before| source.catch_up(before));
        }
        self.merge_lists_now().await;
    }

    /// Makes the lists of all sources part of the table, now and whenever one changes. Never returns.
    pub(super) async fn merge_lists(&self) {
        let mut changes: Vec<_> = self.sources.iter().map(|source| source.subscribe()).collect();
        loop {
            self.merge_lists_now().await;
            if changes.is_empty() {
                std::future::pending::<()>().await;
            }
            let changed = changes.iter_mut().map(|change| Box::pin(change.changed()));
            // The senders are ours, so that they cannot be gone.
            let _ = futures_util::future::select_all(changed).await;
        }
    }

    /// Makes the lists of all sources part of the table. The table of a hundred thousand ids takes its time: not here, where
    /// queries wait.
    pub(super) async fn merge_lists_now(&self) {
        let (lists, not_ready) = gather(&self.sources);
        let is_same = {
            let merged = &self.state().lists;
            merged.len() == lists.len() && merged.iter().zip(&lists).all(|(was, is)| is_same(was.as_ref(), is.as_ref()))
        };
        let ids = if is_same {
            None
        } else {
            let (config, labelled) = (Arc::clone(&self.config), labelled(&self.sources, &lists));
            let Ok(ids) = tokio::task::spawn_blocking(move || compose::ids(&config, &labelled)).await else {
                tracing::error!("the table of ids could not be made; the one before stays");
                return;
            };
            Some(Arc::new(ids))
        };
        if ids.is_none() && self.table.borrow().not_ready == not_ready {
            return;
        }
        let before = {
            let mut state = self.state();
            let before = std::mem::replace(&mut state.lists, lists);
            self.publish(|table| {
                table.not_ready = not_ready;
                if let Some(ids) = ids {
                    table.ids = ids;
                }
            });
            before
        };
        // To let go of a long list takes its time too.
        drop(tokio::task::spawn_blocking(move || drop(before)));
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
        let table = self.table.borrow();
        let apex_of = |region: &Region| table.zones().iter().find(|zone| zone.region == *region).map(|zone| zone.name);
        let endpoints = self.config.endpoints.iter().zip(table.endpoints()).enumerate();
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

/// Their names are told apart, where two differ only in what is not shown.
fn sources(config: &Config) -> Vec<Source> {
    let mut labels: Vec<String> = Vec::new();
    let mut told_apart = |label: String| {
        let others = labels.iter().filter(|other| **other == label).count();
        labels.push(label.clone());
        if others == 0 { label } else { format!("{label} ({})", others + 1) }
    };
    config.sources.iter().filter_map(|source| Source::new(source, told_apart(source.label()), config)).collect()
}

/// What each source has given, by position, and the first source without which unknown ids cannot be told from private
/// ones. Each is asked once: one that gives its list meanwhile must not be taken for one that has none and is not awaited.
fn gather(sources: &[Arc<Source>]) -> (Vec<Option<Arc<List>>>, Option<NotReady>) {
    let mut not_ready = None;
    let given = sources.iter().map(|source| {
        let snapshot = source.snapshot();
        if not_ready.is_none() && source.awaits(&snapshot) {
            not_ready = Some(NotReady { source: Arc::clone(&source.label), last_error: snapshot.error });
        }
        snapshot.list
    });
    let lists = given.collect();
    (lists, not_ready)
}

/// The lists there are, each by its source's name.
fn labelled(sources: &[Arc<Source>], lists: &[Option<Arc<List>>]) -> Vec<(Arc<str>, Arc<List>)> {
    let labelled = sources.iter().zip(lists);
    labelled.filter_map(|(source, list)| Some((Arc::clone(&source.label), list.clone()?))).collect()
}

fn is_same(was: Option<&Arc<List>>, is: Option<&Arc<List>>) -> bool {
    match (was, is) {
        (Some(was), Some(is)) => Arc::ptr_eq(was, is),
        (was, is) => was.is_none() && is.is_none(),
    }
}

#[cfg(test)]
mod tests;
