//! How long a program that keeps rewriting the file is left alone.

use std::time::Duration;

use tokio::time::Instant;

use super::POLL;

/// A rewrite so soon after another one is a fight: each time we wait twice as long, up to [`LONGEST`].
const QUIET: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(300);

/// Two programs that each want the file their way.
#[derive(Debug, Default)]
pub(super) struct Fight {
    /// When the other one wrote it last.
    written: Option<Instant>,
    last: Duration,
}

impl Fight {
    /// How long to leave the file to the other one that wrote it now.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        // After as long as we waited, and then some, it is another story.
        let is_fight = self.written.replace(now).is_some_and(|written| now < written + QUIET + self.last);
        self.last = if is_fight { (self.last * 2).clamp(POLL, LONGEST) } else { Duration::ZERO };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
