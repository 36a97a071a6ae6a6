//! Ready when nothing is pending any more: whoever must finish something first holds a [`Block`].
//!
//! `app` hands blocks out before it serves; `/ready` lists what is left. Once ready it stays so until drain: an upstream
//! that fails later is no reason to take this process out of service.

use std::sync::Arc;

use tokio::sync::watch;

/// What `/ready` says while [`State::Draining`].
pub(super) const DRAINING: &str = "draining";

/// The readiness of the process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<watch::Sender<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    pending: Vec<String>,
    bound: bool,
    draining: bool,
}

/// Something that must happen first; dropping it says that it has.
#[derive(Debug)]
pub struct Block {
    what: String,
    of: Readiness,
}

/// What `/ready` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Ready,
    /// What is waited for.
    Pending(Vec<String>),
    /// About to stop: nothing new should be sent here.
    Draining,
}

impl Readiness {
    /// Not ready until the result is dropped. `what` is shown to operators.
    pub fn block(&self, what: impl Into<String>) -> Block {
        let what = what.into();
        self.0.send_modify(|inner| inner.pending.push(what.clone()));
        Block { what, of: self.clone() }
    }

    /// Every listener is bound and served.
    pub fn bound(&self) {
        self.0.send_modify(|inner| inner.bound = true);
    }

    /// Whether every listener is bound and served.
    pub fn is_bound(&self) -> bool {
        self.0.borrow().bound
    }

    /// From now on not ready for good.
    pub fn drain(&self) {
        self.0.send_modify(|inner| inner.draining = true);
    }

    pub fn state(&self) -> State {
        self.0.borrow().state()
    }

    /// Returns once no block is left, bound or not.
    pub async fn nothing_pending(&self) {
        let _ = self.0.subscribe().wait_for(|inner| inner.pending.is_empty()).await;
    }

    /// Returns once it is ready.
    pub async fn is_ready(&self) {
        // The sender is ours, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(|inner| inner.state() == State::Ready).await;
    }
}

impl Inner {
    fn state(&self) -> State {
        match (&*self.pending, self.bound) {
            _ if self.draining => State::Draining,
            ([], true) => State::Ready,
            (pending, true) => State::Pending(pending.to_vec()),
            (pending, false) => State::Pending(std::iter::once("bind".to_owned()).chain(pending.to_vec()).collect()),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.of.0.send_modify(|inner| {
            if let Some(position) = inner.pending.iter().position(|what| *what == self.what) {
                inner.pending.remove(position);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_bound_and_nothing_is_pending_until_drain() {
        let readiness = Readiness::default();
        let block = readiness.block("endpoint addresses");
        assert_eq!(readiness.state(), State::Pending(vec!["bind".into(), "endpoint addresses".into()]));
        readiness.bound();
        assert_eq!(readiness.state(), State::Pending(vec!["endpoint addresses".into()]));
        drop(block);
        assert_eq!(readiness.state(), State::Ready);
        readiness.drain();
        assert_eq!(readiness.state(), State::Draining);
    }
}
