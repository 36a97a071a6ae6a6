//! `dns.take_over` at work: takes the file once names are resolved here, sees what others do to it, gives it back. Without
//! it, where `sidegate resolv-conf install` took the file, only says what others do to it.
//!
//! The file is read once a second: what is told of changes gets lost where it is a mount, as in every container.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::{Place, Totals};
use crate::admin::Block;
use crate::dns::real_answer;
use crate::resolv_conf::{self, Step, Taken, Text};

/// How long the end waits for the file: twice the second that a lock is waited for, and what a slow disk takes.
const LAST_WRITE: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_secs(1);
/// A neighbour that did not answer this often in a row has left the file behind.
const SILENCES: u32 = 3;
/// A rewrite so soon after another one is a fight: each time we wait twice as long, up to [`LONGEST`].
const QUIET: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(300);

/// The file is ours until this is dropped, if it is ours to keep.
#[derive(Debug)]
pub(in crate::app) struct TakeOver {
    place: Arc<Place>,
    task: AbortHandle,
    totals: Arc<Totals>,
    servers: watch::Receiver<Vec<IpAddr>>,
}

impl TakeOver {
    /// `taken` is dropped once the file leads to us, or to a neighbour; at once where it is not ours to keep.
    pub(in crate::app) fn start(place: Place, taken: Option<Block>, totals: Arc<Totals>) -> Self {
        let (place, (news, servers)) = (Arc::new(place), watch::channel(Vec::new()));
        let watcher = Watcher {
            place: Arc::clone(&place),
            taken: taken.filter(|_| place.is_kept()),
            totals: Arc::clone(&totals),
            news,
            has_it: false,
            silences: 0,
            fight: Fight::default(),
            due: None,
            said: String::new(),
        };
        Self { place, task: tokio::spawn(watcher.follow()).abort_handle(), totals, servers }
    }

    pub(in crate::app) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns when another program has put other servers into the file.
    pub(in crate::app) async fn other_servers(&mut self) -> Vec<IpAddr> {
        match self.servers.changed().await {
            Ok(()) => self.servers.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives the file back. Whether it was ours.
    pub(in crate::app) async fn end(self) -> bool {
        self.task.abort();
        let place = Arc::clone(&self.place);
        tokio::task::spawn_blocking(move || place.give_back()).await.unwrap_or(false)
    }
}

impl Drop for TakeOver {
    fn drop(&mut self) {
        self.task.abort();
        let (end, ended) = mpsc::channel();
        let place = Arc::clone(&self.place);
        let give_back = move || {
            place.give_back();
            let _ = end.send(());
        };
        // On a file system that is gone this never ends, and must not keep the process.
        match std::thread::Builder::new().name("resolv.conf".to_owned()).spawn(give_back) {
            Ok(_) => drop(ended.recv_timeout(LAST_WRITE)),
            Err(_) => drop(self.place.give_back()),
        }
        self.totals.leads_to_us.store(false, Ordering::Relaxed);
    }
}

struct Watcher {
    place: Arc<Place>,
    taken: Option<Block>,
    totals: Arc<Totals>,
    /// The servers of a file that others wrote.
    news: watch::Sender<Vec<IpAddr>>,
    /// The file led to us when we last looked.
    has_it: bool,
    silences: u32,
    fight: Fight,
    /// When to write it again.
    due: Option<Instant>,
    /// The last complaint: each is said once until something works.
    said: String,
}

impl Watcher {
    async fn follow(mut self) {
        loop {
            let path = self.place.path.clone();
            let read = tokio::task::spawn_blocking(move || resolv_conf::read(&path)).await;
            let text = read.map_err(anyhow::Error::from).and_then(|read| Ok(read?));
            if !self.place.is_kept() {
                // A file that is gone leads nowhere either.
                self.report(&text.unwrap_or_default());
            } else if let Err(error) = self.look(text).await {
                self.complain(format!("{error:#}"));
            }
            sleep(POLL).await;
        }
    }

    /// Says what became of a file that others have us resolve names by, and leaves it as it is.
    fn report(&mut self, text: &[u8]) {
        match resolv_conf::look(text) {
            Text::Taken(Taken { address, is_intact: true, .. }) if self.place.is_ours(address) => self.is_ours(),
            Text::Taken(Taken { address, leads_there: true, .. }) if !self.place.is_ours(address) => self.is_not_ours(),
            _ if self.has_it => {
                self.is_not_ours();
                self.totals.foreign_rewrites.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    path = %self.place.path.display(),
                    "another program rewrote resolv.conf, which led here: run `sidegate resolv-conf install` again, or \
                     set dns.take_over = true"
                );
            }
            _ => {}
        }
    }

    async fn look(&mut self, text: anyhow::Result<Vec<u8>>) -> anyhow::Result<()> {
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                // What nobody can read leads nobody here.
                if self.has_it {
                    self.is_not_ours();
                    self.totals.foreign_rewrites.fetch_add(1, Ordering::Relaxed);
                }
                return Err(error.context(self.place.path.display().to_string()));
            }
        };
        match resolv_conf::look(&text) {
            Text::Taken(Taken { address, is_intact: true, .. }) if address == self.place.address => {
                self.is_ours();
                return Ok(());
            }
            Text::Taken(Taken { address, leads_there: true, .. }) if !self.place.is_ours(address) => {
                return self.see_neighbour(address).await;
            }
            _ => {}
        }
        self.silences = 0;
        if self.has_it {
            self.is_not_ours();
            self.totals.foreign_rewrites.fetch_add(1, Ordering::Relaxed);
            let wait = self.fight.wait(Instant::now());
            self.due = Some(Instant::now() + wait);
            let path = self.place.path.display();
            if wait <= POLL {
                tracing::warn!(%path, "another program rewrote resolv.conf: taking it over again");
            } else {
                tracing::warn!(%path, ?wait, "another program keeps rewriting resolv.conf: let one of both leave it alone");
            }
        }
        let servers = resolv_conf::former_servers(&text);
        self.news.send_if_modified(|before| {
            let is_news = !servers.is_empty() && *before != servers;
            if is_news {
                *before = servers;
            }
            is_news
        });
        if self.due.is_none_or(|due| Instant::now() >= due) { self.take(false).await } else { Ok(()) }
    }

    /// Another Sidegate has the file; as long as that answers, it may.
    async fn see_neighbour(&mut self, address: IpAddr) -> anyhow::Result<()> {
        self.is_not_ours();
        match real_answer::is_sidegate(self.place.listener_at(address)).await {
            Ok(()) => {
                if self.taken.take().is_some() || self.silences > 0 {
                    tracing::info!(%address, "resolv.conf leads to another Sidegate, which answers: left to it");
                }
                self.silences = 0;
                Ok(())
            }
            Err(error) if self.silences + 1 >= SILENCES => {
                tracing::warn!("resolv.conf leads to another Sidegate: {error}: taking it over");
                self.take(true).await
            }
            Err(_) => {
                self.silences += 1;
                Ok(())
            }
        }
    }

    async fn take(&mut self, replaces: bool) -> anyhow::Result<()> {
        real_answer::ask(self.place.listener()).await?;
        if let Step::Write(_) = self.place.install(replaces).await?.step {
            self.totals.writes.fetch_add(1, Ordering::Relaxed);
            tracing::info!(path = %self.place.path.display(), address = %self.place.address, "resolv.conf leads here");
            self.is_ours();
        }
        Ok(())
    }

    fn is_ours(&mut self) {
        self.has_it = true;
        self.due = None;
        self.silences = 0;
        self.said.clear();
        self.totals.leads_to_us.store(true, Ordering::Relaxed);
        self.taken = None;
    }

    fn is_not_ours(&mut self) {
        self.has_it = false;
        self.totals.leads_to_us.store(false, Ordering::Relaxed);
    }

    fn complain(&mut self, error: String) {
        if error != self.said {
            tracing::warn!("resolv.conf does not lead here: {error}");
            self.said = error;
        }
    }
}

