//! One source of private ids: a task that reads it again and again, and publishes what it knows through a watch.
//!
//! A source that fails keeps its list. `merge` makes the table of all lists.
//!
//! - `file`, `url`, `api_gateway`: what is read; `fetch`: the HTTP client of the last two, `connector`: the SDK's to it
//! - `schedule`: when it is read again

pub(super) mod api_gateway;
mod connector;
pub(super) mod fetch;
mod file;
mod schedule;
mod url;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::schedule::{Outcome, Schedule};

use self::api_gateway::ApiGatewayReader;
use self::fetch::Fetcher;
use self::file::FileReader;
use self::url::UrlReader;
use super::config::{Config, SourceConfig, SourceKind};
use super::guard::{Guard, Held};
use super::last_good::LastGood;
use super::list::List;
use crate::policy::Region;

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
    /// Whether what is on disk is what it knows.
    is_kept: AtomicBool,
    complained: AtomicBool,
    snapshot: watch::Sender<Snapshot>,
    /// Whether the next list may be empty though this one is not.
    trusts_next: AtomicBool,
}

enum Reader {
    File(FileReader),
    Url(UrlReader),
    ApiGateway(Box<ApiGatewayReader>),
}

impl Source {
    /// A source of this configuration that knows nothing yet. `None` for `learned`, which gives no lists.
    pub(super) fn new(source: &SourceConfig, config: &Config) -> Option<Self> {
        if source.kind == SourceKind::Learned {
            return None;
        }
        let state_dir = config.state_dir.as_deref();
        Some(Self {
            config: source.clone(),
            label: source.label().into(),
            region: config.region.clone(),
            any_region: config.dns_suffix.is_some(),
            last_good: state_dir.map(|state_dir| LastGood::new(state_dir, &source.kind, &config.region)),
            must_keep: config.state_dir_is_set,
            is_kept: AtomicBool::new(false),
            complained: AtomicBool::new(false),
            snapshot: watch::Sender::default(),
            trusts_next: AtomicBool::new(false),
        })
    }

