//! How many queries were answered, by the way they went: what rates and hit ratios are made of.
//!
//! `service` counts each query once, when its reply is written. The counters are many small sets, one for every thread that
//! counts as far as there are enough, so that no two UDP workers write to one cache line; whoever reads adds them up.

use std::array;
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::upstream::Protocol;
use super::wire::rcode;
use crate::policy::Upstream;

/// Sets of counters at most: two for each core, up to this.
const MAX_SHARDS: usize = 128;

/// What a query came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Https,
}

impl Transport {
    pub const ALL: [Transport; 4] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https];

    /// Its name in metrics: the label `transport`.
    pub fn label(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Https => "https",
        }
    }

    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Https)
    }

    /// What its sockets speak.
    pub fn protocol(self) -> Protocol {
        if self == Transport::Udp { Protocol::Udp } else { Protocol::Tcp }
    }
}

/// Which way a query went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Answered with an endpoint's addresses, or refused for want of one.
    Endpoint,
    /// The policy says that the name does not exist.
    Nonexistent,
    /// A required list is missing.
    NotReady,
    /// By what the `public` group says, in the cache or now.
    Public,
    /// By what the `vpc` group says.
    Vpc,
    /// By what the servers of an `[[upstream.zone]]` say.
    Zone,
    /// Our own corner of `.invalid`, which `/live` asks for.
    Health,
    /// From a client that is not in `clients`.
    Refused,
    /// No query that is served: malformed, or of another opcode, class, EDNS version or type.
    Invalid,
}

impl Way {
    pub const ALL: [Way; 9] = [
        Way::Endpoint,
        Way::Nonexistent,
        Way::NotReady,
        Way::Public,
        Way::Vpc,
        Way::Zone,
        Way::Health,
        Way::Refused,
        Way::Invalid,
    ];

    /// Its name in metrics: the label `route`.
    pub fn label(self) -> &'static str {
        match self {
            Way::Endpoint => "endpoint",
            Way::Nonexistent => "nonexistent",
            Way::NotReady => "not_ready",
            Way::Public => "public",
            Way::Vpc => "vpc",
            Way::Zone => "zone",
            Way::Health => "health",
            Way::Refused => "refused",
            Way::Invalid => "invalid",
        }
    }
}

impl From<Upstream> for Way {
    fn from(upstream: Upstream) -> Self {
        match upstream {
            Upstream::Public => Way::Public,
            Upstream::Vpc => Way::Vpc,
            Upstream::Zone(_) => Way::Zone,
        }
    }
}

/// Where an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Nowhere: this resolver wrote it.
    Here,
    /// In the cache.
    Cached,
    /// In the cache, after its time.
    Stale,
    /// It had to be asked for.
    Asked,
}

impl Found {
    pub const ALL: [Found; 4] = [Found::Here, Found::Cached, Found::Stale, Found::Asked];

    /// Its name for operators.
    pub fn label(self) -> &'static str {
        match self {
            Found::Here => "here",
            Found::Cached => "cached",
            Found::Stale => "stale",
            Found::Asked => "asked",
        }
    }
}

/// Response codes by name; what has none here is "other".
const RCODES: [(u16, &str); 7] = [
    (rcode::NOERROR, "NOERROR"),
    (rcode::FORMERR, "FORMERR"),
    (rcode::SERVFAIL, "SERVFAIL"),
    (rcode::NXDOMAIN, "NXDOMAIN"),
    (rcode::NOTIMP, "NOTIMP"),
    (rcode::REFUSED, "REFUSED"),
    (rcode::BADVERS, "BADVERS"),
];
const OTHER_RCODE: &str = "other";

/// A response code by its name (RFC 6895), "other" for those that are seldom seen.
pub fn rcode_label(rcode: u16) -> &'static str {
    RCODES.iter().find(|(code, _)| *code == rcode).map_or(OTHER_RCODE, |(_, label)| label)
}

