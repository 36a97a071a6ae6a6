//! How many requests of one client may be under way, so that no client takes the connections of all others.
//!
//! `forward` asks for a share before a connection; the answer's body holds it. A WebSocket has none: it lasts as
//! its client's connection does, and those have a bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::forward::refusal::{Cause, Refusal};
use crate::interfaces;

/// Requests under way of one address at most: half of what one host may have, a quarter of all.
const PER_CLIENT: usize = 256;

type Counts = Mutex<HashMap<IpAddr, usize>>;

/// Those that have requests under way.
#[derive(Debug, Default)]
pub(super) struct Clients(Arc<Counts>);

/// One request among those of its client.
#[derive(Debug)]
pub(super) struct Share {
    client: IpAddr,
    counts: Arc<Counts>,
}

impl Clients {
    /// Leave for one more request. This host's addresses have no bound: all its programs share them.
    ///
    /// # Errors
    /// The client has as many as it may.
    pub(super) fn share(&self, client: IpAddr) -> Result<Share, Refusal> {
        let mut counts = lock(&self.0);
        let count = counts.entry(client).or_default();
        if *count >= PER_CLIENT && !is_here(client) {
            let words = format!("{PER_CLIENT} requests of {client} are under way: wait for their answers");
            return Err(Refusal::new(Cause::Overloaded, words));
        }
        *count += 1;
        Ok(Share { client, counts: Arc::clone(&self.0) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_here(client: IpAddr) -> bool {
    client.is_loopback() || interfaces::networks().iter().any(|(own, _)| *own == client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_the_others_and_gets_it_back() {
        let clients = Clients::default();
        let (greedy, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut shares: Vec<_> = (0..PER_CLIENT).map(|_| clients.share(greedy).unwrap()).collect();
        assert_eq!(clients.share(greedy).unwrap_err().cause, Cause::Overloaded);
        let others = clients.share(other).unwrap();
        shares.pop();
        shares.push(clients.share(greedy).unwrap());
        drop((shares, others));
        assert!(lock(&clients.0).is_empty(), "who has nothing under way is forgotten");
    }

    #[test]
    fn programs_on_this_host_share_an_address_and_have_no_bound() {
        let clients = Clients::default();
        let shares: Vec<_> = (0..=PER_CLIENT).map(|_| clients.share([127, 0, 0, 1].into())).collect();
        assert!(shares.iter().all(Result::is_ok));
    }
}
