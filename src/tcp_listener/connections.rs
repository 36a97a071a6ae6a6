//! Who is connected, and who has to go when there are too many.
//!
//! The newest connection is never refused: at a bound the oldest one without a complete first request is closed, and if
//! all have sent one, the one whose last request is the oldest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// How many connections a listener holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub total: usize,
    /// Of one address; loopback is exempt, since all of a host's programs share it.
    pub per_client: usize,
}

/// The connections of one listener.
#[derive(Debug)]
pub struct Connections {
    bounds: Bounds,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<u64, Open>,
    next_id: u64,
}

#[derive(Debug)]
struct Open {
    client: IpAddr,
    /// When it was accepted, later when it last sent a request.
    active: Instant,
    has_asked: bool,
    close: CancellationToken,
}

/// A place among the connections; given up when dropped.
#[derive(Debug)]
pub struct Place {
    id: u64,
    all: Arc<Connections>,
    /// Cancelled when the connection must go.
    pub close: CancellationToken,
}

impl Connections {
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.inner().open.len()
    }

    /// Makes room for a connection, and says whether another had to go for it. `close` is cancelled when this one must.
    pub fn admit(self: &Arc<Self>, client: IpAddr, now: Instant, close: CancellationToken) -> (Place, bool) {
        let mut inner = self.inner();
        let of_client = |open: &Open| open.client == client;
        let victim = if !client.is_loopback()
            && inner.open.values().filter(|o| of_client(o)).count() >= self.bounds.per_client
        {
            inner.first_to_go(of_client)
        } else if inner.open.len() >= self.bounds.total {
            inner.first_to_go(|_| true)
        } else {
            None
        };
        let evicted = victim.and_then(|id| inner.open.remove(&id)).map(|open| open.close.cancel()).is_some();
        let id = inner.next_id;
        inner.next_id += 1;
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
    /// A whole request has come.
    pub fn has_asked(&self, now: Instant) {
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

    const BOUNDS: Bounds = Bounds { total: 256, per_client: 16 };

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn at_the_cap_the_oldest_without_a_request_goes_and_the_newest_stays() {
        let (all, start) = (Connections::new(BOUNDS), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let places: Vec<Place> =
            (0..BOUNDS.per_client as u64).map(|i| all.admit(client(1), at(i), CancellationToken::new()).0).collect();
        places[0].has_asked(at(100));
        let (newest, evicted) = all.admit(client(1), at(200), CancellationToken::new());
        assert!(evicted && places[1].close.is_cancelled());
        assert!(!places[0].close.is_cancelled() && !newest.close.is_cancelled());
    }

    #[test]
    fn if_all_have_asked_the_longest_silent_goes() {
        let (all, start) = (Connections::new(BOUNDS), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let places: Vec<Place> =
            (0..BOUNDS.per_client as u64).map(|i| all.admit(client(1), at(i), CancellationToken::new()).0).collect();
        places.iter().enumerate().for_each(|(i, place)| place.has_asked(at(if i == 7 { 50 } else { 100 })));
        all.admit(client(1), at(200), CancellationToken::new());
        assert!(places[7].close.is_cancelled());
    }

    #[test]
    fn one_client_cannot_push_out_another_and_the_total_is_bounded() {
        let (all, now) = (Connections::new(BOUNDS), Instant::now());
        let (other, _) = all.admit(client(2), now, CancellationToken::new());
        let _crowd: Vec<Place> =
            (0..10 * BOUNDS.per_client).map(|_| all.admit(client(1), now, CancellationToken::new()).0).collect();
        assert!(!other.close.is_cancelled());
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let many: Vec<Place> =
            (0..2 * BOUNDS.total).map(|_| all.admit(loopback, now, CancellationToken::new()).0).collect();
        assert_eq!(all.open(), BOUNDS.total);
        drop(many);
        assert!(all.open() <= BOUNDS.per_client + 1);
    }
}
