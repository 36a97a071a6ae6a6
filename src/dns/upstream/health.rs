//! How well one server answers, judged by real questions only. Pure; `group` keeps one per server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a server counts as before it has answered: known fast ones are preferred, known slow ones are not.
const UNKNOWN: Duration = Duration::from_millis(150);
/// What each failure in a row adds to a server's rank, up to [`MAX_FAILURES`] times.
const PENALTY: Duration = Duration::from_millis(500);
const MAX_FAILURES: u32 = 16;
/// So many refusals in a row count as a failure: fewer may be owed to what a client asks for.
const MAX_REFUSALS: u32 = 3;
/// So many SERVFAILs in a row, each to a question that another server answered, count as a failure.
const MAX_SERVFAILS: u32 = 5;
/// Known to answer within this, a server is prompt; less than what is waited for before another one is asked.
const PROMPT: Duration = Duration::from_millis(100);
/// A server that is not the first choice is asked beside it this often, so that it can show that it is back.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// The record of one server.
#[derive(Debug, Clone, Default)]
pub struct Health {
    smoothed: Option<Duration>,
    failures: u32,
    refusals: u32,
    servfails: u32,
    asked_at: Option<Instant>,
    totals: Arc<Totals>,
}

/// What came of the questions to one server since the start; a reload that keeps the server goes on counting.
#[derive(Debug, Default)]
pub struct Totals {
    /// With whatever but SERVFAIL.
    pub answered: AtomicU64,
    pub servfail: AtomicU64,
    /// It would not.
    pub refused: AtomicU64,
    /// It did not: silence, or no connection.
    pub failed: AtomicU64,
}

impl Health {
    /// It answered after `elapsed`.
    pub fn answered(&mut self, elapsed: Duration) {
        self.totals.answered.fetch_add(1, Ordering::Relaxed);
        (self.failures, self.refusals, self.servfails) = (0, 0, 0);
        self.smoothed = Some(match self.smoothed {
            // As TCP smooths its round trips, RFC 6298: an eighth of the new sample.
            Some(smoothed) => (smoothed * 7 + elapsed) / 8,
            None => elapsed,
        });
    }

    /// It has not answered for `elapsed`, and somebody else is asked: it is at least as slow as that.
    pub fn slow(&mut self, elapsed: Duration) {
        self.smoothed = Some(self.smoothed.map_or(elapsed, |smoothed| smoothed.max(elapsed)));
    }

    /// It did not answer.
    pub fn failed(&mut self) {
        self.totals.failed.fetch_add(1, Ordering::Relaxed);
        self.fail();
    }

    fn fail(&mut self) {
        self.failures = (self.failures + 1).min(MAX_FAILURES);
    }

    /// It refused to answer.
    pub fn refused(&mut self) {
        self.totals.refused.fetch_add(1, Ordering::Relaxed);
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals >= MAX_REFUSALS {
            self.fail();
        }
    }

    /// It said SERVFAIL, which need not be its fault.
    pub fn said_servfail(&self) {
        self.totals.servfail.fetch_add(1, Ordering::Relaxed);
    }

    /// It said SERVFAIL where another server had an answer.
    pub fn servfailed(&mut self) {
        self.servfails = self.servfails.saturating_add(1);
        if self.servfails >= MAX_SERVFAILS {
            self.fail();
        }
    }

    /// It is being asked now.
    pub fn asked(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// Servers are asked in the order of this, least first.
    pub fn rank(&self) -> Duration {
        self.smoothed.unwrap_or(UNKNOWN) + PENALTY * self.failures
    }

    /// Whether it answers so soon, and so surely, that a listener may ask it by itself, without further ado.
    pub fn is_prompt(&self) -> bool {
        self.failures == 0 && self.smoothed.is_some_and(|smoothed| smoothed < PROMPT)
    }

    /// Whether it should be asked beside the first choice, and by the caller: it counts as asked from now on. A server
    /// that never was asked is no news to anybody.
    pub fn claim_probe(&mut self, now: Instant) -> bool {
        let due = self.asked_at.is_some_and(|at| now.saturating_duration_since(at) >= PROBE_EVERY);
        if due {
            self.asked(now);
        }
        due
    }

    pub fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }

    /// Goes on counting where another record of the same server is.
    pub fn count_on(&mut self, totals: &Arc<Totals>) {
        self.totals = Arc::clone(totals);
    }

    /// Failures in a row, for operators.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The smoothed time to an answer, for operators.
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_server_that_fails_ranks_behind_one_that_was_never_asked_until_it_answers() {
        let (mut failing, unknown) = (Health::default(), Health::default());
        failing.answered(ms(5));
        assert!(failing.rank() < unknown.rank());
        failing.failed();
        assert!(failing.rank() > unknown.rank());
        failing.answered(ms(5));
        assert!(failing.rank() < unknown.rank());
    }

    #[test]
    fn refusals_and_servfails_count_once_there_are_several_in_a_row() {
        type Event = fn(&mut Health);
        let cases: [(Event, u32); 2] = [(Health::refused, MAX_REFUSALS), (Health::servfailed, MAX_SERVFAILS)];
        for (event, limit) in cases {
            let mut health = Health::default();
            for _ in 0..2 {
                (1..limit).for_each(|_| event(&mut health));
                assert_eq!(health.failures(), 0);
                health.answered(ms(5));
            }
            (0..limit).for_each(|_| event(&mut health));
            assert_eq!(health.failures(), 1);
        }
    }

    #[test]
    fn a_server_is_prompt_once_it_has_answered_soon_and_until_it_fails() {
        let mut health = Health::default();
        assert!(!health.is_prompt(), "nothing is known");
        health.answered(ms(5));
        assert!(health.is_prompt());
        health.failed();
        assert!(!health.is_prompt());
        health.answered(ms(5));
        health.slow(ms(300));
        assert!(!health.is_prompt());
    }

    #[test]
    fn silence_counts_as_slowness() {
        let mut health = Health::default();
        health.answered(ms(5));
        health.slow(ms(300));
        assert_eq!(health.rank(), ms(300));
        health.slow(ms(200));
        assert_eq!(health.rank(), ms(300));
    }

    #[test]
    fn a_server_aside_is_probed_now_and_then() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(!health.claim_probe(now));
        health.asked(now);
        assert!(!health.claim_probe(now + PROBE_EVERY - ms(1)));
        assert!(health.claim_probe(now + PROBE_EVERY));
        assert!(!health.claim_probe(now + PROBE_EVERY), "one question is enough");
    }
}
