//! A part of the cache: entries by key, their bytes counted, and who has to go when there is no room (the clock algorithm).

use std::time::{Duration, Instant};

use hashbrown::HashTable;

use super::{MAX_STALE, Validity};
use crate::dns::answer::Answer;
use crate::dns::question::{CacheKey, KeyHead};

/// What an entry costs beside the octets of its answer: its slot, its place in the index, what the allocator adds.
const OVERHEAD: usize = 192;

#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Slots by the hash of their key.
    index: HashTable<u32>,
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// Of the key, so that it need not be read again.
    pub(super) hash: u64,
    /// The rest of the key, the name, is in the answer.
    pub(super) head: KeyHead,
    pub(super) answer: Answer,
    pub(super) stored: Instant,
    pub(super) validity: Validity,
    pub(super) hits: u32,
    pub(super) used: bool,
    pub(super) refreshing: bool,
    /// Until then upstreams are not asked again.
    pub(super) recheck_at: Option<Instant>,
}

impl Entry {
    pub(super) fn cost(&self) -> usize {
        OVERHEAD + self.answer.size()
    }

    pub(super) fn expires(&self) -> Instant {
        self.stored + Duration::from_secs(self.answer.lifetime().into())
    }

    pub(super) fn is_of(&self, generation: u64) -> bool {
        match self.validity {
            Validity::Always => true,
            Validity::Only(own) | Validity::While { generation: own, .. } => own == generation,
        }
    }

    pub(super) fn is_newer_than(&self, generation: u64) -> bool {
        match self.validity {
            Validity::Always => false,
            Validity::Only(own) | Validity::While { generation: own, .. } => own > generation,
        }
    }

    pub(super) fn may_serve_stale(&self, now: Instant, generation: u64) -> bool {
        self.is_of(generation) && !self.answer.is_failure() && now < self.stored + MAX_STALE
    }
}

impl Shard {
    #[inline]
    pub(super) fn slot(&self, hash: u64, key: &CacheKey<'_>) -> Option<u32> {
        let is_of = |entry: &Entry| entry.hash == hash && entry.head == key.head && entry.answer.is_about(key.name);
        self.index.find(hash, |&slot| self.at(slot).is_some_and(is_of)).copied()
    }

    #[inline]
    pub(super) fn entry(&mut self, hash: u64, key: &CacheKey<'_>) -> Option<&mut Entry> {
        let slot = self.slot(hash, key)?;
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    #[inline]
    fn at(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, entry: Entry, cost: usize) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // The bytes they would take bound them long before.
            (self.slots.len() - 1) as u32
        });
        let slots = &self.slots;
        let hash_of = |&slot: &u32| slots[slot as usize].as_ref().map_or(0, |entry| entry.hash);
        self.index.insert_unique(entry.hash, slot, hash_of);
        self.slots[slot as usize] = Some(entry);
        self.bytes += cost;
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        if let Ok(found) = self.index.find_entry(entry.hash, |&other| other == slot) {
            found.remove();
        }
        self.bytes -= entry.cost();
        self.free.push(slot);
    }

    /// Evicts until at most `bytes` are held, and counts that. Two rounds of the hand always suffice: the first clears every `used`.
    pub(super) fn make_room(&mut self, bytes: usize) -> u64 {
        let mut evicted = 0;
        while self.bytes > bytes {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            match self.slots.get_mut(self.hand) {
                Some(Some(entry)) if entry.used => entry.used = false,
                Some(Some(_)) => {
                    self.remove(self.hand as u32);
                    evicted += 1;
                }
                Some(None) => {}
                None => break,
            }
        }
        evicted
    }
}
