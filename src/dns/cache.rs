//! Answers remembered, bounded in bytes.
//!
//! `respond` looks up, `resolver` inserts. Whole answers are kept as sent (RFC 2308 for negative ones, RFC 9520 for
//! failures); one that has run out stays for a while in case no upstream answers (RFC 8767). Sixteen shards, each behind
//! its own lock, each evicting by the clock algorithm: an entry used since the hand last passed is spared once.

mod shard;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::shard::{Entry, Shard};
use super::answer::Answer;
use super::question::CacheKey;

const SHARDS: usize = 16;
/// How long after it was stored an answer may be served stale. Counted from the first insertion: serving it does not
/// prolong it.
const MAX_STALE: Duration = Duration::from_secs(86_400);
/// After upstreams failed for a stale answer, how long it is served without asking them again (RFC 8767 section 5).
const RECHECK: Duration = Duration::from_secs(5);

/// The cache of one DNS plane.
#[derive(Debug)]
pub struct Cache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// Bytes each shard may hold.
    shard_bytes: usize,
}

/// Under which tables an answer holds good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Under every one: nothing but the name that was asked for leads to it.
    Always,
    /// Under the table of this generation only.
    Only(u64),
    /// It passes through other names: under the table of this generation, and under later ones that route those names
    /// alike, which `routing` stands for.
    While { generation: u64, routing: u64 },
}

/// An answer found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub answer: Answer,
    /// Seconds since it was stored.
    pub age: u32,
    /// It has run out and upstreams failed lately.
    pub stale: bool,
    /// It is popular and nearly run out: ask again now, before anybody has to wait. Said once per entry.
    pub refresh: bool,
}

