//! Reloads: asked for by `POST /reload`, carried out by whoever runs the process, counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::admin::{NotReloaded, Reload};

/// Requests that may wait for the one under way.
const MAX_WAITING: usize = 4;

/// Somebody waits for a reload; tell how it went.
pub type Request = oneshot::Sender<Result<(), String>>;

/// How reloads went so far.
#[derive(Debug, Default)]
pub struct Totals {
    succeeded: AtomicU64,
    refused: AtomicU64,
}

impl Totals {
    pub(super) fn count(&self, succeeded: bool) {
        let total = if succeeded { &self.succeeded } else { &self.refused };
        total.fetch_add(1, Ordering::Relaxed);
    }

    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Those that left everything as it was.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// What admin calls, and where its calls arrive.
pub(super) fn channel() -> (Reload, mpsc::Receiver<Request>) {
    let (sender, receiver) = mpsc::channel::<Request>(MAX_WAITING);
    let stopping = || NotReloaded::NotNow("about to stop: nothing is reloaded any more");
    let ask: Reload = Arc::new(move || {
        let sender = sender.clone();
        Box::pin(async move {
            let (answer, outcome) = oneshot::channel();
            sender.try_send(answer).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NotReloaded::NotNow("other reloads are waiting: ask again later"),
                mpsc::error::TrySendError::Closed(_) => stopping(),
            })?;
            outcome.await.map_err(|_| stopping())?.map_err(NotReloaded::Refused)
        })
    });
    (ask, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_hears_its_outcome_and_only_so_many_wait() {
        let (ask, mut requests) = channel();
        let asked = tokio::spawn(ask());
        requests.recv().await.unwrap().send(Err("line 1".to_owned())).unwrap();
        assert_eq!(asked.await.unwrap(), Err(NotReloaded::Refused("line 1".to_owned())));
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| tokio::spawn(ask())).collect();
        tokio::task::yield_now().await;
        assert!(ask().await.unwrap_err().to_string().contains("ask again later"));
        drop(requests);
        for asked in waiting {
            assert!(asked.await.unwrap().unwrap_err().to_string().contains("about to stop"));
        }
        assert!(ask().await.unwrap_err().to_string().contains("about to stop"));
    }
}
