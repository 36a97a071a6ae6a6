//! When a source is read again. Pure: `source` brings the random number, benches bring their own.

use std::time::Duration;

/// A removal of many ids is confirmed by a read after this, or after the interval if that is shorter.
const CONFIRM: Duration = Duration::from_secs(5);
/// After a failure: at first, doubled each time, up to the interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// What chance may take off a wait: a fleet that starts at once must not ask at once for ever.
const JITTER: f64 = 0.2;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Read,
    /// Read, and what it says must be confirmed.
    Unconfirmed,
    Failed,
}

/// The waits of one source.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    retry: Duration,
}

impl Schedule {
    /// `interval` is the longest wait.
    pub fn new(interval: Duration) -> Self {
        Self { interval, retry: FIRST_RETRY.min(interval) }
    }

    /// How long to wait before the first attempt where a list is there already: a fleet that is deployed at once must not
    /// ask at once.
    pub fn first(&self, chance: f64) -> Duration {
        self.confirmation().mul_f64(chance)
    }

    /// How long removals of many ids wait for the read that confirms them.
    pub fn confirmation(&self) -> Duration {
        self.interval.min(CONFIRM)
    }

    /// How long to wait after an attempt, at most the interval. `chance` is random, from 0 up to but not including 1.
    pub fn after(&mut self, outcome: Outcome, chance: f64) -> Duration {
        let wait = match outcome {
            Outcome::Failed => {
                let wait = self.retry;
                self.retry = (self.retry * 2).min(self.interval);
                wait
            }
            Outcome::Read => {
                self.retry = FIRST_RETRY.min(self.interval);
                self.interval
            }
            // Not a moment earlier.
            Outcome::Unconfirmed => return self.confirmation(),
        };
        wait.mul_f64(1.0 - JITTER * chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_at_most_the_interval_and_at_least_four_fifths_of_it() {
        let mut schedule = Schedule::new(Duration::from_secs(60));
        assert_eq!(schedule.after(Outcome::Read, 0.0), Duration::from_secs(60));
        let least = schedule.after(Outcome::Read, 0.999_999);
        assert!(least > Duration::from_secs(48) && least < Duration::from_secs(49), "{least:?}");
    }

    #[test]
    fn failures_are_retried_soon_then_less_often_and_never_less_than_reads() {
        let mut schedule = Schedule::new(Duration::from_secs(5));
        let waits = [1, 2, 4, 5, 5].map(Duration::from_secs);
        assert_eq!([0; 5].map(|_| schedule.after(Outcome::Failed, 0.0)), waits);
        schedule.after(Outcome::Read, 0.0);
        assert_eq!(schedule.after(Outcome::Failed, 0.0), Duration::from_secs(1));
    }

    #[test]
    fn a_removal_is_confirmed_soon_and_never_earlier() {
        let confirmed_after = |seconds| Schedule::new(Duration::from_secs(seconds)).after(Outcome::Unconfirmed, 0.9);
        assert_eq!(confirmed_after(60), Duration::from_secs(5));
        assert_eq!(confirmed_after(1), Duration::from_secs(1));
    }
}
