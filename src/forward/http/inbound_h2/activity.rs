//! What a client's HTTP/2 connection is doing: whether something moves, and how often requests are taken back.
//!
//! `inbound_h2` asks it whether the connection may stay.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::forward::http::message::BodyError;
use crate::forward::http::outbound::RESPONSE;
use crate::tcp_listener::TakenBack;

/// Patience for the first request.
const FIRST: Duration = Duration::from_secs(10);
/// Patience between requests.
const IDLE: Duration = Duration::from_secs(75);

/// Held by the connection and by each of its requests.
pub(super) struct Activity {
    state: Mutex<State>,
    /// Cancelled when what is under way is the last.
    pub last: CancellationToken,
    /// Cancelled when more was taken back than a client has reason to.
    pub flooded: CancellationToken,
}

struct State {
    /// When something last moved.
    moved: Instant,
    /// A request has come.
    asked: bool,
    /// Each request may have made us connect to a server.
    taken_back: TakenBack,
}

pub(super) enum Verdict {
    Busy,
    /// No request is under way, and none has come for too long.
    Idle,
    /// Requests are under way, and nothing moves.
    Stalled,
}

impl Activity {
    pub(super) fn new(last: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State { moved: now, asked: false, taken_back: TakenBack::default() }),
            last,
            flooded: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come, or a piece of a body.
    pub(super) fn moved(&self) {
        let mut state = self.state();
        (state.moved, state.asked) = (Instant::now(), true);
    }

    pub(super) fn verdict(self: &Arc<Self>) -> Verdict {
        let State { moved, asked, .. } = *self.state();
        let (still, under_way) = (moved.elapsed(), Arc::strong_count(self) > 1);
        match under_way {
            true if still > RESPONSE => Verdict::Stalled,
            false if still > if asked { IDLE } else { FIRST } => Verdict::Idle,
            _ => Verdict::Busy,
        }
    }

    fn reset(&self) {
        if self.state().taken_back.is_flood() {
            self.flooded.cancel();
        }
    }
}

/// A request that waits for the head of its answer; dropped before, it was taken back.
pub(super) struct Expected {
    activity: Arc<Activity>,
    pub answered: bool,
}

impl Expected {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        Self { activity: Arc::clone(activity), answered: false }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        if !self.answered {
            self.activity.reset();
        }
    }
}

/// A body whose every piece shows that the connection is alive.
pub(super) struct Moving<B> {
    body: B,
    activity: Arc<Activity>,
}

impl<B> Moving<B> {
    pub(super) fn new(body: B, activity: &Arc<Activity>) -> Self {
        Self { body, activity: Arc::clone(activity) }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Moving<B>
where
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.activity.moved();
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_taken_back_now_and_then_are_no_flood() {
        let activity = Arc::new(Activity::new(CancellationToken::new()));
        for _ in 0..3 {
            for _ in 0..TakenBack::MOST {
                drop(Expected::new(&activity));
            }
            assert!(!activity.flooded.is_cancelled());
            tokio::time::sleep(TakenBack::PERIOD).await;
        }
        for _ in 0..=TakenBack::MOST {
            Expected::new(&activity).answered = true;
        }
        assert!(!activity.flooded.is_cancelled());
        for _ in 0..=TakenBack::MOST {
            drop(Expected::new(&activity));
        }
        assert!(activity.flooded.is_cancelled());
    }
}
