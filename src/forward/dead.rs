//! A short memory of addresses that did not let us connect: they are tried last, so that one dead address of an endpoint
//! costs one client its patience and not every client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a failure is remembered.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Addresses remembered at most; beyond that the oldest failure is forgotten.
const MAX_REMEMBERED: usize = 1024;

/// Addresses that failed lately.
#[derive(Debug, Default)]
pub(super) struct DeadAddresses(Mutex<HashMap<SocketAddr, Instant>>);

impl DeadAddresses {
    fn failures(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, address: SocketAddr, now: Instant) {
        let mut failures = self.failures();
        if failures.len() >= MAX_REMEMBERED && !failures.contains_key(&address) {
            let oldest = failures.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            oldest.map(|oldest| failures.remove(&oldest));
        }
        failures.insert(address, now);
    }

    pub(super) fn connected(&self, address: SocketAddr) {
        let mut failures = self.failures();
        if !failures.is_empty() {
            failures.remove(&address);
        }
    }

    /// Puts those that failed lately last; the order is kept otherwise.
    pub(super) fn last(&self, addresses: &mut [SocketAddr], now: Instant) {
        let failures = self.failures();
        if failures.is_empty() {
            return;
        }
        let is_dead = |address: &SocketAddr| failures.get(address).is_some_and(|at| now - *at < REMEMBERED);
        addresses.sort_by_key(is_dead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (last >> 8) as u8, last as u8], 443))
    }

    #[test]
    fn a_failure_counts_for_a_while_and_until_a_success() {
        let (dead, now) = (DeadAddresses::default(), Instant::now());
        let order = |later| {
            let mut addresses = [address(1), address(2), address(3)];
            dead.last(&mut addresses, now + later);
            addresses
        };
        dead.failed(address(1), now);
        assert_eq!(order(Duration::ZERO), [address(2), address(3), address(1)]);
        assert_eq!(order(REMEMBERED), [address(1), address(2), address(3)]);
        dead.connected(address(1));
        assert_eq!(order(Duration::ZERO), [address(1), address(2), address(3)]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (dead, now) = (DeadAddresses::default(), Instant::now());
        (0..2 * MAX_REMEMBERED as u16).for_each(|i| dead.failed(address(i), now + Duration::from_millis(i.into())));
        assert_eq!(dead.failures().len(), MAX_REMEMBERED);
        assert!(dead.failures().contains_key(&address(2 * MAX_REMEMBERED as u16 - 1)));
    }
}
