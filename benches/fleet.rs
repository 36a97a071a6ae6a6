//! What a fleet costs the account: `GetRestApis` has 10 requests a second and a burst of 40 for all that an account does
//! with API Gateway's control plane, deployments too. A simulation of an hour, event by event; README.md beside this file
//! has its table and says what is modelled.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, reason = "a simulation that cannot go on stops at once")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use sidegate::discovery::{Outcome, Schedule};

/// API Gateway guide, "Quotas": requests a second for an account, and its burst.
const RATE: f64 = 10.0;
const BURST: f64 = 40.0;
/// 1,200 APIs in pages of 500.
const PAGES: u32 = 3;
const INTERVAL: Duration = Duration::from_secs(60);
/// The SDK's adaptive retry waits this long after a throttled request: its own bucket gets a token every two seconds then,
/// and such a retry costs ten of them.
const RETRY: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(20)];
/// A read is given up after this.
const WITHIN: Duration = Duration::from_secs(60);
/// From a request to its answer.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// A rollout starts the whole fleet within this.
const ROLLOUT: Duration = Duration::from_secs(60);
/// What the account's own deployments do with the control plane, on average.
const DEPLOYMENT: Duration = Duration::from_secs(1);
/// A change of a file is in force after this at most.
const FILE: Duration = Duration::from_secs(2);

