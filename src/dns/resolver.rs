//! What happens when the cache has no answer: ask upstream once however many wait, apply the CNAME rule, remember.
//!
//! The listeners call [`Resolver::answer`] with what `respond` could not answer; `discovery` and `forward` look names up
//! through the same object, so that everything this process asks leaves by one way.

mod accept;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::accept::failure;
use super::answer::{self, Answer};
use super::cache::{Cache, Hit, Validity};
use super::chain;
use super::message::Message;
use super::query::Query;
use super::question::{CacheKey, Question};
use super::relevance::keep_relevant;
use super::reply::ReplyLimit;
use super::respond::local;
use super::upstream::{AskError, First, OwnSockets, Peer, Prompt, Upstreams};
use super::wire::{ExtendedError, rcode};
use crate::policy::{HostName, Table, Upstream, route};

/// The whole answer is there within this, or a SERVFAIL is: stub resolvers wait five seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// With a stale answer at hand, the client waits no longer than this (RFC 8767 section 5).
const STALE_AFTER: Duration = Duration::from_millis(1800);
/// Seconds a failure is remembered, RFC 9520 section 3.2.
const FAILURE_LIFETIME: u32 = 5;
/// Questions under way at most, and those among them whose client subnet keeps them from being shared.
const MAX_FLIGHTS: usize = 4096;
const MAX_UNSHARED: usize = 256;

/// What public DNS says of a name that could be a private API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    Exists,
    NoSuchName,
}

/// Told of every answer from public DNS about a name whose id is learned from it; it has published a new table, if it
/// wants to, by the time it returns.
pub type Observer = Arc<dyn Fn(&HostName, Existence) + Send + Sync>;

/// An answer and whether its time is over.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// With the seconds since it was stored.
    Fresh(Answer, u32),
    Stale(Answer),
}

impl Resolved {
    /// What was said, whether it is still so or not.
    pub fn answer(&self) -> &Answer {
        match self {
            Resolved::Fresh(answer, _) | Resolved::Stale(answer) => answer,
        }
    }

    /// Seconds for which it may still be kept.
    pub fn seconds_left(&self) -> u32 {
        match self {
            Resolved::Fresh(answer, age) => answer.lifetime().saturating_sub(*age),
            Resolved::Stale(answer) => answer.lifetime().min(answer::STALE_TTL),
        }
    }

    /// The response code of the reply to a query.
    #[inline]
    pub fn rcode_for(&self, query: &Query<'_>) -> u16 {
        self.answer().rcode_for(query)
    }

    /// Writes the reply to a client.
    pub fn render(&self, query: &Query<'_>, limit: ReplyLimit, out: &mut Vec<u8>) {
        match self {
            Resolved::Fresh(answer, age) => answer.render(query, *age, limit, out),
            Resolved::Stale(answer) => answer.render_stale(query, limit, out),
        }
    }
}

impl From<Hit> for Resolved {
    fn from(hit: Hit) -> Self {
        if hit.stale { Resolved::Stale(hit.answer) } else { Resolved::Fresh(hit.answer, hit.age) }
    }
}

/// What happened beneath the cache, counted since the start.
#[derive(Debug, Default)]
pub struct ResolverCounters {
    /// Questions that somebody else was asking already.
    pub coalesced: AtomicU64,
    /// Questions not asked, as too many others were under way.
    pub at_bound: AtomicU64,
    /// Answers that the cache had no room for any more.
    pub evicted: AtomicU64,
}

type Flight = watch::Receiver<Option<Answer>>;

/// Cache, upstreams and what is under way between them.
pub struct Resolver {
    table: watch::Receiver<Arc<Table>>,
    upstreams: Arc<Upstreams>,
    cache: Arc<Cache>,
    flights: Mutex<HashMap<(Upstream, Question), Flight>>,
    direct: AtomicUsize,
    observer: Option<Observer>,
    counters: Arc<ResolverCounters>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver with an empty cache of at most `cache_bytes`.
    pub fn new(
        table: watch::Receiver<Arc<Table>>,
        upstreams: Upstreams,
        cache_bytes: usize,
        observer: Option<Observer>,
    ) -> Self {
        let (upstreams, cache) = (Arc::new(upstreams), Arc::new(Cache::new(cache_bytes)));
        let (flights, direct) = (Mutex::default(), AtomicUsize::new(0));
        Self { table, upstreams, cache, flights, direct, observer, counters: Arc::default() }
    }

    /// Goes on counting where the one before it is.
    pub fn succeeding(self, before: &Self) -> Self {
        Self { counters: Arc::clone(&before.counters), ..self }
    }

