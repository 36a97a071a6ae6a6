//! One source of private ids: a task that reads it again and again, and publishes what it knows through a watch.
//!
//! A source that fails keeps its list. `merge` makes the table of all lists.
//!
//! - `file`, `url`, `api_gateway`: what is read; `fetch`: the HTTP client of the last two, `connector`: the SDK's to it
//! - `schedule`: when it is read again; `judge`: what of it is believed

pub(super) mod api_gateway;
mod connector;
pub(super) mod fetch;
mod file;
mod judge;
mod schedule;
mod url;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::sync::watch;

pub use self::schedule::{Outcome, Schedule};

use self::api_gateway::ApiGatewayReader;
use self::fetch::Fetcher;
use self::file::FileReader;
use self::judge::Judge;
use self::url::UrlReader;
use super::config::{Config, SourceConfig, SourceKind};
use super::guard::{Guard, Held};
use super::last_good::LastGood;
use super::list::List;
use crate::policy::Region;

/// Failures of different kinds in a row that are worth a warning each.
const MAX_TOLD: usize = 8;

/// What a source knows.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// `None`: it has never given one.
    pub list: Option<Arc<List>>,
    /// When the source last said what is in the list.
    pub as_of: Option<SystemTime>,
    /// Whether the list is the one kept on disk, and the source has not been read since the start.
    pub from_disk: bool,
    /// Why the last attempt failed, if it did; in words for an operator.
    pub error: Option<String>,
    pub reads: u64,
    pub failures: u64,
    pub held: Held,
}

/// What came of an attempt that did not fail.
#[derive(Debug)]
pub(super) enum Read {
    List(List),
    /// The source says that nothing has changed since the attempt before.
    Unchanged,
}

/// A source, whether or not it is being read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) config: SourceConfig,
    /// As in logs.
    pub(super) label: Arc<str>,
    region: Region,
    any_region: bool,
    last_good: Option<LastGood>,
    /// Whether it counts as trouble that lists cannot be kept.
    must_keep: bool,
    /// What is on disk, as far as we wrote or read it; shared with what takes this one's place.
    on_disk: Arc<Mutex<Option<Arc<List>>>>,
    complained: AtomicBool,
    /// The failures that warnings have told of since it last worked, without their digits.
    told: Mutex<Vec<String>>,
    snapshot: watch::Sender<Snapshot>,
    /// Shared with what takes this one's place, as both may read for a moment.
    totals: Arc<Totals>,
    /// Whether the next list may be empty though this one is not.
    trusts_next: AtomicBool,
}

/// How attempts ended since the start.
#[derive(Debug, Default)]
struct Totals {
    reads: AtomicU64,
    failures: AtomicU64,
}

enum Reader {
    File(FileReader),
    Url(UrlReader),
    ApiGateway(Box<ApiGatewayReader>),
}

impl Source {
    /// A source of this configuration that knows nothing yet, by this name in logs. `None` for `learned`, which gives no
    /// lists.
    pub(super) fn new(source: &SourceConfig, label: String, config: &Config) -> Option<Self> {
        if source.kind == SourceKind::Learned {
            return None;
        }
        let state_dir = config.state_dir.as_deref();
        Some(Self {
            config: source.clone(),
            label: label.into(),
            region: config.region.clone(),
            any_region: config.dns_suffix.is_some(),
            last_good: state_dir.map(|state_dir| LastGood::new(state_dir, &source.kind, &config.region)),
            must_keep: config.state_dir_is_set,
            on_disk: Arc::default(),
            complained: AtomicBool::new(false),
            told: Mutex::default(),
            snapshot: watch::Sender::default(),
            totals: Arc::default(),
            trusts_next: AtomicBool::new(false),
        })
    }

    /// Begins with what is kept of it on disk.
    pub(super) fn recall(&self) {
        let Some((list, as_of)) = self.last_good.as_ref().and_then(LastGood::load) else { return };
        tracing::info!(ids = list.len(), "{}: begins with its last good list", self.label);
        let list = Arc::new(list);
        *lock(&self.on_disk) = Some(Arc::clone(&list));
        self.snapshot.send_modify(|snapshot| {
            (snapshot.list, snapshot.as_of, snapshot.from_disk) = (Some(list), Some(as_of), true);
        });
    }