impl Cache {
    /// A cache that holds at most `bytes`, its own bookkeeping included.
    pub fn new(bytes: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_bytes: bytes / SHARDS,
        }
    }

    /// The shard of a key, and the key's hash.
    #[inline]
    fn shard(&self, key: &CacheKey<'_>) -> (MutexGuard<'_, Shard>, u64) {
        let hash = self.hasher.hash_one(key);
        // Neither the bits by which the index finds a group nor those by which it tells entries apart.
        let shard = (hash >> 48) as usize % SHARDS;
        // A shard is consistent between statements, so a panic elsewhere does not spoil it.
        (self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner), hash)
    }

    /// What may be served now. `generation` is that of the table in force.
    #[inline]
    pub fn get(&self, key: &CacheKey<'_>, now: Instant, generation: u64) -> Option<Hit> {
        let (mut shard, hash) = self.shard(key);
        let entry = shard.entry(hash, key)?;
        let age = now.saturating_duration_since(entry.stored);
        let lifetime = Duration::from_secs(entry.answer.lifetime().into());
        let fresh = age < lifetime && entry.is_of(generation);
        let stale = !fresh && entry.recheck_at.is_some_and(|at| now < at) && entry.may_serve_stale(now, generation);
        if !fresh && !stale {
            return None;
        }
        entry.used = true;
        entry.hits = entry.hits.saturating_add(1);
        let refresh = fresh
            && !entry.refreshing
            && entry.hits > 2
            && entry.recheck_at.is_none_or(|at| now >= at)
            && lifetime >= Duration::from_secs(10)
            && (lifetime - age) * 10 < lifetime;
        entry.refreshing |= refresh;
        Some(Hit { answer: entry.answer.clone(), age: age.as_secs() as u32, stale, refresh })
    }

    /// What has run out but may still be served while no upstream answers.
    pub fn get_stale(&self, key: &CacheKey<'_>, now: Instant, generation: u64) -> Option<Answer> {
        let (mut shard, hash) = self.shard(key);
        let entry = shard.entry(hash, key)?;
        entry.may_serve_stale(now, generation).then(|| entry.answer.clone())
    }

    /// Lets an answer hold good under the table of this generation too, if that routes the names it passes through as
    /// before; `routing` works that out from the answer. Whether it does so from now on.
    pub fn renew(&self, key: &CacheKey<'_>, generation: u64, routing: impl FnOnce(&Answer) -> u64) -> bool {
        let (mut shard, hash) = self.shard(key);
        let Some(entry) = shard.entry(hash, key) else { return false };
        if let Validity::While { generation: own, routing: before } = entry.validity
            && own != generation
            && routing(&entry.answer) == before
        {
            entry.validity = Validity::While { generation, routing: before };
            return true;
        }
        false
    }

    /// Keeps an answer, which is about the key's name, for its lifetime. Gives back how many others had to go for it before their time.
    pub fn insert(&self, key: &CacheKey<'_>, answer: Answer, now: Instant, validity: Validity) -> u64 {
        debug_assert!(answer.is_about(key.name), "an answer under another name");
        let (mut shard, hash) = self.shard(key);
        let entry = Entry {
            hash,
            head: key.head,
            answer,
            stored: now,
            validity,
            hits: 0,
            used: false,
            refreshing: false,
            recheck_at: None,
        };
        let cost = entry.cost();
        if let Some(slot) = shard.slot(hash, key) {
            shard.remove(slot);
        }
        // One entry may not push out a whole shard.
        if entry.answer.lifetime() == 0 || cost > self.shard_bytes / 4 {
            return 0;
        }
        let evicted = shard.make_room(self.shard_bytes.saturating_sub(cost));
        shard.put(entry, cost);
        evicted
    }

    /// Remembers that upstreams failed (RFC 9520): what is stale is served for a while without asking again; where there
    /// is nothing, the failure itself is. As [`Cache::insert`].
    pub fn insert_failure(&self, key: &CacheKey<'_>, failure: Answer, now: Instant, generation: u64) -> u64 {
        let (mut shard, hash) = self.shard(key);
        if let Some(entry) = shard.entry(hash, key) {
            entry.refreshing = false;
            let is_fresh = now < entry.expires() && entry.is_of(generation);
            if is_fresh || entry.may_serve_stale(now, generation) {
                entry.recheck_at = Some(now + RECHECK);
                return 0;
            }
            // A flight that set out under an older table says nothing about this one.
            if entry.is_newer_than(generation) {
                return 0;
            }
        }
        drop(shard);
        self.insert(key, failure, now, Validity::Only(generation))
    }

    /// Bytes that may be held.
    pub fn max_bytes(&self) -> usize {
        self.shard_bytes * SHARDS
    }

    /// Entries and bytes held.
    pub fn usage(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(entries, bytes), shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            (entries + shard.len(), bytes + shard.bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::message::{Message, Record};
    use crate::dns::question::Question;
    use crate::policy::Upstream;

    fn asked(name: &str) -> Question {
        Question::new(name.parse().unwrap(), 1)
    }

    fn key(question: &Question) -> CacheKey<'_> {
        CacheKey::of_question(question, Upstream::Public).unwrap()
    }

    fn answer(name: &str, ttl: u32) -> Answer {
        let owner: Box<[u8]> = asked(name).name.wire().into();
        let record = Record { owner: owner.clone(), rtype: 1, class: 1, ttl, rdata: [192, 0, 2, 1].into() };
        let message = Message { answer: vec![record], ..Message::default() };
        Answer::encode(&owner, 1, &message, u32::MAX)
    }

    fn failure(name: &str) -> Answer {
        let error = crate::dns::wire::ExtendedError::NoReachableAuthority;
        Answer::failure(asked(name).name.wire(), 1, error, "", 5)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_served_for_its_lifetime_and_not_longer() {
        let (cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert(&key(&asked("a")), answer("a", 30), start, Validity::Always);
        assert_eq!(cache.get(&key(&asked("a")), start + secs(29), 0).map(|hit| hit.age), Some(29));
        assert_eq!(cache.get(&key(&asked("a")), start + secs(30), 0), None);
        assert_eq!(cache.get(&key(&asked("b")), start, 0), None);
        cache.insert(&key(&asked("a")), answer("a", 0), start, Validity::Always);
        assert_eq!(cache.get(&key(&asked("a")), start, 0), None, "TTL 0 is for one use");
    }

    #[test]
    fn what_was_computed_under_another_routing_is_gone_at_once_even_as_stale() {
        let (cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert(&key(&asked("a")), answer("a", 30), start, Validity::Only(7));
        assert!(cache.get(&key(&asked("a")), start, 7).is_some());
        assert_eq!(cache.get(&key(&asked("a")), start, 8), None);
        assert_eq!(cache.get_stale(&key(&asked("a")), start, 8), None);
    }

    #[test]
    fn under_another_table_an_answer_holds_good_only_if_its_names_are_routed_as_before() {
        let (cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert(&key(&asked("a")), answer("a", 30), start, Validity::While { generation: 7, routing: 1 });
        assert_eq!(cache.get(&key(&asked("a")), start, 8), None);
        cache.renew(&key(&asked("a")), 8, |_| 2);
        assert_eq!(cache.get(&key(&asked("a")), start, 8), None);
        cache.renew(&key(&asked("a")), 8, |_| 1);
        assert!(cache.get(&key(&asked("a")), start, 8).is_some());
        cache.insert(&key(&asked("a")), answer("a", 30), start, Validity::Only(7));
        cache.renew(&key(&asked("a")), 8, |_| 1);
        assert_eq!(cache.get(&key(&asked("a")), start, 8), None);
    }

    #[test]
    fn stale_answers_serve_while_upstreams_fail_but_never_beyond_a_day_from_insertion() {
        let (cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert(&key(&asked("a")), answer("a", 30), start, Validity::Always);
        let late = start + secs(60);
        assert!(cache.get_stale(&key(&asked("a")), late, 0).is_some());
        cache.insert_failure(&key(&asked("a")), failure("a"), late, 0);
        assert!(cache.get(&key(&asked("a")), late, 0).unwrap().stale, "without asking again");
        assert_eq!(cache.get(&key(&asked("a")), late + RECHECK, 0), None, "then upstreams are asked again");
        let end = start + MAX_STALE;
        cache.insert_failure(&key(&asked("a")), failure("a"), end - secs(1), 0);
        assert!(cache.get(&key(&asked("a")), end - secs(1), 0).is_some_and(|hit| hit.stale));
        assert_eq!(cache.get(&key(&asked("a")), end, 0), None);
        assert_eq!(cache.get_stale(&key(&asked("a")), end, 0), None);
    }

    #[test]
    fn a_failure_is_remembered_where_there_is_nothing_better() {
        let (cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert_failure(&key(&asked("a")), failure("a"), start, 0);
        assert!(cache.get(&key(&asked("a")), start + secs(4), 0).unwrap().answer.is_failure());
        assert_eq!(cache.get(&key(&asked("a")), start + secs(5), 0), None);
        assert_eq!(cache.get_stale(&key(&asked("a")), start, 0), None, "a failure is never served stale");
        cache.insert(&key(&asked("b")), answer("b", 30), start, Validity::Always);
        cache.insert_failure(&key(&asked("b")), failure("b"), start + secs(1), 0);
        assert!(!cache.get(&key(&asked("b")), start + secs(1), 0).unwrap().answer.is_failure());
    }

    #[test]
    fn a_popular_answer_asks_once_to_be_refreshed_before_it_runs_out() {
        let (cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert(&key(&asked("a")), answer("a", 100), start, Validity::Always);
        let refreshes = |at: u64| cache.get(&key(&asked("a")), start + secs(at), 0).unwrap().refresh;
        assert_eq!([1, 2, 50, 90, 91, 92].map(refreshes), [false, false, false, false, true, false]);
    }

    #[test]
    fn a_failed_refresh_pauses_and_takes_nothing_away() {
        let (cache, start) = (Cache::new(1 << 20), Instant::now());
        cache.insert(&key(&asked("a")), answer("a", 100), start, Validity::While { generation: 8, routing: 1 });
        let late = start + secs(95);
        (0..2).for_each(|_| drop(cache.get(&key(&asked("a")), late, 8)));
        assert!(cache.get(&key(&asked("a")), late, 8).unwrap().refresh);
        cache.insert_failure(&key(&asked("a")), failure("a"), late, 8);
        assert!(!cache.get(&key(&asked("a")), late, 8).unwrap().refresh, "RFC 9520: not at once again");
        cache.insert_failure(&key(&asked("a")), failure("a"), late, 7);
        assert!(!cache.get(&key(&asked("a")), late, 8).unwrap().answer.is_failure(), "an older table has no say");
        let over = late + secs(6);
        assert_eq!(cache.get(&key(&asked("a")), over, 8), None);
        assert!(cache.get_stale(&key(&asked("a")), over, 8).is_some());
    }

    #[test]
    fn the_bound_in_bytes_holds_and_what_is_used_stays() {
        let (cache, start) = (Cache::new(256 * 1024), Instant::now());
        cache.insert(&key(&asked("popular")), answer("popular", 3600), start, Validity::Always);
        let mut evicted = 0;
        for i in 0..10_000 {
            evicted +=
                cache.insert(&key(&asked(&format!("n{i}"))), answer(&format!("n{i}"), 3600), start, Validity::Always);
            cache.get(&key(&asked("popular")), start, 0);
            assert!(cache.usage().1 <= 256 * 1024);
        }
        assert!(cache.get(&key(&asked("popular")), start, 0).is_some());
        let (entries, bytes) = cache.usage();
        assert_eq!(entries as u64 + evicted, 10_001);
        assert!(entries > 500 && bytes > 200 * 1024, "{entries} entries in {bytes} bytes");
    }
}
