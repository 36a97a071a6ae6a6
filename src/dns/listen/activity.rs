//! What goes on in one HTTP connection: since when nothing, and whether its client asks only to take it back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::tcp_listener::TakenBack;

/// Shared by a connection and its requests.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Told each time that the client has taken back too many.
    pub flooded: Notify,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    last: Instant,
    taken_back: TakenBack,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    activity: &'a Activity,
    pub answered: bool,
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = State { under_way: 0, last: Instant::now(), taken_back: TakenBack::default() };
        Self { state: Mutex::new(state), flooded: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come. One that is dropped before it is `answered` was taken back.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.state().under_way += 1;
        UnderWay { activity: self, answered: false }
    }

    /// Since when nothing has been asked or answered; `None` while something is under way.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.under_way == 0).then_some(state.last)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.under_way -= 1;
        state.last = Instant::now();
        if !self.answered && state.taken_back.is_flood() {
            self.activity.flooded.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_since_its_last_answer_and_flooded_by_what_is_taken_back() {
        let (activity, began) = (Activity::new(), Instant::now());
        assert_eq!(activity.idle_since(), Some(began));
        for answered in [true, false] {
            let first = activity.begin();
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(activity.idle_since(), None);
            activity.begin().answered = answered;
            drop(first);
        }
        assert_eq!(activity.idle_since(), Some(began + Duration::from_secs(2)));
        for _ in 0..10 * TakenBack::MOST {
            activity.begin().answered = true;
        }
        tokio::time::advance(TakenBack::PERIOD).await;
        (0..TakenBack::MOST).for_each(|_| drop(activity.begin()));
        assert_eq!(activity.flooded.notified().now_or_never(), None);
        drop(activity.begin());
        assert_eq!(activity.flooded.notified().now_or_never(), Some(()));
    }
}
