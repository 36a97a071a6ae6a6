//! Who is connected, and who has to go when there are too many.
//!
//! The newest is never refused: at a bound the oldest one without a complete first request is closed, and if all have
//! sent one, the one in which nothing has moved for longest. A stream within a connection that costs as much as a
//! connection counts as one ([`Place::beside`]).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio_util::sync::CancellationToken;

/// How many connections a listener holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub total: usize,
    /// Of one address, unless its connections are counted in the total alone.
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
    /// How many of them count towards each client's bound.
    of_client: HashMap<IpAddr, usize>,
    next_id: u64,
}

#[derive(Debug)]
struct Open {
    counted_as: Option<IpAddr>,
    activity: Arc<Activity>,
    close: CancellationToken,
}

/// What a connection has done so far. It is written for each piece of bytes that moves, so without a lock.
#[derive(Debug)]
struct Activity {
    admitted: Instant,
    /// Nanoseconds from `admitted` to the last sign of life: enough for 584 years.
    last: AtomicU64,
    has_asked: AtomicBool,
}

/// A place among the connections; given up when dropped.
#[derive(Debug)]
pub struct Place {
    id: u64,
    counted_as: Option<IpAddr>,
    activity: Arc<Activity>,
    all: Arc<Connections>,
    /// Cancelled when the connection must go.
    pub close: CancellationToken,
}

/// The connections of several listeners, to be counted: those of a listener that has closed as well, until they end.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Vec<Weak<Connections>>>);

impl Roster {
    /// The connections of one more listener.
    pub fn add(&self, connections: &Arc<Connections>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(connections));
    }

    /// How many connections there are now.
    pub fn open(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).map(|connections| connections.open()).sum()
    }
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
    /// `counted_as` is whose bound it counts towards; `None` where many programs share one address, as those of a host
    /// share loopback: then the total alone bounds it.
    pub fn admit(
        self: &Arc<Self>,
        counted_as: Option<IpAddr>,
        now: Instant,
        close: CancellationToken,
    ) -> (Place, bool) {
        let mut inner = self.inner();
        let of_client = counted_as.and_then(|client| inner.of_client.get(&client).copied()).unwrap_or(0);
        let victim = if of_client >= self.bounds.per_client {
            inner.first_to_go(|open| open.counted_as == counted_as)
        } else if inner.open.len() >= self.bounds.total {
            inner.first_to_go(|_| true)
        } else {
            None
        };
        let evicted = inner.evict(victim);
        let id = inner.next_id;
        inner.next_id += 1;
        let activity = Arc::new(Activity { admitted: now, last: AtomicU64::new(0), has_asked: AtomicBool::new(false) });
        if let Some(client) = counted_as {
            *inner.of_client.entry(client).or_default() += 1;
        }
        inner.open.insert(id, Open { counted_as, activity: Arc::clone(&activity), close: close.clone() });
        (Place { id, counted_as, activity, all: Arc::clone(self), close }, evicted)
    }

    /// Closes the one that has to go first, for want of something else than a place: the system is out of descriptors or
    /// memory, which is a bound too. Whether there was one.
    pub fn give_way(&self) -> bool {
        let mut inner = self.inner();
        let victim = inner.first_to_go(|_| true);
        inner.evict(victim)
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Some(client) = open.counted_as
            && let Some(count) = self.of_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(&client);
            }
        }
        Some(open)
    }

    fn evict(&mut self, victim: Option<u64>) -> bool {
        victim.and_then(|id| self.remove(id)).map(|open| open.close.cancel()).is_some()
    }

    fn first_to_go(&self, among: impl Fn(&Open) -> bool) -> Option<u64> {
        self.open
            .iter()
            .filter(|(_, open)| among(open))
            .min_by_key(|(_, Open { activity, .. })| (activity.has_asked.load(Ordering::Relaxed), activity.last()))
            .map(|(id, _)| *id)
    }
}

impl Activity {
    fn last(&self) -> Instant {
        self.admitted + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }
}

impl Place {
    /// A place for a stream within this connection: it counts for the same client, and closes with the connection. Says
    /// whether another had to go for it.
    pub fn beside(&self, now: Instant) -> (Self, bool) {
        self.all.admit(self.counted_as, now, self.close.child_token())
    }

