//! The dialer behind all three entrances: from a permit to a TCP connection.
//!
//! Addresses come from the policy's endpoint or from the resolver that `app` hands in, never from the system's. Each is
//! checked before it is dialled ([`AddressRules`]).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::address::AddressRules;
use super::dead::DeadAddresses;
use super::own::OwnConnections;
use super::permit::{Permit, Way};
use super::race::{self, Attempt, AttemptEnd, Failure, Late};
use super::refusal::{Cause, Refusal};
use crate::egress_proxy::{EgressError, EgressProxy, Host};
use crate::policy::{Endpoint, Family, HostName, Upstream};
use crate::tcp_listener;

/// From the start of the look-up to a connection, or the client is told.
const DIAL: Duration = Duration::from_secs(10);
/// With addresses of one family at hand, the other's are awaited so long before the race begins, RFC 8305 section 3; they
/// join it when they come.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// What a server does not acknowledge within this, the system gives up, and the connection with it (RFC 5482).
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Before a name goes to the egress proxy, public DNS has so long to say that it does not exist.
const LEARN: Duration = Duration::from_millis(300);

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveError {
    NoSuchName,
    /// In words for an operator.
    Failed(String),
}

/// What a name resolves to by one group of servers, beneath whatever DNS clients are told. An empty list: no address of
/// that family.
pub type Resolve = Arc<dyn Fn(HostName, Family, Upstream) -> Resolving + Send + Sync>;

/// A look-up under way.
pub type Resolving = Pin<Box<dyn Future<Output = Resolved> + Send>>;

