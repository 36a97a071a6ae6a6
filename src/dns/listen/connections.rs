//! Who is connected over TCP, and who has to go when there are too many.
//!
//! The newest connection is never refused: at a cap the oldest one without a complete first query is closed, and if all
//! have sent one, the one that has been silent longest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// Connections a listener holds at most.
const MAX_TOTAL: usize = 1024;
/// Connections one address holds at most; loopback is exempt, since all of a host's programs share it.
const MAX_PER_CLIENT: usize = 64;

/// The connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<u64, Open>,
    next_id: u64,
}

#[derive(Debug)]
struct Open {
    client: IpAddr,
    /// When it was accepted, later when it last sent a query.
    active: Instant,
    has_asked: bool,
    close: CancellationToken,
}

/// A place among the connections; given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    all: Arc<Connections>,
    /// Cancelled when the connection must go.
    pub close: CancellationToken,
}

impl Connections {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a connection, and says whether another had to go for it.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr, now: Instant) -> (Place, bool) {
        let mut inner = self.inner();
        let of_client = |open: &Open| open.client == client;
        let victim = if !client.is_loopback() && inner.open.values().filter(|o| of_client(o)).count() >= MAX_PER_CLIENT
        {
            inner.first_to_go(of_client)
        } else if inner.open.len() >= MAX_TOTAL {
            inner.first_to_go(|_| true)
        } else {
            None
        };
        let evicted = victim.and_then(|id| inner.open.remove(&id)).map(|open| open.close.cancel()).is_some();
        let id = inner.next_id;
        inner.next_id += 1;
        let close = CancellationToken::new();
        inner.open.insert(id, Open { client, active: now, has_asked: false, close: close.clone() });
        (Place { id, all: Arc::clone(self), close }, evicted)
    }
}

impl Inner {
    fn first_to_go(&self, among: impl Fn(&Open) -> bool) -> Option<u64> {
        self.open
            .iter()
            .filter(|(_, open)| among(open))
            .min_by_key(|(_, open)| (open.has_asked, open.active))
            .map(|(id, _)| *id)
    }
}

impl Place {
    /// A whole query has come.
    pub(super) fn has_asked(&self, now: Instant) {
        if let Some(open) = self.all.inner().open.get_mut(&self.id) {
            open.has_asked = true;
            open.active = now;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.inner().open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn at_the_cap_the_oldest_without_a_query_goes_and_the_newest_stays() {
        let (all, start) = (Arc::new(Connections::default()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let places: Vec<Place> = (0..MAX_PER_CLIENT as u64).map(|i| all.admit(client(1), at(i)).0).collect();
        places[0].has_asked(at(100));
        let (newest, evicted) = all.admit(client(1), at(200));
        assert!(evicted && places[1].close.is_cancelled());
        assert!(!places[0].close.is_cancelled() && !newest.close.is_cancelled());
    }

    #[test]
    fn if_all_have_asked_the_longest_silent_goes() {
        let (all, start) = (Arc::new(Connections::default()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let places: Vec<Place> = (0..MAX_PER_CLIENT as u64).map(|i| all.admit(client(1), at(i)).0).collect();
        places.iter().enumerate().for_each(|(i, place)| place.has_asked(at(if i == 7 { 50 } else { 100 })));
        all.admit(client(1), at(200));
        assert!(places[7].close.is_cancelled());
    }

    #[test]
    fn one_client_cannot_push_out_another_and_the_total_is_bounded() {
        let (all, now) = (Arc::new(Connections::default()), Instant::now());
        let (other, _) = all.admit(client(2), now);
        let _crowd: Vec<Place> = (0..10 * MAX_PER_CLIENT).map(|_| all.admit(client(1), now).0).collect();
        assert!(!other.close.is_cancelled());
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let many: Vec<Place> = (0..2 * MAX_TOTAL).map(|_| all.admit(loopback, now).0).collect();
        assert_eq!(all.inner().open.len(), MAX_TOTAL);
        drop(many);
        assert!(all.inner().open.len() <= MAX_PER_CLIENT + 1);
    }
}