    /// What it knows, now and whenever that changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    pub(super) fn list(&self) -> Option<Arc<List>> {
        self.snapshot.borrow().list.clone()
    }

    /// Whether it reads the same thing as another, if perhaps with other rights or at other times.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.config.kind, &other.config.kind) {
            (SourceKind::File { path }, SourceKind::File { path: other }) => path == other,
            (SourceKind::Url { url, .. }, SourceKind::Url { url: other, .. }) => url == other,
            (
                SourceKind::ApiGateway { region, endpoint_url },
                SourceKind::ApiGateway { region: of_other, endpoint_url: other_url },
            ) => {
                let (region, of_other) = (region.as_ref(), of_other.as_ref());
                region.unwrap_or(&self.region) == of_other.unwrap_or(&other.region) && endpoint_url == other_url
            }
            _ => false,
        }
    }

    /// Begins with what the same source of the configuration before knows. Its next list may be empty: an operator has
    /// just looked at it.
    pub(super) fn succeed(&mut self, before: &Self) {
        self.catch_up(before);
        self.totals = Arc::clone(&before.totals);
        if self.last_good == before.last_good {
            self.on_disk = Arc::clone(&before.on_disk);
        }
        self.trusts_next.store(true, Ordering::Relaxed);
    }

    /// Takes over what that source has learned since.
    pub(super) fn catch_up(&self, before: &Self) {
        self.snapshot.send_replace(before.snapshot.borrow().clone());
    }

    /// What it knows now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let Totals { reads, failures } = &*self.totals;
        let (reads, failures) = (reads.load(Ordering::Relaxed), failures.load(Ordering::Relaxed));
        Snapshot { reads, failures, ..self.snapshot.borrow().clone() }
    }

    /// Whether ids that nobody knows cannot be called public, by what it knows.
    pub(super) fn awaits(&self, snapshot: &Snapshot) -> bool {
        snapshot.list.is_none() && (self.config.required || snapshot.failures == 0)
    }

    /// Reads it for as long as it is polled. Never returns.
    pub(super) async fn follow(self: Arc<Self>, fetcher: Option<Arc<Fetcher>>) {
        let Some(mut reader) = self.reader(fetcher.clone()) else { return std::future::pending().await };
        let mut schedule = Schedule::new(self.config.interval);
        let is_reload = self.trusts_next.load(Ordering::Relaxed);
        let mut judge = self.judge(&schedule);
        if self.list().is_some() && !is_reload && !matches!(reader, Reader::File(_)) {
            tokio::time::sleep(schedule.first(rand::random())).await;
        }
        loop {
            let attempt = AssertUnwindSafe(self.attempt(&mut reader, &mut judge, true)).catch_unwind();
            let outcome = match attempt.await {
                Ok(outcome) => outcome,
                // A library that meets what it did not foresee must not end a source for good.
                Err(_) => {
                    self.fail(
                        "reading it broke off inside: the line about a panic before this one says where".to_owned(),
                    );
                    match self.reader(fetcher.clone()) {
                        Some(anew) => reader = anew,
                        None => return std::future::pending().await,
                    }
                    judge = self.judge(&schedule);
                    Outcome::Failed
                }
            };
            let wait = schedule.after(outcome, rand::random());
            reader.changed_or(wait).await;
        }
    }

    /// Reads it once, for commands that end; nothing is kept of it.
    pub(super) async fn read_once(&self, fetcher: Option<Arc<Fetcher>>, within: Duration) {
        let Some(mut reader) = self.reader(fetcher) else { return };
        let mut judge = self.judge(&Schedule::new(self.config.interval));
        if tokio::time::timeout(within, self.attempt(&mut reader, &mut judge, false)).await.is_err() {
            self.fail(format!("no list within {} s", within.as_secs()));
        }
    }

    fn reader(&self, fetcher: Option<Arc<Fetcher>>) -> Option<Reader> {
        Some(match &self.config.kind {
            SourceKind::File { path } => Reader::File(FileReader::new(path.clone(), self.any_region)),
            SourceKind::Url { url, headers } => {
                Reader::Url(UrlReader::new(url.clone(), headers.clone(), self.any_region, fetcher?))
            }
            SourceKind::ApiGateway { region, endpoint_url } => {
                let region = region.as_ref().unwrap_or(&self.region).clone();
                Reader::ApiGateway(Box::new(ApiGatewayReader::new(region, endpoint_url.clone(), fetcher?)))
            }
            SourceKind::Learned => return None,
        })
    }

    fn judge(&self, schedule: &Schedule) -> Judge {
        let keeps_last_id = !matches!(self.config.kind, SourceKind::File { .. });
        let trusts_next = self.trusts_next.swap(false, Ordering::Relaxed);
        Judge::new(Guard::new(self.list(), keeps_last_id, trusts_next), schedule.confirmation())
    }

    async fn attempt(&self, reader: &mut Reader, judge: &mut Judge, keep: bool) -> Outcome {
        let now = SystemTime::now();
        let read = match reader.read().await {
            Ok(read) => read,
            Err(error) => {
                self.fail(error);
                return Outcome::Failed;
            }
        };
        let Some((list, held)) = judge.judge(read, now).await else { return Outcome::Read };
        self.publish(&list, held, now);
        if let Some(last_good) = self.last_good.as_ref().filter(|_| keep) {
            self.keep(last_good.clone(), list, held).await;
        }
        if matches!(held, Held::Removals(_)) { Outcome::Unconfirmed } else { Outcome::Read }
    }

    fn publish(&self, list: &Arc<List>, held: Held, now: SystemTime) {
        let before = self.snapshot();
        let is_new = before.list.as_ref().is_none_or(|known| !Arc::ptr_eq(known, list));
        if is_new {
            tracing::info!(ids = list.len(), "{}: a new list", self.label);
        } else if before.error.is_some() {
            tracing::info!(ids = list.len(), "{}: is read again", self.label);
        }
        if held != before.held {
            match held {
                Held::Nothing => {}
                Held::Removals(gone) => tracing::warn!(
                    "{}: {gone} ids are gone, more than half: they stay until the next read confirms it",
                    self.label
                ),
                Held::Everything(gone) => tracing::warn!(
                    "{}: its list is empty, the {gone} ids of the one before stay: reload if there are none any more, \
                     else correct the account and its permissions",
                    self.label
                ),
            }
        }
        lock(&self.told).clear();
        self.totals.reads.fetch_add(1, Ordering::Relaxed);
        self.snapshot.send_modify(|snapshot| {
            snapshot.list = Some(Arc::clone(list));
            if held == Held::Nothing {
                snapshot.as_of = Some(now);
            }
            snapshot.from_disk &= matches!(held, Held::Everything(_));
            (snapshot.error, snapshot.held) = (None, held);
        });
    }

    /// Whether a warning has said so since it last worked. Times and addresses do not make it another failure.
    fn is_told(&self, error: &str) -> bool {
        let words: String = error.chars().filter(|c| !c.is_ascii_digit()).collect();
        let mut told = lock(&self.told);
        if told.contains(&words) || told.len() >= MAX_TOLD {
            return true;
        }
        told.push(words);
        false
    }

    /// The list so far stays.
    fn fail(&self, error: String) {
        let before = self.snapshot();
        if self.is_told(&error) {
            tracing::debug!("{}: {error}", self.label);
        } else {
            let kept = match (&before.list, self.config.required) {
                (Some(list), _) => format!("what it gave before stays, ids: {}", list.len()),
                (None, true) => "unknown ids answer SERVFAIL until there is a list".to_owned(),
                (None, false) => "unknown ids are taken for public, as it is not required".to_owned(),
            };
            tracing::warn!("{}: {error}; {kept}", self.label);
        }
        self.totals.failures.fetch_add(1, Ordering::Relaxed);
        self.snapshot.send_modify(|snapshot| snapshot.error = Some(error));
    }

    /// Writes the list down unless it is on disk already; what is there and was confirmed is as old as this moment.
    async fn keep(&self, last_good: LastGood, list: Arc<List>, held: Held) {
        let on_disk = Arc::clone(&self.on_disk);
        let write = move || {
            let mut on_disk = lock(&on_disk);
            if on_disk.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &list)) {
                return if held == Held::Nothing { last_good.confirm() } else { Ok(()) };
            }
            *on_disk = None;
            last_good.store(&list)?;
            *on_disk = Some(list);
            Ok(())
        };
        let Ok(Err(error)) = tokio::task::spawn_blocking(write).await else { return };
        if self.complained.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.must_keep {
            tracing::warn!(
                "{}: its list cannot be kept: {error}: make state_dir writable, or set it to \"\"",
                self.label
            );
        } else {
            tracing::info!("{}: its list is not kept, as state_dir cannot be written: {error}", self.label);
        }
    }
}

impl Reader {
    async fn read(&mut self) -> Result<Read, String> {
        match self {
            Reader::File(file) => file.read().await,
            Reader::Url(url) => url.read().await,
            Reader::ApiGateway(api_gateway) => api_gateway.read().await.map(Read::List),
        }
    }

    /// Waits until the next attempt; less long if something is known to have changed.
    async fn changed_or(&mut self, wait: Duration) {
        match self {
            // Either way it is time.
            Reader::File(file) => _ = tokio::time::timeout(wait, file.changed()).await,
            Reader::Url(_) | Reader::ApiGateway(_) => tokio::time::sleep(wait).await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
