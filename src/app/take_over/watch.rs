//! `dns.take_over` at work: takes the file once names are resolved here, sees what others do to it, gives it back. Without
//! it, only says what others do to a file that `sidegate resolv-conf install` took. Either way its servers are news.
//!
//! The file is read once a second: what is told of changes gets lost where it is a mount, as in every container.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::fight::Fight;
use super::{POLL, Place, Totals};
use crate::admin::Block;
use crate::dns::real_answer;
use crate::resolv_conf::{self, Step, Taken, Text};

/// How long the end waits for the file: twice the second that a lock is waited for, and what a slow disk takes.
const LAST_WRITE: Duration = Duration::from_secs(4);
/// A neighbour that did not answer this often in a row has left the file behind.
const SILENCES: u32 = 3;

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

    /// Returns when the file has other servers than before.
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
    /// The servers of the file, as others wrote or `sidegate resolv-conf install` kept them.
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
            if let Ok(text) = &text {
                // Wherever it leads: it comes to lead here only once names are resolved, by the servers that there are now.
                self.tell_servers(text);
            }
            if !self.place.is_kept() {
                // A file that is gone leads nowhere either.
                self.report(&text.unwrap_or_default()).await;
            } else if let Err(error) = self.look(text).await {
                self.complain(format!("{error:#}"));
            }
            sleep(POLL).await;
        }
    }

    /// Says what became of a file that others have us resolve names by, and leaves it as it is.
    async fn report(&mut self, text: &[u8]) {
        match resolv_conf::look(text) {
            Text::Taken(Taken { address, is_intact: true, .. }) if self.place.is_ours(address) => {
                self.place.see(text);
                self.is_ours();
            }
            Text::Taken(Taken { address, leads_there: true, .. }) if !self.place.is_ours(address) => self.is_not_ours(),
            _ if self.has_it => {
                self.is_not_ours();
                self.totals.foreign_rewrites.fetch_add(1, Ordering::Relaxed);
                let (path, cure) = (self.place.path.display(), cure(&self.place).await);
                tracing::warn!(%path, "another program rewrote resolv.conf, which led here: {cure}");
            }
            _ => {}
        }
    }

    fn tell_servers(&self, text: &[u8]) {
        let servers = resolv_conf::former_servers(text);
        self.news.send_if_modified(|before| {
            let is_news = !servers.is_empty() && *before != servers;
            if is_news {
                *before = servers;
            }
            is_news
        });
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
                self.place.see(&text);
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
        if let Step::Write(text) = self.place.install(replaces).await?.step {
            self.totals.writes.fetch_add(1, Ordering::Relaxed);
            let path = self.place.path.display();
            tracing::info!(%path, address = %self.place.address, "resolv.conf leads here");
            if resolv_conf::former_servers(&text).into_iter().all(|server| self.place.is_ours(server)) {
                tracing::warn!(
                    %path,
                    "resolv.conf named no other server, and we saw none in it before: the VPC's servers stay those that \
                     there are, and at the end it is put back as it was: set upstream.vpc, and write a server into it"
                );
            }
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

/// What to do about a rewrite. A process that may not write the file would not start with `dns.take_over`.
async fn cure(place: &Place) -> &'static str {
    match place.check().await {
        Ok(()) => "run `sidegate resolv-conf install` again, or set dns.take_over = true",
        Err(_) => "find what writes it, and run `sidegate resolv-conf install` again",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::app::Surroundings;
    use crate::config::{Config, Inputs};
    use crate::discovery::Metadata;

    fn place(resolv_conf: PathBuf) -> Place {
        let imds = ([127, 0, 0, 1], 1).into();
        let around = Surroundings { metadata: Metadata { ecs: None, imds }, resolv_conf, name_server_port: 53 };
        let toml = "dns.listen = [\"127.0.0.1:53\"]\ndns.take_over = true\n".to_owned();
        let config = Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap();
        Place::of(&config, &around).unwrap()
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_in_time_does_not_keep_the_process_from_its_end() {
        let take_over = TakeOver::start(place("/nonexistent/resolv.conf".into()), None, Arc::default());
        let place = Arc::clone(&take_over.place);
        // As a write that hangs: this returns, or the test never ends.
        let hangs = place.hang();
        drop(take_over);
        drop(hangs);
    }

    #[tokio::test]
    async fn dns_take_over_is_advised_only_to_who_may_write_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
        assert!(cure(&place(path)).await.ends_with("or set dns.take_over = true"));
        assert_eq!(
            cure(&place(folder.path().into())).await,
            "find what writes it, and run `sidegate resolv-conf install` again"
        );
    }
}
