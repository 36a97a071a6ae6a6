//! The last few of something, kept only while somebody looks.
//!
//! Both planes note their decisions in one each, `app` shows them as `/decisions`. While nobody has asked for a while a plane
//! pays for one look at a number; and the names that clients ask for are not kept for nobody.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

/// So many are kept; an older one makes room.
pub const KEPT: usize = 64;
/// Who has looked is taken to look for so long.
pub const WATCHED_FOR: Duration = Duration::from_secs(10);

/// The last [`KEPT`] of something. Its memory is taken once.
#[derive(Debug)]
pub struct Recent<T> {
    began: Instant,
    /// Milliseconds from `began` on; 0 while nobody has ever looked.
    watched_until: AtomicU64,
    ring: Mutex<VecDeque<(SystemTime, T)>>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        let ring = Mutex::new(VecDeque::with_capacity(KEPT));
        Self { began: Instant::now(), watched_until: AtomicU64::new(0), ring }
    }
}

impl<T: Copy> Recent<T> {
    /// Keeps one, as of now, if somebody looks; only then is it asked for. It waits for nobody and allocates nothing: one that
    /// comes while others are read or noted may be left out.
    #[inline]
    pub fn note(&self, now: Instant, what: impl FnOnce() -> Option<T>) {
        if self.is_watched(now)
            && let Some(what) = what()
        {
            self.keep(what);
        }
    }

    fn is_watched(&self, now: Instant) -> bool {
        let until = self.watched_until.load(Ordering::Relaxed);
        until > 0 && self.since_began(now) < until
    }

    #[cold]
    fn keep(&self, what: T) {
        let mut ring = match self.ring.try_lock() {
            Ok(ring) => ring,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back((SystemTime::now(), what));
    }

    /// What was noted so far, the oldest first; more is noted for [`WATCHED_FOR`]. Whoever looks after a pause begins anew:
    /// what had been noted before it is not the last any more.
    pub fn look(&self, now: Instant) -> Vec<(SystemTime, T)> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_watched(now) {
            ring.clear();
        }
        self.watched_until.store(self.since_began(now + WATCHED_FOR), Ordering::Relaxed);
        ring.iter().copied().collect()
    }

    fn since_began(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(recent: &Recent<usize>, now: Instant) -> Vec<usize> {
        recent.look(now).into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn nothing_is_asked_for_until_somebody_looks_nor_once_he_has_gone() {
        let (recent, now) = (Recent::default(), Instant::now());
        let asks = |at: Instant| {
            let mut asked = false;
            recent.note(at, || {
                asked = true;
                Some(1)
            });
            asked
        };
        assert!(!asks(now));
        recent.look(now);
        assert!(asks(now) && asks(now + WATCHED_FOR / 2));
        assert!(!asks(now + WATCHED_FOR + Duration::from_millis(1)));
    }

    #[test]
    fn whoever_looks_after_a_pause_is_not_shown_what_was_before_it() {
        let (recent, now) = (Recent::default(), Instant::now());
        recent.look(now);
        recent.note(now, || Some(1));
        assert_eq!(noted(&recent, now + WATCHED_FOR / 2), [1]);
        assert_eq!(noted(&recent, now + 3 * WATCHED_FOR), [0; 0]);
    }

    #[test]
    fn the_oldest_makes_room_and_the_memory_stays() {
        let (recent, now) = (Recent::default(), Instant::now());
        recent.look(now);
        let before = recent.ring.lock().unwrap().capacity();
        (0..10 * KEPT).for_each(|what| recent.note(now, || Some(what)));
        assert_eq!(recent.ring.lock().unwrap().capacity(), before);
        assert_eq!(noted(&recent, now), (9 * KEPT..10 * KEPT).collect::<Vec<_>>());
    }

    #[test]
    fn noting_does_not_wait_for_a_reader() {
        let (recent, now) = (Recent::default(), Instant::now());
        recent.look(now);
        let reader = recent.ring.lock().unwrap();
        recent.note(now, || Some(1));
        assert!(reader.is_empty());
    }
}