/// Two programs that each want the file their way.
#[derive(Debug, Default)]
struct Fight {
    /// When the other one wrote it last.
    written: Option<Instant>,
    last: Duration,
}

impl Fight {
    /// How long to leave the file to the other one that wrote it now.
    fn wait(&mut self, now: Instant) -> Duration {
        // After as long as we waited, and then some, it is another story.
        let is_fight = self.written.replace(now).is_some_and(|written| now < written + QUIET + self.last);
        self.last = if is_fight { (self.last * 2).clamp(POLL, LONGEST) } else { Duration::ZERO };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::app::Surroundings;
    use crate::config::{Config, Inputs};
    use crate::discovery::Metadata;

    #[tokio::test]
    async fn a_file_that_cannot_be_written_in_time_does_not_keep_the_process_from_its_end() {
        let (resolv_conf, imds) = (PathBuf::from("/nonexistent/resolv.conf"), ([127, 0, 0, 1], 1).into());
        let around = Surroundings { metadata: Metadata { ecs: None, imds }, resolv_conf, name_server_port: 53 };
        let toml = "dns.listen = [\"127.0.0.1:53\"]\ndns.take_over = true\n".to_owned();
        let config = Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap();
        let take_over = TakeOver::start(Place::of(&config, &around).unwrap(), None, Arc::default());
        let place = Arc::clone(&take_over.place);
        // As a write that hangs: this returns, or the test never ends.
        let hangs = place.hang();
        drop(take_over);
        drop(hangs);
    }

    #[test]
    fn who_is_rewritten_again_and_again_waits_longer_each_time_and_starts_over_after_quiet() {
        let mut fight = Fight::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = fight.wait(now);
            waits.push(wait.as_secs());
            now += wait + POLL;
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        now += QUIET + LONGEST;
        assert_eq!(fight.wait(now), Duration::ZERO);
    }
}
