//! A group of servers that know the same names: whom to ask first, when to ask the next, when to give up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::bootstrap::Bootstrap;
use super::exchange::AskError;
use super::peer::Peer;
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::dns::wire::rcode;

/// A server that has not answered by then is joined by the next one.
const HEDGE: Duration = Duration::from_millis(300);
/// The same for a server that was asked before: one datagram may be lost, two in a row seldom are.
const RETRY: Duration = Duration::from_millis(1000);
/// Times each server is asked one question at most.
const ROUNDS: usize = 2;

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
    /// silent is asked once more, since a datagram may be lost; one that fails is not.
    ///
    /// # Errors
    /// What the last server to fail said; `Timeout` if all are silent. A SERVFAIL is given back as an answer if no
    /// server has a better one.
    pub async fn ask(
        &self,
        question: &Question,
        bootstrap: Bootstrap<'_>,
        deadline: Instant,
    ) -> Result<Message, AskError> {
        let order = self.order();
        let mut attempts = Attempts { silent: vec![true; order.len()], next: 0 };
        let mut running = FuturesUnordered::new();
        let mut newest: Option<(usize, Instant)> = None;
        let mut next_at = Instant::now();
        let mut outcome = Err(AskError::NoServer);
        let mut failed_over = true;
        loop {
            if failed_over || Instant::now() >= next_at {
                if let (false, Some((position, asked))) = (failed_over, newest) {
                    order[position].slow(asked.elapsed());
                }
                match attempts.next() {
                    Some(position) => {
                        newest = Some((position, Instant::now()));
                        next_at = Instant::now() + if attempts.is_first_round() { HEDGE } else { RETRY };
                        let peer = &order[position];
                        let asked = async move { timeout_at(deadline, peer.ask(question, bootstrap)).await };
                        running.push(asked.map(move |result| (position, result)));
                    }
                    None if running.is_empty() => return outcome,
                    None => next_at = deadline,
                }
                failed_over = false;
            }
            tokio::select! {
                Some((position, result)) = running.next() => match result {
                    Ok(Ok(message)) if message.rcode != rcode::SERVFAIL => return Ok(message),
                    Ok(failed) => {
                        outcome = match (outcome, failed) {
                            (Ok(servfail), Err(_)) => Ok(servfail),
                            (_, failed) => failed,
                        };
                        attempts.silent[position] = false;
                        failed_over = true;
                    }
                    Err(_elapsed) => {}
                },
                () = sleep_until(next_at.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                if let Some((position, asked)) = newest {
                    order[position].slow(asked.elapsed());
                    order[position].health().failed();
                }
                return outcome.or(Err(AskError::Timeout));
            }
        }
    }

    /// Servers by rank, ties in the order of the configuration.
    fn order(&self) -> Vec<Arc<Peer>> {
        let mut order = self.peers.clone();
        order.sort_by_cached_key(|peer| peer.health().rank());
        order
    }

    /// A server that is not the first choice and has not been asked for a while; it should be, in the background.
    pub fn probe_due(&self) -> Option<Arc<Peer>> {
        let now = Instant::now().into_std();
        self.order().into_iter().skip(1).find(|peer| peer.health().is_probe_due(now))
    }
}

/// Which server of an order is asked next: each once, then those that are still silent once more.
struct Attempts {
    silent: Vec<bool>,
    next: usize,
}

impl Attempts {
    fn next(&mut self) -> Option<usize> {
        let count = self.silent.len();
        let attempt = (self.next..ROUNDS * count).find(|attempt| self.silent[attempt % count])?;
        self.next = attempt + 1;
        Some(attempt % count)
    }

    /// Whether the server that comes next has not been asked yet.
    fn is_first_round(&self) -> bool {
        self.next < self.silent.len()
    }
}
