//! What of a list that was just read is believed: ids that are new at once, ids that are gone only where it cannot be a
//! mistake of whoever wrote the list or of the rights it was read with.
//!
//! Pure; `source` asks it after each read.

use std::sync::Arc;
use std::time::SystemTime;

use super::list::{Entry, List};

/// A list shorter than this may lose any part of itself at once: half of it is what one deployment removes.
const GUARDED: usize = 10;

/// Whether a list of `before` ids that is without `gone` of them is one to be seen twice before it is believed.
pub fn loses_most(before: usize, gone: usize) -> bool {
    before >= GUARDED && gone * 2 > before
}

/// Judges the reads of one source, one after the other.
#[derive(Debug)]
pub(super) struct Guard {
    believed: Option<Arc<List>>,
    /// Whether a list with ids may not become empty: it would be the wrong account rather than no API.
    keeps_last_id: bool,
    /// Whether the next one may all the same.
    trusts_next: bool,
    last: Last,
}

/// What came of the last read.
#[derive(Debug)]
enum Last {
    Believed,
    /// Ids that this read did not have stay until the next one does not have them either. The list had so many ids before
    /// the first of them was gone.
    Removals {
        read: List,
        before: usize,
        gone: usize,
    },
    Everything(usize),
}

impl Last {
    fn held(&self) -> Held {
        match self {
            Last::Believed => Held::Nothing,
            Last::Removals { gone, .. } => Held::Removals(*gone),
            Last::Everything(gone) => Held::Everything(*gone),
        }
    }
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
        Self { believed, keeps_last_id, trusts_next, last: Last::Believed }
    }

    /// The list to go by now, and what of `read` it does not follow. It is the one before, the very same, where nothing
    /// has changed. `now` is when ids are known from that were not in the one before. `may_confirm` says whether enough time
    /// has passed since removals were held: whoever wrote half a list needs a moment to see it.
    pub(super) fn judge(&mut self, read: List, now: SystemTime, may_confirm: bool) -> (Arc<List>, Held) {
        let trusted = std::mem::take(&mut self.trusts_next);
        let last = std::mem::replace(&mut self.last, Last::Believed);
        let Some(believed) = self.believed.clone() else {
            return (self.believe(&List::default(), read, |_| false, now), Held::Nothing);
        };
        if self.keeps_last_id && read.is_empty() && !believed.is_empty() {
            if trusted {
                return (self.believe(&believed, read, |_| false, now), Held::Nothing);
            }
            self.last = Last::Everything(believed.len());
            return (believed.clone(), self.last.held());
        }
        let (unconfirmed, before) = match &last {
            Last::Removals { read, before, .. } => (Some(read), *before),
            Last::Believed | Last::Everything(_) => (None, believed.len()),
        };
        if let Last::Removals { read: unconfirmed, .. } = &last
            && !may_confirm
        {
            let gone = believed.entries().iter().filter(|entry| find(&read, entry).is_none()).count();
            if loses_most(before, gone) {
                // What either read had is not missing yet.
                let either = unconfirmed.entries().iter().chain(read.entries()).cloned();
                let held = List::new(either.collect());
                let list = self.believe(&believed, read, |_| true, now);
                self.last = Last::Removals { read: held, before, gone };
                return (list, self.last.held());
            }
            return (self.believe(&believed, read, |_| false, now), Held::Nothing);
        }
        // Gone in this read, and not in the one before it.
        let is_news = |entry: &Entry| unconfirmed.is_none_or(|list| find(list, entry).is_some());
        let gone = believed.entries().iter().filter(|entry| find(&read, entry).is_none() && is_news(entry)).count();
        if loses_most(before, gone) {
            let held = read.clone();
            let list = self.believe(&believed, read, is_news, now);
            self.last = Last::Removals { read: held, before, gone };
            return (list, self.last.held());
        }
        (self.believe(&believed, read, |_| false, now), Held::Nothing)
    }

    /// The same as [`Guard::judge`] where the source says that its list is the one it gave before. `None` if it gave none.
    pub(super) fn judge_again(&mut self, now: SystemTime, may_confirm: bool) -> Option<(Arc<List>, Held)> {
        if let Last::Removals { read, .. } = &self.last {
            let read = read.clone();
            return Some(self.judge(read, now, may_confirm));
        }
        Some((Arc::clone(self.believed.as_ref()?), self.last.held()))
    }

    /// Goes by what was read, and by what of the list before `stays` though it was not.
    fn believe(&mut self, before: &List, read: List, stays: impl Fn(&Entry) -> bool, now: SystemTime) -> Arc<List> {
        let mut entries = Vec::with_capacity(read.len().max(before.len()));
        let mut known = before.entries().iter().peekable();
        for mut entry in read.into_entries() {
            while let Some(missing) = known.next_if(|known| known.key() < entry.key()) {
                entries.extend(Some(missing).filter(|missing| stays(missing)).cloned());
            }
            entry.since = match known.next_if(|known| known.key() == entry.key()) {
                Some(known) => known.since,
                None => Some(now),
            };
            entries.push(entry);
        }
        entries.extend(known.filter(|missing| stays(missing)).cloned());
        let list = match &self.believed {
            Some(believed) if believed.entries() == entries => Arc::clone(believed),
            _ => Arc::new(List::new(entries)),
        };
        self.believed = Some(Arc::clone(&list));
        list
    }
}

/// The entry of a list for the same id and region.
fn find<'l>(list: &'l List, entry: &Entry) -> Option<&'l Entry> {
    let at = list.entries().binary_search_by(|other| other.key().cmp(&entry.key())).ok()?;
    list.entries().get(at)
}

#[cfg(test)]
mod tests;