fn main() {
    // `cargo test` only wants to know whether it works.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (sizes, length) = if is_bench {
        (&[1, 100, 1_000, 10_000][..], Duration::from_secs(3600))
    } else {
        (&[1, 100][..], Duration::from_secs(300))
    };
    println!(
        "| arrangement | sidecars | calls/s on paper | calls/s | in the worst second | throttled | of deployments throttled \
         | never had a list | oldest list | requests/s at the URL | in the worst second |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for arrangement in [Arrangement::EachPolls, Arrangement::JobAndUrl, Arrangement::JobAndFile] {
        for &sidecars in sizes {
            let run = Fleet::new(arrangement, sidecars, length).run();
            println!("{}", run.row());
            if arrangement != Arrangement::EachPolls {
                assert_eq!(run.throttled, 0, "one job is never throttled");
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrangement {
    /// Every sidecar asks API Gateway.
    EachPolls,
    /// One job asks once an interval and publishes what it got; every sidecar asks the URL.
    JobAndUrl,
    /// The same, and the list comes to every sidecar as a file.
    JobAndFile,
}

/// Whoever asks API Gateway: a sidecar or the job.
struct Reader {
    /// `None`: a job, started anew each interval.
    schedule: Option<Schedule>,
    /// When the read under way began.
    began: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A reader asks for a page.
    Page { reader: usize, page: u32 },
    /// A deployment calls the control plane.
    Deployment,
    /// A sidecar asks the URL.
    Poll { sidecar: usize },
}

/// The account's requests that are left.
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Bucket {
    fn admits(&mut self, now: Duration) -> bool {
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        let admits = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(admits));
        admits
    }
}

/// Requests, and the most of them within one second of the clock.
#[derive(Default)]
struct Requests {
    count: u64,
    second: u64,
    in_second: u64,
    worst: u64,
}

impl Requests {
    fn add(&mut self, now: Duration) {
        if now.as_secs() != self.second {
            (self.second, self.in_second) = (now.as_secs(), 0);
        }
        self.count += 1;
        self.in_second += 1;
        self.worst = self.worst.max(self.in_second);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere and for ever, so that the table can be made again.
struct Chance(u64);

impl Chance {
    /// From 0 up to but not including 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// An account, its fleet, its deployments.
struct Fleet {
    arrangement: Arrangement,
    sidecars: usize,
    length: Duration,
    chance: Chance,
    /// By time; events of one moment in the order in which they were planned.
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    planned: u64,
    bucket: Bucket,
    readers: Vec<Reader>,
    /// Of each sidecar that asks the URL.
    polls: Vec<Schedule>,
    /// Of each list that somebody has: when the read of it began, or its owner's start.
    as_of: Vec<Duration>,
    has_one: Vec<bool>,
    /// What the job has published.
    published: Duration,
    oldest: Duration,
    calls: Requests,
    throttled: u64,
    deployments: u64,
    deployments_throttled: u64,
    url: Requests,
}

impl Fleet {
    fn new(arrangement: Arrangement, sidecars: usize, length: Duration) -> Self {
        let mut fleet = Self {
            arrangement,
            sidecars,
            length,
            chance: Chance(1),
            events: BinaryHeap::new(),
            planned: 0,
            bucket: Bucket { tokens: BURST, at: Duration::ZERO },
            readers: Vec::new(),
            polls: Vec::new(),
            as_of: Vec::new(),
            has_one: Vec::new(),
            published: Duration::ZERO,
            oldest: Duration::ZERO,
            calls: Requests::default(),
            throttled: 0,
            deployments: 0,
            deployments_throttled: 0,
            url: Requests::default(),
        };
        fleet.plan(Duration::ZERO, Event::Deployment);
        if arrangement == Arrangement::EachPolls {
            for reader in 0..sidecars {
                let start = ROLLOUT.mul_f64(fleet.chance.next());
                fleet.readers.push(Reader { schedule: Some(Schedule::new(INTERVAL)), began: start });
                fleet.as_of.push(start);
                fleet.plan(start, Event::Page { reader, page: 0 });
            }
        } else {
            fleet.readers.push(Reader { schedule: None, began: Duration::ZERO });
            fleet.plan(Duration::ZERO, Event::Page { reader: 0, page: 0 });
        }
        match arrangement {
            Arrangement::EachPolls => {}
            // The same for all.
            Arrangement::JobAndFile => fleet.as_of.push(Duration::ZERO),
            Arrangement::JobAndUrl => {
                for sidecar in 0..sidecars {
                    // The job has published before the fleet starts.
                    let start = INTERVAL + ROLLOUT.mul_f64(fleet.chance.next());
                    fleet.polls.push(Schedule::new(INTERVAL));
                    fleet.as_of.push(start);
                    fleet.plan(start, Event::Poll { sidecar });
                }
            }
        }
        fleet.has_one = vec![false; fleet.as_of.len()];
        fleet
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.push(Reverse((at, self.planned, event)));
    }

    fn run(mut self) -> Self {
        while let Some(Reverse((now, _, event))) = self.events.pop().filter(|Reverse((at, ..))| *at < self.length) {
            match event {
                Event::Page { reader, page } => self.page(now, reader, page),
                Event::Deployment => {
                    self.deployments += 1;
                    self.deployments_throttled += u64::from(!self.bucket.admits(now));
                    // Independent of each other: exponential waits.
                    let wait = DEPLOYMENT.mul_f64(-(1.0 - self.chance.next()).ln());
                    self.plan(now + wait, Event::Deployment);
                }
                Event::Poll { sidecar } => {
                    self.url.add(now);
                    self.has_list(now, sidecar, self.published);
                    let wait = self.polls[sidecar].after(Outcome::Read, self.chance.next());
                    self.plan(now + wait, Event::Poll { sidecar });
                }
            }
        }
        for as_of in &self.as_of {
            self.oldest = self.oldest.max(self.length - *as_of);
        }
        if self.arrangement == Arrangement::JobAndFile {
            self.oldest += FILE;
        }
        self
    }

    fn page(&mut self, now: Duration, reader: usize, page: u32) {
        self.calls.add(now);
        let answered = now + ROUND_TRIP;
        if self.bucket.admits(now) {
            if page + 1 < PAGES {
                self.plan(answered, Event::Page { reader, page: page + 1 });
            } else {
                self.is_over(answered, reader, Outcome::Read);
            }
            return;
        }
        self.throttled += 1;
        let [least, most] = RETRY;
        let retry = answered + least + (most - least).mul_f64(self.chance.next());
        let until = self.readers[reader].began + WITHIN;
        if retry < until {
            self.plan(retry, Event::Page { reader, page });
        } else {
            self.is_over(until, reader, Outcome::Failed);
        }
    }

    /// A read has ended, the next is planned.
    fn is_over(&mut self, now: Duration, reader: usize, outcome: Outcome) {
        let began = self.readers[reader].began;
        if outcome == Outcome::Read {
            match self.arrangement {
                Arrangement::EachPolls => self.has_list(now, reader, began),
                Arrangement::JobAndFile => self.has_list(now, 0, began),
                Arrangement::JobAndUrl => self.published = began,
            }
        }
        let chance = self.chance.next();
        let next = match &mut self.readers[reader].schedule {
            Some(schedule) => now + schedule.after(outcome, chance),
            None => (began + INTERVAL).max(now),
        };
        self.readers[reader].began = next;
        self.plan(next, Event::Page { reader, page: 0 });
    }

    /// A sidecar gets a list; the one it had was never older than just before.
    fn has_list(&mut self, now: Duration, sidecar: usize, as_of: Duration) {
        self.oldest = self.oldest.max(now - self.as_of[sidecar]);
        self.as_of[sidecar] = as_of;
        self.has_one[sidecar] = true;
    }

    /// What everybody asks for where nobody is throttled: a wait is between four fifths of the interval and all of it.
    fn calls_on_paper(&self) -> f64 {
        let seconds = INTERVAL.as_secs_f64();
        let pages = f64::from(PAGES);
        match self.arrangement {
            Arrangement::EachPolls => self.sidecars as f64 * pages / (0.9 * seconds + pages * ROUND_TRIP.as_secs_f64()),
            Arrangement::JobAndUrl | Arrangement::JobAndFile => pages / seconds,
        }
    }

    fn row(&self) -> String {
        let arrangement = match self.arrangement {
            Arrangement::EachPolls => "each asks API Gateway",
            Arrangement::JobAndUrl => "one job and a URL",
            Arrangement::JobAndFile => "one job and a file",
        };
        let seconds = self.length.as_secs_f64();
        let share = |part: u64, whole: u64| format!("{:.1} %", 100.0 * part as f64 / whole as f64);
        let without = self.has_one.iter().filter(|has_one| !**has_one).count();
        format!(
            "| {arrangement} | {} | {:.2} | {:.2} | {} | {} | {} | {without} | {:.0} s | {:.2} | {} |",
            self.sidecars,
            self.calls_on_paper(),
            self.calls.count as f64 / seconds,
            self.calls.worst,
            share(self.throttled, self.calls.count),
            share(self.deployments_throttled, self.deployments),
            self.oldest.as_secs_f64(),
            self.url.count as f64 / seconds,
            self.url.worst,
        )
    }
}
