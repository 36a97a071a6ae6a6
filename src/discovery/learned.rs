//! Ids learned from public DNS: a name it says does not exist may be a private API's.
//!
//! A memory of names with a time to live, bounded in number. Pure: the caller brings the time. `merge` keeps it and
//! publishes what changes. Never part of a last good list.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::policy::HostName;

/// The longest a name is held without being asked for again in public DNS.
const HELD: Duration = Duration::from_secs(60);
/// Names held at most; beyond that the one nearest its end makes room.
const MAX_NAMES: usize = 1024;

/// The names held now.
#[derive(Debug, Default)]
pub(super) struct Learned(HashMap<HostName, Instant>);

impl Learned {
    /// Public DNS says the name does not exist. Whether that is news.
    pub(super) fn add(&mut self, name: HostName, now: Instant) -> bool {
        if let Some(until) = self.0.get_mut(&name) {
            *until = now + HELD;
            return false;
        }
        if self.0.len() >= MAX_NAMES {
            let nearest = self.0.iter().min_by_key(|(_, until)| **until).map(|(name, _)| *name);
            nearest.and_then(|name| self.0.remove(&name));
        }
        self.0.insert(name, now + HELD);
        true
    }

    /// Public DNS knows the name. Whether that is news.
    pub(super) fn remove(&mut self, name: &HostName) -> bool {
        self.0.remove(name).is_some()
    }

    /// Forgets what has been held long enough. Whether that was anything.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|_, until| now < *until);
        self.0.len() < before
    }

    /// When the next name must be forgotten.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    pub(super) fn names(&self) -> HashSet<HostName> {
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_held_for_a_minute_and_ends_at_once_when_public_dns_knows_it() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        assert!(learned.add(name("a.zone"), now));
        assert!(!learned.expire(now + HELD - Duration::from_millis(1)));
        assert!(learned.expire(now + HELD));
        assert!(learned.names().is_empty());
        learned.add(name("a.zone"), now);
        assert!(learned.remove(&name("A.zone.")));
        assert!(learned.names().is_empty());
    }

    #[test]
    fn the_number_is_bounded_and_the_oldest_makes_room() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        for i in 0..=MAX_NAMES {
            learned.add(name(&format!("n{i}.zone")), now + Duration::from_millis(i as u64));
        }
        assert_eq!(learned.names().len(), MAX_NAMES);
        assert!(!learned.names().contains(&name("n0.zone")));
    }
}
