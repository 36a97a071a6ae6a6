//! A group of servers that know the same names: whom to ask first, when to ask the next, when to give up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::bootstrap::Bootstrap;
use super::exchange::AskError;
use super::peer::{Peer, Prompt};
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::dns::wire::rcode;

/// A server that has not answered by then is joined by the next one.
const HEDGE: Duration = Duration::from_millis(300);
/// The same for a server that was asked before: one datagram may be lost, two in a row seldom are.
const RETRY: Duration = Duration::from_millis(1000);
/// Times each server is asked one question at most.
const ROUNDS: usize = 2;

/// A question that was sent to one server already.
#[derive(Debug)]
pub struct First {
    pub peer: Arc<Peer>,
    pub sent: Sent,
}

/// A query with an OPT record that was sent already, by who listens for what comes: the reply, or a refusal that does
/// not repeat the question.
#[derive(Debug)]
pub struct Sent {
    pub at: Instant,
    /// What has come, or comes; closed if nobody listens any more.
    pub received: oneshot::Receiver<Result<Vec<u8>, AskError>>,
}

/// Servers in the order of the configuration.
#[derive(Debug, Default)]
pub struct Group {
    peers: Vec<Arc<Peer>>,
}

impl Group {
    pub fn new(peers: Vec<Peer>) -> Self {
        Self { peers: peers.into_iter().map(Arc::new).collect() }
    }

    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// Asks until a server answers or `deadline` comes. Failover is at once, hedging after 300 ms. A server that is
    /// silent is asked once more, since a datagram may be lost; one that fails is not. With `first` it goes on from there.
    ///
    /// # Errors
    /// What the last server to fail said; `Timeout` if all are silent. A SERVFAIL is given back as an answer if no
    /// server has a better one.
    pub async fn ask(
        &self,
        question: &Question,
        bootstrap: Bootstrap<'_>,
        deadline: Instant,
        first: Option<First>,
    ) -> Result<Message, AskError> {
        let mut order = self.order();
        let mut sent = first.and_then(|First { peer, sent }| {
            let position = order.iter().position(|other| Arc::ptr_eq(other, &peer))?;
            order[..=position].rotate_right(1);
            Some(sent)
        });
        let mut attempts = Attempts::new(order.len());
        let mut running = FuturesUnordered::new();
        let mut servfailed = Vec::new();
        let mut outcome = Err(AskError::NoServer);
        loop {
            let now = Instant::now();
            if now >= deadline {
                attempts.silent_before(attempts.asked.len()).for_each(|position| order[position].health().failed());
                return outcome.or(Err(AskError::Timeout));
            }
            let next = attempts.next();
            if let Some((position, _)) = next.filter(|&(_, at)| at <= now) {
                if let Some((newest, silence)) = attempts.newest_silence(now).filter(|&(_, silence)| silence >= HEDGE) {
                    order[newest].health().slow(silence);
                }
                let sent = sent.take();
                let attempt = attempts.start(position, sent.as_ref().map_or(now, |sent| sent.at));
                let peer = &order[position];
                let asked = async move { timeout_at(deadline, peer.ask(question, bootstrap, sent)).await };
                running.push(asked.map(move |result| (attempt, position, result)));
                continue;
            }
            if next.is_none() && running.is_empty() {
                return outcome;
            }
            tokio::select! {
                Some((attempt, position, result)) = running.next() => match result {
                    Ok(Ok(message)) if message.rcode != rcode::SERVFAIL => {
                        // Whoever was asked earlier has had more time than this took: the next question goes elsewhere.
                        let beaten = attempts.silent_before(attempt).filter(|&silent| silent != position);
                        beaten.for_each(|silent| order[silent].health().failed());
                        servfailed.into_iter().for_each(|failed: usize| order[failed].health().servfailed());
                        return Ok(message);
                    }
                    Ok(failed) => {
                        servfailed.extend(failed.is_ok().then_some(position));
                        outcome = match (outcome, failed) {
                            (Ok(servfail), Err(_)) => Ok(servfail),
                            (_, failed) => failed,
                        };
                        attempts.fail(position, Instant::now());
                    }
                    Err(_elapsed) => {}
                },
                () = sleep_until(next.map_or(deadline, |(_, at)| at.min(deadline))) => {}
            }
        }
    }

    /// Servers by rank, ties in the order of the configuration.
    fn order(&self) -> Vec<Arc<Peer>> {
        let mut order = self.peers.clone();
        order.sort_by_cached_key(|peer| peer.health().rank());
        order
    }

    /// A server that is not the first choice and has not been asked for a while; the caller is to ask it, in the background.
    pub fn claim_probe(&self) -> Option<Arc<Peer>> {
        if self.peers.len() < 2 {
            return None;
        }
        let now = Instant::now().into_std();
        self.order().into_iter().skip(1).find(|peer| peer.health().claim_probe(now))
    }

    /// The first choice, if it is prompt, and how it is asked.
    pub fn prompt(&self) -> Option<(&Arc<Peer>, Prompt)> {
        let best = match self.peers.as_slice() {
            [only] => only,
            several => several.iter().min_by_key(|peer| peer.health().rank())?,
        };
        best.prompt().map(|prompt| (best, prompt))
    }
}

/// Which server of an order is asked next: each once, then those that are still silent once more.
struct Attempts {
    /// Whether a server may still answer, or has not been asked.
    silent: Vec<bool>,
    /// Who was asked, and when, from the first attempt to the newest.
    asked: Vec<(usize, Instant)>,
    /// Counts through the rounds.
    next: usize,
    /// When a server that has not been asked yet is.
    hedge_at: Instant,
}

impl Attempts {
    fn new(servers: usize) -> Self {
        Self { silent: vec![true; servers], asked: Vec::new(), next: 0, hedge_at: Instant::now() }
    }

    /// Who is to be asked next, and when. A server that is still working has its time, whatever becomes of the others.
    fn next(&self) -> Option<(usize, Instant)> {
        let servers = self.silent.len();
        let position = (self.next..ROUNDS * servers).map(|turn| turn % servers).find(|&turn| self.silent[turn])?;
        let before = self.asked.iter().rev().find(|(asked, _)| *asked == position);
        Some((position, before.map_or(self.hedge_at, |(_, at)| *at + RETRY)))
    }

    /// Notes that the server [`Self::next`] named is asked; the number of the attempt.
    fn start(&mut self, position: usize, now: Instant) -> usize {
        let servers = self.silent.len();
        while self.next % servers != position {
            self.next += 1;
        }
        self.next += 1;
        self.hedge_at = now + HEDGE;
        self.asked.push((position, now));
        self.asked.len() - 1
    }

    /// Notes that a server failed: it is asked no more, and one that was not asked yet is at once.
    fn fail(&mut self, position: usize, now: Instant) {
        self.silent[position] = false;
        self.hedge_at = now;
    }

    /// Who was asked last, and for how long it has been silent, unless it has failed.
    fn newest_silence(&self, now: Instant) -> Option<(usize, Duration)> {
        let (position, at) = *self.asked.last()?;
        self.silent[position].then_some((position, now - at))
    }

    /// The servers that were first asked before an attempt and are silent still.
    fn silent_before(&self, attempt: usize) -> impl Iterator<Item = usize> {
        (0..self.silent.len())
            .filter(move |&server| self.silent[server] && self.asked[..attempt].iter().any(|(at, _)| *at == server))
    }
}