/// Is told of every attempt to connect to an address of an endpoint, at the endpoint's own port: whoever answers with these
/// addresses learns by that which of them let nobody in. Called in the middle of a dial, so that it must not wait.
pub type OnAttempt = Arc<dyn Fn(Attempt<'_>) + Send + Sync>;

type Resolved = Result<Vec<IpAddr>, ResolveError>;

/// A connection, and the permit it was dialled by.
#[derive(Debug)]
pub struct Dialled {
    pub stream: TcpStream,
    /// The peer: the destination's address, or the egress proxy's.
    pub address: SocketAddr,
    pub permit: Permit,
}

/// Connects to permitted destinations.
pub struct Dialer {
    pub resolve: Resolve,
    pub on_attempt: OnAttempt,
    pub addresses: AddressRules,
    /// The port of public APIs: 443 but in labs.
    pub public_port: u16,
    /// Reaches public names in our place, and resolves them.
    pub parent_proxy: Option<EgressProxy>,
    dead: DeadAddresses,
    own: OwnConnections,
    /// Makes successive connections begin with different addresses.
    turn: AtomicUsize,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Dialer {
    pub fn new(
        resolve: Resolve,
        on_attempt: OnAttempt,
        addresses: AddressRules,
        public_port: u16,
        parent_proxy: Option<EgressProxy>,
    ) -> Self {
        let (dead, own, turn) = (DeadAddresses::default(), OwnConnections::default(), AtomicUsize::new(0));
        Self { resolve, on_attempt, addresses, public_port, parent_proxy, dead, own, turn }
    }

    /// Connects to what is permitted, within ten seconds.
    ///
    /// # Errors
    /// With what kept it from connecting; [`Cause::NoSuchName`] may mean that the table has learned something.
    pub async fn dial(&self, permit: Permit) -> Result<Dialled, Refusal> {
        let (stream, address) = match &permit.way {
            Way::Endpoint(endpoint) => {
                // The race ends by itself before, and a timer for nothing costs each connection.
                const { assert!(race::LONGEST.as_millis() < DIAL.as_millis()) };
                let known = Found::now(self.of_endpoint(endpoint, permit.destination.port));
                self.first_allowed(known, &permit).await?
            }
            Way::Upstream(upstream) => self.outside(*upstream, &permit, Instant::now() + DIAL).await?,
        };
        Ok(Dialled { stream, address, permit })
    }

    /// Connects to what has to be looked up first, by the deadline.
    async fn outside(
        &self,
        upstream: Upstream,
        permit: &Permit,
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Refusal> {
        let connect = async {
            if let (Upstream::Public, Some(proxy)) = (upstream, &self.parent_proxy) {
                return self.through(proxy, permit, deadline).await;
            }
            let found = self.look_up(permit.destination.host, self.port(permit), upstream).await?;
            self.first_allowed(found, permit).await
        };
        timeout_at(deadline, connect).await.unwrap_or_else(|_| {
            let words = format!("{}: no connection within {} s", permit.destination, DIAL.as_secs());
            Err(Refusal::new(Cause::ConnectionTimeout, words))
        })
    }

    /// Refuses a client whose connection is one that this dialer has opened.
    ///
    /// # Errors
    /// A redirect led it back to us.
    pub fn refuse_ourselves(&self, stream: &TcpStream, client: SocketAddr) -> Result<(), Refusal> {
        self.own.refuse(stream, client, Instant::now())
    }

    /// The port to dial on the public side.
    fn port(&self, permit: &Permit) -> u16 {
        if permit.destination.port == 443 { self.public_port } else { permit.destination.port }
    }

    /// Hands the name to the egress proxy. A name that could be a private API's is looked up nevertheless, if public DNS
    /// can be asked: if that does not know it, the proxy cannot either, and the table learns it.
    async fn through(
        &self,
        proxy: &EgressProxy,
        permit: &Permit,
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Refusal> {
        let host = permit.destination.host;
        if permit.learnable {
            let known = timeout(LEARN, (self.resolve)(host, Family::V4, Upstream::Public)).await;
            if let Ok(Err(ResolveError::NoSuchName)) = known {
                return Err(unresolved(&host, &ResolveError::NoSuchName));
            }
        }
        let refused = |cause, words: String| Refusal::new(cause, format!("forward.parent_proxy {proxy}: {words}"));
        let mut found = match proxy.host() {
            Host::Address(ip) => Found::now(vec![SocketAddr::new(*ip, proxy.port())]),
            Host::Name(name) => {
                let found = self.look_up(*name, proxy.port(), Upstream::Vpc).await;
                found.map_err(|refusal| refused(Cause::ParentProxy, refusal.words))?
            }
        };
        if found.now.iter().any(|address| self.addresses.is_our_own(*address)) {
            return Err(refused(Cause::Loop, "this is a listener of this forwarder: name another proxy".to_owned()));
        }
        let not_ours = |addresses: Vec<SocketAddr>| {
            addresses.into_iter().filter(|address| !self.addresses.is_our_own(*address)).collect()
        };
        found.late = found.late.map(|late| late.map(not_ours).boxed());
        let (stream, address) = self.first(found, None).await.map_err(|failure| match failure {
            Some((address, error)) => refused(Cause::ParentProxy, format!("{address}: {error}")),
            None => refused(Cause::ParentProxy, "its name has no address".to_owned()),
        })?;
        let connected = proxy.connect(stream, &Host::Name(host), self.port(permit), deadline).await;
        let stream = connected.map_err(|error| {
            let late = matches!(error, EgressError::Timeout);
            refused(if late { Cause::ConnectionTimeout } else { Cause::ParentProxy }, error.to_string())
        })?;
        Ok((stream, address))
    }

    async fn first_allowed(&self, found: Found<'_>, permit: &Permit) -> Result<(TcpStream, SocketAddr), Refusal> {
        let refused = Mutex::new(None);
        let allowed = |addresses: Vec<SocketAddr>| {
            let check = |address: &SocketAddr| self.addresses.check(*address, permit);
            let pass = |address: &SocketAddr| check(address).map_err(|refusal| *lock(&refused) = Some(refusal)).is_ok();
            addresses.into_iter().filter(pass).collect::<Vec<_>>()
        };
        let late = found.late.map(|late| late.map(&allowed).boxed());
        let found = Found { now: allowed(found.now), late };
        self.first(found, permit.way.endpoint()).await.map_err(|failed| match failed {
            Some((address, error)) => failure(permit, address, &error),
            None => lock(&refused).take().unwrap_or_else(|| no_address(permit)),
        })
    }

    async fn first(
        &self,
        Found { mut now, late }: Found<'_>,
        endpoint: Option<&Endpoint>,
    ) -> Result<(TcpStream, SocketAddr), Option<Failure>> {
        self.dead.last(&mut now, Instant::now());
        let over = |attempt: Attempt<'_>| {
            match attempt.end {
                AttemptEnd::Connected => self.dead.connected(attempt.address),
                AttemptEnd::Failed(_) | AttemptEnd::Overtaken => self.dead.failed(attempt.address, Instant::now()),
            }
            // Another port, which `forward.allow` may name, says nothing of the endpoint.
            if endpoint.is_some_and(|endpoint| endpoint.port == attempt.address.port()) {
                (self.on_attempt)(attempt);
            }
        };
        let (stream, address) = race::connect(now, late, over).await?;
        if let Ok(local) = stream.local_addr() {
            self.own.opened(local, address, Instant::now());
        }
        tcp_listener::keep_alive(&stream);
        // A server that is gone without a word must not be waited for as long as one that thinks.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Ok((stream, address))
    }

    /// Those in a subnet of this host first, in both families; among equals another one is first each time.
    fn of_endpoint(&self, endpoint: &Endpoint, asked: u16) -> Vec<SocketAddr> {
        let port = if asked == 443 { endpoint.port } else { asked };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let known = &endpoint.addresses;
        let parts = |near: bool| {
            let v6 = half(&known.v6, known.near_v6, near).iter().map(|ip| SocketAddr::new((*ip).into(), port));
            let v4 = half(&known.v4, known.near_v4, near).iter().map(|ip| SocketAddr::new((*ip).into(), port));
            race::interleave(turned(v6.collect(), turn), turned(v4.collect(), turn))
        };
        let (mut near, far) = (parts(true), parts(false));
        near.extend(far);
        near
    }

    async fn look_up(&self, host: HostName, port: u16, upstream: Upstream) -> Result<Found<'static>, Refusal> {
        let candidates = move |found: Resolved| -> Vec<SocketAddr> {
            found.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
        };
        let v6 = (self.resolve)(host, Family::V6, upstream);
        let v4 = (self.resolve)(host, Family::V4, upstream);
        let (first, mut other, is_v6) = match select(v6, v4).await {
            Either::Left((v6, v4)) => (v6, v4, true),
            Either::Right((v4, v6)) => (v4, v6, false),
        };
        let second = if first.as_ref().is_ok_and(|addresses| !addresses.is_empty()) {
            timeout(RESOLUTION_DELAY, &mut other).await.ok()
        } else {
            Some(other.as_mut().await)
        };
        let Some(second) = second else {
            return Ok(Found { now: candidates(first), late: Some(other.map(candidates).boxed()) });
        };
        let (v6, v4) = if is_v6 { (first, second) } else { (second, first) };
        let error = match (&v6, &v4) {
            (Err(ResolveError::NoSuchName), _) | (_, Err(ResolveError::NoSuchName)) => Some(ResolveError::NoSuchName),
            (_, Err(error)) | (Err(error), _) => Some(error.clone()),
            (Ok(_), Ok(_)) => None,
        };
        let now = race::interleave(candidates(v6), candidates(v4));
        match error {
            Some(error) if now.is_empty() => Err(unresolved(&host, &error)),
            _ => Ok(Found::now(now)),
        }
    }
}

/// Addresses to dial, and those that are not known yet.
struct Found<'d> {
    now: Vec<SocketAddr>,
    late: Option<Late<'d>>,
}

impl Found<'_> {
    fn now(now: Vec<SocketAddr>) -> Self {
        Self { now, late: None }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of an endpoint that lie in a subnet of this host, or those that do not.
fn half<T>(all: &[T], near: usize, wanted: bool) -> &[T] {
    let (near, far) = all.split_at(near.min(all.len()));
    if wanted { near } else { far }
}

fn turned(mut addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let length = addresses.len().max(1);
    addresses.rotate_left(turn % length);
    addresses
}

fn unresolved(host: &HostName, error: &ResolveError) -> Refusal {
    match error {
        ResolveError::NoSuchName => Refusal::new(
            Cause::NoSuchName,
            format!("{host} does not exist in DNS: correct the name, or list its id as private"),
        ),
        ResolveError::Failed(why) => Refusal::new(Cause::DnsFailure, format!("{host} does not resolve: {why}")),
    }
}

fn no_address(permit: &Permit) -> Refusal {
    Refusal::new(Cause::NoAddress, format!("{} has no address: correct the name", permit.destination.host))
}

fn failure(permit: &Permit, address: SocketAddr, error: &io::Error) -> Refusal {
    let (cause, what) = match error.kind() {
        _ if race::is_ours(error, address) => {
            (Cause::Overloaded, format!("{error}: raise this process's limits, or send it less"))
        }
        io::ErrorKind::ConnectionRefused => {
            (Cause::ConnectionRefused, "refused the connection: is that its address?".to_owned())
        }
        io::ErrorKind::TimedOut => (
            Cause::ConnectionTimeout,
            "did not answer: is its port open to us, by security groups and routes?".to_owned(),
        ),
        _ => (Cause::ConnectionFailed, format!("{error}: is there a route to it?")),
    };
    let way = match &permit.way {
        Way::Endpoint(endpoint) => format!(" of {}", endpoint.label()),
        Way::Upstream(_) => String::new(),
    };
    Refusal::new(cause, format!("{}: {address}{way}: {what}", permit.destination.host))
}

#[cfg(test)]
mod tests;
