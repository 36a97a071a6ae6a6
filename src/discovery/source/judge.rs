//! Asks the guard of a source about each read, off the threads that queries wait for, and keeps the time for it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Read, lock};
use crate::discovery::guard::{Guard, Held};
use crate::discovery::list::List;

/// Asks the guard, and keeps the time for it.
pub(super) struct Judge {
    guard: Arc<Mutex<Guard>>,
    /// Since when removals wait to be confirmed.
    held_since: Option<Instant>,
    /// How long they must.
    confirmation: Duration,
}

impl Judge {
    /// `confirmation` is how long removals wait.
    pub(super) fn new(guard: Guard, confirmation: Duration) -> Self {
        Self { guard: Arc::new(Mutex::new(guard)), held_since: None, confirmation }
    }

    /// `None` if the source has never given a list. A long list takes its time: not where queries wait.
    pub(super) async fn judge(&mut self, read: Read, now: SystemTime) -> Option<(Arc<List>, Held)> {
        let may_confirm = self.held_since.is_none_or(|since| since.elapsed() >= self.confirmation);
        let guard = Arc::clone(&self.guard);
        let judge = move || {
            let mut guard = lock(&guard);
            match read {
                Read::List(list) => Some(guard.judge(list, now, may_confirm)),
                Read::Unchanged => guard.judge_again(now, may_confirm),
            }
        };
        let judged = tokio::task::spawn_blocking(judge).await.ok()?;
        let is_held = judged.as_ref().is_some_and(|(_, held)| matches!(held, Held::Removals(_)));
        self.held_since = is_held.then(|| self.held_since.filter(|_| !may_confirm).unwrap_or_else(Instant::now));
        judged
    }
}
