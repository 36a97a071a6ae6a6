//! How many queries of one client may wait for an upstream, so that one alone cannot keep all others out.
//!
//! `service` takes a turn for each query that is not answered at once, whichever listener it came by. Queries that are
//! answered at once cost nothing here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A quarter of the questions that may be under way, see `resolver`.
pub const MAX_OF_CLIENT: usize = 1024;

/// The queries that wait, by client. Those of loopback are not counted: all of a host's programs share it.
#[derive(Debug, Default)]
pub struct Shares(Mutex<HashMap<IpAddr, usize>>);

/// One query's turn; given up when dropped.
#[derive(Debug)]
pub struct Turn(Option<(Arc<Shares>, IpAddr)>);

impl Turn {
    /// For who is not counted.
    pub fn uncounted() -> Self {
        Self(None)
    }

    pub fn is_counted(&self) -> bool {
        self.0.is_some()
    }
}

impl Shares {
    /// A turn for a query of this client, unless it has had its share.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Turn> {
        let client = counted_as(client);
        if client.is_loopback() {
            return Some(Turn::uncounted());
        }
        let mut waiting = self.waiting();
        let count = waiting.entry(client).or_default();
        if *count >= MAX_OF_CLIENT {
            return None;
        }
        *count += 1;
        Some(Turn(Some((Arc::clone(self), client))))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host of IPv6 has a whole /64 to ask from (RFC 4291 section 2.5.1).
fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((shares, client)) = &self.0 else { return };
        let mut waiting = shares.waiting();
        if let Some(count) = waiting.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(shares: &Arc<Shares>, client: &str, count: usize) -> Vec<Turn> {
        (0..count).filter_map(|_| shares.take(client.parse().unwrap())).collect()
    }

    #[test]
    fn a_client_has_its_share_and_no_more_and_others_theirs() {
        let shares = Arc::new(Shares::default());
        let greedy = turns(&shares, "10.0.0.9", 2 * MAX_OF_CLIENT);
        assert_eq!(greedy.len(), MAX_OF_CLIENT);
        assert_eq!(turns(&shares, "::ffff:10.0.0.9", 1).len(), 0, "the same client by another spelling");
        assert_eq!(turns(&shares, "10.0.0.10", 10).len(), 10);
        drop(greedy);
        assert_eq!(turns(&shares, "10.0.0.9", 1).len(), 1);
        assert!(shares.waiting().is_empty(), "who does not wait is forgotten");
    }

    #[test]
    fn the_addresses_of_one_host_share_and_loopback_is_not_counted() {
        let shares = Arc::new(Shares::default());
        let _greedy = turns(&shares, "fd00::1", MAX_OF_CLIENT);
        assert_eq!(turns(&shares, "fd00::2", 1).len(), 0);
        assert_eq!(turns(&shares, "fd00:0:0:1::1", 1).len(), 1);
        for loopback in ["127.0.0.1", "127.0.0.9", "::1"] {
            assert_eq!(turns(&shares, loopback, 2 * MAX_OF_CLIENT).len(), 2 * MAX_OF_CLIENT);
        }
    }
}
