//! Questions in the order in which their time is over, which is the order in which they were asked.

use std::collections::VecDeque;
use std::time::Instant;

use slab::Slab;

use super::Asked;

/// A question, and when something is to be done about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub at: Instant,
    pub number: usize,
    /// Of the question, as another may have its number by then.
    pub serial: u64,
}

/// All that have the same time from when they were asked.
#[derive(Debug, Default)]
pub(super) struct Dues(VecDeque<Due>);

impl Dues {
    /// Adds one that is due no sooner than those before it.
    pub(super) fn push(&mut self, due: Due) {
        self.0.push_back(due);
    }

    /// When the first is due of those that are still asked. Nearly all have been answered by then.
    pub(super) fn first(&mut self, questions: &Slab<Asked>) -> Option<Instant> {
        while let Some(due) = self.0.front() {
            if questions.get(due.number).is_some_and(|asked| asked.serial == due.serial) {
                return Some(due.at);
            }
            self.0.pop_front();
        }
        None
    }

    /// Takes the first off, if it is due.
    pub(super) fn next(&mut self, questions: &Slab<Asked>, now: Instant) -> Option<Due> {
        self.first(questions).filter(|at| *at <= now)?;
        self.0.pop_front()
    }
}
