//! What the plane tells of itself while it runs: `app` shows it, whatever becomes of listeners at a reload.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::access::Journal;
use super::permit::Entrance;
use super::service::AtBounds;
use crate::tcp_listener::Connections;

/// Handles to what is counted since the start; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// What became of connections and requests.
    pub journal: Arc<Journal>,
    pub at_bounds: Arc<AtBounds>,
    listening: Arc<Mutex<Vec<Listening>>>,
}

/// A listener's connections, for as long as it listens or some of them are open.
type Listening = (Entrance, Weak<Connections>);

impl Totals {
    /// Counts the connections of a listener from now on.
    pub(super) fn listens(&self, entrance: Entrance, connections: &Arc<Connections>) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|(_, connections)| connections.strong_count() > 0);
        listening.push((entrance, Arc::downgrade(connections)));
    }

    /// Connections open now, by entrance, those of listeners that have closed included.
    pub fn open(&self) -> BTreeMap<Entrance, usize> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = BTreeMap::new();
        for (entrance, connections) in listening.iter() {
            if let Some(connections) = connections.upgrade() {
                *open.entry(*entrance).or_default() += connections.open();
            }
        }
        open
    }
}