    /// A resolver for another table with the same upstreams, and with what is cached of them.
    pub fn with_table(&self, table: watch::Receiver<Arc<Table>>, observer: Option<Observer>) -> Self {
        let (upstreams, cache) = (Arc::clone(&self.upstreams), Arc::clone(&self.cache));
        let (flights, direct) = (Mutex::default(), AtomicUsize::new(0));
        Self { table, upstreams, cache, flights, direct, observer, counters: Arc::clone(&self.counters) }
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }

    /// To see without waiting whether the table has changed.
    pub fn watch_table(&self) -> watch::Receiver<Arc<Table>> {
        self.table.clone()
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    pub fn counters(&self) -> &ResolverCounters {
        &self.counters
    }

    /// The sockets on which an upstream is awaited: a query that comes from one of them has looped.
    pub fn own_sockets(&self) -> &OwnSockets {
        self.upstreams.own_sockets()
    }

    /// Answers a question by asking a group, or by joining whoever asks it already. Always returns within
    /// four seconds; a failure is an answer too.
    pub async fn answer(self: &Arc<Self>, question: Question, upstream: Upstream) -> Resolved {
        self.answer_since(question, upstream, Instant::now()).await
    }

    /// As [`Resolver::answer`], for who has waited since `asked`: the four seconds count from there.
    pub async fn answer_since(self: &Arc<Self>, question: Question, upstream: Upstream, asked: Instant) -> Resolved {
        let now = Instant::now();
        let key = CacheKey::of_question(&question, upstream);
        self.renew(&question, upstream);
        let generation = self.table.borrow().generation;
        if let Some(hit) = key.and_then(|key| self.cache.get(&key, now.into_std(), generation)) {
            return hit.into();
        }
        let stale = key.and_then(|key| self.cache.get_stale(&key, now.into_std(), generation));
        let until = asked + if stale.is_some() { STALE_AFTER } else { ANSWER_WITHIN };
        let answer = match self.flight(&question, upstream, None) {
            Ok(mut flight) => timeout_at(until, landed(&mut flight)).await.ok().flatten(),
            Err(answer) => Some(answer),
        };
        match (answer, stale) {
            (Some(answer), _) if !answer.is_failure() => Resolved::Fresh(answer, 0),
            (_, Some(stale)) => Resolved::Stale(stale),
            (Some(failure), None) => Resolved::Fresh(failure, 0),
            (None, None) => Resolved::Fresh(failure(&question, upstream, &AskError::Timeout), 0),
        }
    }

    /// Lets what the cache has for a question hold good under the table in force, if that routes the names it passes through as
    /// before; whether that was needed, and is so.
    pub fn renew(&self, question: &Question, upstream: Upstream) -> bool {
        let Some(key) = CacheKey::of_question(question, upstream) else { return false };
        let table = self.table();
        self.cache.renew(&key, table.generation, |answer| chain::routing(&answer.message(), question, &table))
    }

    /// Asks again in the background, for an answer that is popular and runs out soon.
    pub fn refresh(self: &Arc<Self>, question: &Question, upstream: Upstream) {
        // At the bound the answer just runs out.
        let _ = self.flight(question, upstream, None);
    }

    /// Goes on with a question that was sent to one server already; whoever waits for it joins by [`Resolver::answer`].
    pub fn go_on(self: &Arc<Self>, question: &Question, upstream: Upstream, first: First) {
        // At the bound whoever joins is told.
        let _ = self.flight(question, upstream, Some(first));
    }

    /// Asks one group directly: no policy, no cache. For our own look-ups of endpoint addresses.
    ///
    /// # Errors
    /// When no server of the group answers within four seconds.
    pub async fn look_up(&self, question: &Question, upstream: Upstream) -> Result<Message, AskError> {
        let mut message = self.upstreams.ask(upstream, question, Instant::now() + ANSWER_WITHIN, None).await?;
        keep_relevant(&mut message, question.name.wire());
        Ok(message)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<(Upstream, Question), Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Questions under way.
    pub fn in_flight(&self) -> usize {
        self.flights().len() + self.direct.load(Ordering::Relaxed)
    }

    /// Whom a listener may ask a question by itself, and how: a prompt server, unless somebody asks this already.
    pub fn prompt(&self, question: &Question, upstream: Upstream) -> Option<(Arc<Peer>, Prompt)> {
        let (peer, prompt) = self.upstreams.prompt(upstream, question)?;
        let flights = self.flights();
        let is_asked = !flights.is_empty() && flights.contains_key(&(upstream, question.clone()));
        (!is_asked).then(|| (Arc::clone(peer), prompt))
    }

    /// The number of questions that listeners are asking by themselves: each counts its own.
    pub fn direct(&self) -> &AtomicUsize {
        &self.direct
    }

    /// The flight that carries this question, started if there is none. It has its full time, however little whoever
    /// asked has left: its answer serves the next one.
    fn flight(
        self: &Arc<Self>,
        question: &Question,
        upstream: Upstream,
        first: Option<First>,
    ) -> Result<Flight, Answer> {
        let mut flights = self.flights();
        let key = (upstream, question.clone());
        if let Some(flight) = flights.get(&key) {
            self.counters.coalesced.fetch_add(1, Ordering::Relaxed);
            return Ok(flight.clone());
        }
        let unshared = || flights.keys().filter(|(_, question)| !question.is_cacheable()).count();
        if flights.len() >= MAX_FLIGHTS || !question.is_cacheable() && unshared() >= MAX_UNSHARED {
            self.counters.at_bound.fetch_add(1, Ordering::Relaxed);
            let text = "too many questions under way";
            return Err(Answer::failure(question.name.wire(), question.qtype, ExtendedError::Other, text, 0));
        }
        let (land, flight) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        let run = Arc::clone(self).run(question.clone(), upstream, first);
        let landing = Landing { resolver: Arc::clone(self), key };
        tokio::spawn(async move {
            let answer = run.await;
            drop(landing);
            // Everybody may have stopped waiting.
            let _ = land.send(Some(answer));
        });
        Ok(flight)
    }

    /// Boxed, because the tail of an answer may start a flight of its own.
    fn run(
        self: Arc<Self>,
        question: Question,
        upstream: Upstream,
        first: Option<First>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        Box::pin(async move {
            let reply = self.upstreams.ask(upstream, &question, Instant::now() + ANSWER_WITHIN, first).await;
            let (answer, validity) = match reply {
                Ok(message) if message.rcode != rcode::SERVFAIL => self.accept(message, &question, upstream).await,
                Ok(servfail) if servfail.options.is_empty() => {
                    (failure(&question, upstream, &AskError::Lame("SERVFAIL")), Validity::Always)
                }
                Ok(servfail) => {
                    let message = Message { rcode: rcode::SERVFAIL, options: servfail.options, ..Message::default() };
                    (
                        Answer::encode(question.name.wire(), question.qtype, &message, 0).kept_for(FAILURE_LIFETIME),
                        Validity::Always,
                    )
                }
                Err(error) => (failure(&question, upstream, &error), Validity::Always),
            };
            self.keep(&question, upstream, answer, validity)
        })
    }

    /// Makes an upstream's reply an answer of ours: drops what does not belong, applies the CNAME rule. Also says
    /// under which tables it holds good.
    async fn accept(self: &Arc<Self>, message: Message, question: &Question, upstream: Upstream) -> (Answer, Validity) {
        let mut accepted = self.examine(message, question, upstream);
        if let Some(cut) = accepted.cut.take() {
            let tail = self.tail(&accepted.table, question.about(cut.tail)).await;
            accepted.message = chain::join(cut.kept, tail);
        }
        accepted.conclude(question)
    }

    /// Answers the name at which an answer was cut, by the table that cut it: what that routes elsewhere never comes
    /// back to the group that is being asked, so tails cannot loop.
    async fn tail(self: &Arc<Self>, table: &Table, question: Question) -> Message {
        let packet = question.to_wire(true);
        let Ok(query) = Query::parse(&packet) else { return Message::default() };
        let mut reply = Vec::new();
        let (limit, now) = (ReplyLimit::Stream, Instant::now().into_std());
        // Whatever `dns.answer` says: who asked for another name would be refused by the forwarder.
        if let Some(upstream) = local(&query, &route(table, &query.name), None, now, limit, &mut reply) {
            Box::pin(self.answer(question, upstream)).await.render(&query, limit, &mut reply);
        }
        // What a client would be told who asks for the tail itself, TTLs and extended errors included.
        Message::parse(&reply).unwrap_or_default()
    }
}

/// Takes a question off the list of those under way, however its flight ends.
struct Landing {
    resolver: Arc<Resolver>,
    key: (Upstream, Question),
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.resolver.flights().remove(&self.key);
    }
}

/// Waits until a flight has landed; `None` if it never will.
async fn landed(flight: &mut Flight) -> Option<Answer> {
    flight.wait_for(Option::is_some).await.ok()?.clone()
}