const KINDS: usize = Transport::ALL.len() * Way::ALL.len() * Found::ALL.len() * (RCODES.len() + 1);

/// One way in which queries were answered, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    pub transport: Transport,
    pub way: Way,
    pub found: Found,
    /// The response code by its name (RFC 6895), "other" for those that are seldom seen.
    pub rcode: &'static str,
    pub count: u64,
}

/// The counters of one plane, since it started.
pub struct Tally {
    shards: Box<[Shard]>,
}

/// On cache lines of its own; processors fetch them in pairs.
#[repr(align(128))]
struct Shard([AtomicU64; KINDS]);

thread_local! {
    /// The number of this thread among those that count.
    static THREAD: Cell<Option<NonZeroUsize>> = const { Cell::new(None) };
}
static THREADS: AtomicUsize = AtomicUsize::new(1);

impl Default for Tally {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let shards = (2 * cores).min(MAX_SHARDS);
        Self { shards: (0..shards).map(|_| Shard(array::from_fn(|_| AtomicU64::new(0)))).collect() }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl Tally {
    /// Counts one query.
    #[inline]
    pub fn count(&self, transport: Transport, way: Way, found: Found, rcode: u16) {
        let rcode = RCODES.iter().position(|(code, _)| *code == rcode).unwrap_or(RCODES.len());
        let kind = ((transport as usize * Way::ALL.len() + way as usize) * Found::ALL.len() + found as usize)
            * (RCODES.len() + 1)
            + rcode;
        if let Some(counter) = self.shards.get(thread_number() % self.shards.len()).and_then(|shard| shard.0.get(kind))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every way that was taken so far.
    pub fn totals(&self) -> Vec<Total> {
        let rcodes = || RCODES.iter().map(|(_, name)| *name).chain([OTHER_RCODE]);
        let kinds = Transport::ALL.into_iter().flat_map(|transport| {
            Way::ALL.into_iter().flat_map(move |way| {
                Found::ALL.into_iter().flat_map(move |found| rcodes().map(move |rcode| (transport, way, found, rcode)))
            })
        });
        let totals = kinds.enumerate().map(|(kind, (transport, way, found, rcode))| {
            let count = self.shards.iter().map(|shard| shard.0[kind].load(Ordering::Relaxed)).sum();
            Total { transport, way, found, rcode, count }
        });
        totals.filter(|total| total.count > 0).collect()
    }
}

#[inline]
fn thread_number() -> usize {
    THREAD.with(|own| match own.get() {
        Some(number) => number.get(),
        None => {
            // Around the end of the numbers it begins again; two threads then share a set.
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            own.set(NonZeroUsize::new(number));
            number
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_counter_of_its_own_and_unknown_codes_share_one() {
        let tally = Tally::default();
        let codes = [0, 1, 2, 3, 4, 5, 16, 23];
        for transport in Transport::ALL {
            for way in Way::ALL {
                for found in Found::ALL {
                    codes.into_iter().for_each(|code| tally.count(transport, way, found, code));
                }
            }
        }
        let totals = tally.totals();
        assert_eq!(totals.len(), KINDS);
        assert!(totals.iter().all(|total| total.count == 1));
        for code in [6, 11, 17, 22, 4095, u16::MAX] {
            tally.count(Transport::Udp, Way::Public, Found::Cached, code);
        }
        let others = |total: &&Total| total.count == 7 && total.rcode == OTHER_RCODE && total.way == Way::Public;
        assert_eq!(tally.totals().iter().filter(others).count(), 1);
    }

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        let tally = Tally::default();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..10_000).for_each(|_| tally.count(Transport::Udp, Way::Endpoint, Found::Here, rcode::NOERROR));
                });
            }
        });
        let (transport, way, found) = (Transport::Udp, Way::Endpoint, Found::Here);
        assert_eq!(tally.totals(), [Total { transport, way, found, rcode: "NOERROR", count: 80_000 }]);
    }
}