    /// Begins with what is kept of it on disk.
    pub(super) fn recall(&self) {
        let Some((list, as_of)) = self.last_good.as_ref().and_then(LastGood::load) else { return };
        tracing::info!(ids = list.len(), "{}: begins with its last good list", self.label);
        self.is_kept.store(true, Ordering::Relaxed);
        self.snapshot.send_modify(|snapshot| {
            (snapshot.list, snapshot.as_of, snapshot.from_disk) = (Some(Arc::new(list)), Some(as_of), true);
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
    pub(super) fn succeed(&self, before: &Self) {
        self.snapshot.send_replace(before.snapshot.borrow().clone());
        let is_kept = self.last_good == before.last_good && before.is_kept.load(Ordering::Relaxed);
        self.is_kept.store(is_kept, Ordering::Relaxed);
        self.trusts_next.store(true, Ordering::Relaxed);
    }

    /// Until it is there, ids that nobody knows cannot be called public.
    pub(super) fn is_awaited(&self) -> bool {
        let snapshot = self.snapshot.borrow();
        snapshot.list.is_none() && (self.config.required || snapshot.failures == 0)
    }

    /// Reads it for as long as it is polled. Never returns.
    pub(super) async fn follow(self: Arc<Self>, fetcher: Option<Arc<Fetcher>>) {
        let Some(mut reader) = self.reader(fetcher) else { return std::future::pending().await };
        let mut schedule = Schedule::new(self.config.interval);
        let is_reload = self.trusts_next.load(Ordering::Relaxed);
        let mut judge = Judge { guard: self.guard(), held_since: None, confirmation: schedule.confirmation() };
        if self.list().is_some() && !is_reload && !matches!(reader, Reader::File(_)) {
            tokio::time::sleep(schedule.first(rand::random())).await;
        }
        loop {
            let outcome = self.attempt(&mut reader, &mut judge, true).await;
            let wait = schedule.after(outcome, rand::random());
            reader.changed_or(wait).await;
        }
    }

    /// Reads it once, for commands that end; nothing is kept of it.
    pub(super) async fn read_once(&self, fetcher: Option<Arc<Fetcher>>, within: Duration) {
        let Some(mut reader) = self.reader(fetcher) else { return };
        let mut judge = Judge { guard: self.guard(), held_since: None, confirmation: Duration::ZERO };
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

    fn guard(&self) -> Arc<Mutex<Guard>> {
        let keeps_last_id = !matches!(self.config.kind, SourceKind::File { .. });
        let trusts_next = self.trusts_next.swap(false, Ordering::Relaxed);
        Arc::new(Mutex::new(Guard::new(self.list(), keeps_last_id, trusts_next)))
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
        let is_new = self.publish(&list, held, now);
        if let Some(last_good) = self.last_good.as_ref().filter(|_| keep) {
            self.keep(last_good.clone(), list, is_new, held).await;
        }
        if matches!(held, Held::Removals(_)) { Outcome::Unconfirmed } else { Outcome::Read }
    }

    /// Whether the list is another one than before.
    fn publish(&self, list: &Arc<List>, held: Held, now: SystemTime) -> bool {
        let before = self.snapshot.borrow().clone();
        let is_new = before.list.as_ref().is_none_or(|known| !Arc::ptr_eq(known, list));
        if is_new {
            tracing::info!(ids = list.len(), "{}: a list", self.label);
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
        self.snapshot.send_modify(|snapshot| {
            snapshot.list = Some(Arc::clone(list));
            if held == Held::Nothing {
                snapshot.as_of = Some(now);
            }
            (snapshot.from_disk, snapshot.error, snapshot.held) = (false, None, held);
            snapshot.reads += 1;
        });
        is_new
    }

    /// The list so far stays.
    fn fail(&self, error: String) {
        let before = self.snapshot.borrow().clone();
        if before.error.as_ref() != Some(&error) {
            let kept = match (&before.list, self.config.required) {
                (Some(list), _) => format!("the {} ids known stay", list.len()),
                (None, true) => "unknown ids answer SERVFAIL until there is a list".to_owned(),
                (None, false) => "unknown ids are taken for public, as it is not required".to_owned(),
            };
            tracing::warn!("{}: {error}; {kept}", self.label);
        }
        self.snapshot.send_modify(|snapshot| {
            snapshot.error = Some(error);
            snapshot.failures += 1;
        });
    }

    async fn keep(&self, last_good: LastGood, list: Arc<List>, is_new: bool, held: Held) {
        let must_write = is_new || !self.is_kept.load(Ordering::Relaxed);
        if !must_write && held != Held::Nothing {
            return;
        }
        let write = move || if must_write { last_good.store(&list) } else { last_good.confirm() };
        let Ok(written) = tokio::task::spawn_blocking(write).await else { return };
        self.is_kept.store(written.is_ok(), Ordering::Relaxed);
        let Err(error) = written else { return };
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

/// Asks the guard, and keeps the time for it.
struct Judge {
    guard: Arc<Mutex<Guard>>,
    /// Since when removals wait to be confirmed.
    held_since: Option<Instant>,
    /// How long they must.
    confirmation: Duration,
}

impl Judge {
    /// `None` if the source has never given a list. A long list takes its time: not where queries wait.
    async fn judge(&mut self, read: Read, now: SystemTime) -> Option<(Arc<List>, Held)> {
        let may_confirm = self.held_since.is_none_or(|since| since.elapsed() >= self.confirmation);
        let guard = Arc::clone(&self.guard);
        let judge = move || {
            let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Read::List(list) => Some(guard.judge(list, now, may_confirm)),
                Read::Unchanged => guard.judge_again(now, may_confirm),
            }
        };
        let judged = tokio::task::spawn_blocking(judge).await.ok()?;
        let is_held = judged.as_ref().is_some_and(|(_, held)| matches!(held, Held::Removals(_)));
        self.held_since = is_held.then(|| self.held_since.filter(|_| !may_confirm).unwrap_or_else(Instant::now));
        judged
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