    /// A whole request has come.
    pub fn has_asked(&self, now: Instant) {
        self.activity.has_asked.store(true, Ordering::Relaxed);
        self.moved(now);
    }

    /// Bytes have moved: of all that have asked, the one that has been still for longest is the first to go.
    pub fn moved(&self, now: Instant) {
        let since = now.saturating_duration_since(self.activity.admitted);
        self.activity.last.store(since.as_nanos() as u64, Ordering::Relaxed);
    }

    /// When it was admitted, asked or moved bytes last.
    pub fn last_moved(&self) -> Instant {
        self.activity.last()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.inner().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds { total: 256, per_client: 16 };

    fn client(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
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
    fn if_all_have_asked_the_one_goes_in_which_nothing_has_moved_for_longest() {
        let (all, start) = (Connections::new(BOUNDS), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let places: Vec<Place> =
            (0..BOUNDS.per_client as u64).map(|i| all.admit(client(1), at(i), CancellationToken::new()).0).collect();
        places.iter().enumerate().for_each(|(i, place)| place.has_asked(at(100 + i as u64)));
        // The oldest is busy, and so are all but one of the others.
        places.iter().enumerate().filter(|(i, _)| *i != 7).for_each(|(_, place)| place.moved(at(200)));
        all.admit(client(1), at(300), CancellationToken::new());
        let gone: Vec<usize> = (0..places.len()).filter(|i| places[*i].close.is_cancelled()).collect();
        assert_eq!(gone, [7]);
    }

    #[test]
    fn where_the_system_is_at_a_bound_one_goes_that_has_asked_for_nothing_and_then_the_stillest() {
        let (all, start) = (Connections::new(BOUNDS), Instant::now());
        let places: Vec<Place> =
            (0..3).map(|last| all.admit(client(last), start, CancellationToken::new()).0).collect();
        places[0].has_asked(start + Duration::from_secs(2));
        places[1].has_asked(start + Duration::from_secs(1));
        for gone in [2, 1, 0] {
            assert!(!places[gone].close.is_cancelled() && all.give_way() && places[gone].close.is_cancelled());
        }
        assert!(!all.give_way(), "nobody is left");
    }

    #[test]
    fn a_stream_counts_for_its_client_and_closes_with_its_connection() {
        let (all, now) = (Connections::new(BOUNDS), Instant::now());
        let (connection, _) = all.admit(client(1), now, CancellationToken::new());
        connection.has_asked(now + Duration::from_secs(9));
        let streams: Vec<(Place, bool)> = (0..BOUNDS.per_client).map(|_| connection.beside(now)).collect();
        assert!(streams.last().unwrap().1, "the bound holds over both");
        assert!(all.open() == BOUNDS.per_client && !connection.close.is_cancelled());
        connection.close.cancel();
        assert!(streams.iter().all(|(stream, _)| stream.close.is_cancelled()));
    }

    #[test]
    fn a_roster_counts_what_is_open_even_of_listeners_that_are_gone() {
        let (roster, now) = (Roster::default(), Instant::now());
        let admit = |all: &Arc<Connections>| all.admit(None, now, CancellationToken::new()).0;
        let [one, other] = [Connections::new(BOUNDS), Connections::new(BOUNDS)];
        [&one, &other].into_iter().for_each(|all| roster.add(all));
        let places = [admit(&one), admit(&one), admit(&other)];
        drop((one, other));
        assert_eq!(roster.open(), 3);
        drop(places);
        assert_eq!(roster.open(), 0);
    }

    #[test]
    fn one_client_cannot_push_out_another_and_the_total_is_bounded() {
        let (all, now) = (Connections::new(BOUNDS), Instant::now());
        let (other, _) = all.admit(client(2), now, CancellationToken::new());
        let crowd: Vec<Place> =
            (0..10 * BOUNDS.per_client).map(|_| all.admit(client(1), now, CancellationToken::new()).0).collect();
        assert!(!other.close.is_cancelled());
        let many: Vec<Place> =
            (0..2 * BOUNDS.total).map(|_| all.admit(None, now, CancellationToken::new()).0).collect();
        assert_eq!(all.open(), BOUNDS.total);
        drop(many);
        assert!(all.open() <= BOUNDS.per_client + 1);
        drop((crowd, other));
        assert!(all.inner().of_client.is_empty(), "who is gone is forgotten");
    }
}
