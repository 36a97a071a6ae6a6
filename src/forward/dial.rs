//! The dialer behind all three entrances: from a permit to a TCP connection.
//!
//! Addresses come from the policy's endpoint or from the resolver that `app` hands in, never from the system's. Each is
//! checked before it is dialled ([`AddressRules`]).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::address::AddressRules;
use super::dead::DeadAddresses;
use super::permit::{Permit, Way};
use super::race::{self, Failure};
use super::refusal::{Cause, Refusal};
use crate::egress_proxy::{EgressProxy, Host};
use crate::policy::{Endpoint, HostName, Upstream};

/// From the start of the look-up to a connection, or the client is told.
const DIAL: Duration = Duration::from_secs(10);
/// With addresses of one family at hand, the other's are awaited no longer than this, RFC 8305 section 3.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// A family of addresses to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

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
pub type Resolving = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send>>;

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
    pub addresses: AddressRules,
    /// The port of public APIs: 443 but in labs.
    pub public_port: u16,
    /// Reaches public names in our place, and resolves them.
    pub parent_proxy: Option<EgressProxy>,
    dead: DeadAddresses,
    /// Makes successive connections begin with different addresses.
    turn: AtomicUsize,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Dialer {
    pub fn new(resolve: Resolve, addresses: AddressRules, public_port: u16, parent_proxy: Option<EgressProxy>) -> Self {
        let (dead, turn) = (DeadAddresses::default(), AtomicUsize::new(0));
        Self { resolve, addresses, public_port, parent_proxy, dead, turn }
    }

    /// Connects to what is permitted, within ten seconds.
    ///
    /// # Errors
    /// With what kept it from connecting; [`Cause::NoSuchName`] may mean that the table has learned something.
    pub async fn dial(&self, permit: Permit) -> Result<Dialled, Refusal> {
        let deadline = Instant::now() + DIAL;
        let connect = async {
            match (&permit.way, &self.parent_proxy) {
                (Way::Endpoint(endpoint), _) => {
                    self.first_allowed(self.of_endpoint(endpoint, permit.destination.port), &permit).await
                }
                (Way::Upstream(Upstream::Public), Some(proxy)) => self.through(proxy, &permit, deadline).await,
                (Way::Upstream(upstream), _) => {
                    let port = self.port(&permit);
                    let found = self.addresses_of(permit.destination.host, port, *upstream).await?;
                    self.first_allowed(found, &permit).await
                }
            }
        };
        let (stream, address) = timeout_at(deadline, connect).await.map_err(|_| {
            Refusal::new(Cause::ConnectionTimeout, format!("{}: no connection in time", permit.destination))
        })??;
        Ok(Dialled { stream, address, permit })
    }

    /// The port to dial on the public side.
    fn port(&self, permit: &Permit) -> u16 {
        if permit.destination.port == 443 { self.public_port } else { permit.destination.port }
    }

    /// Hands the name to the egress proxy. A name that could be a private API's is looked up nevertheless: if public DNS
    /// does not know it, the proxy cannot either, and the table learns it.
    async fn through(
        &self,
        proxy: &EgressProxy,
        permit: &Permit,
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Refusal> {
        let host = permit.destination.host;
        if permit.learnable
            && let Err(ResolveError::NoSuchName) = (self.resolve)(host, Family::V4, Upstream::Public).await
        {
            return Err(unresolved(&host, &ResolveError::NoSuchName));
        }
        let refused =
            |words: String| Refusal::new(Cause::ParentProxy, format!("forward.parent_proxy {proxy}: {words}"));
        let addresses = match proxy.host() {
            Host::Address(ip) => vec![SocketAddr::new(*ip, proxy.port())],
            Host::Name(name) => {
                let found = self.addresses_of(*name, proxy.port(), Upstream::Vpc).await;
                found.map_err(|refusal| refused(refusal.words))?
            }
        };
        let (stream, address) = self.first(addresses).await.map_err(|failure| match failure {
            Some((address, error)) => refused(format!("{address}: {error}")),
            None => refused("its name has no address".to_owned()),
        })?;
        let connected = proxy.connect(stream, &Host::Name(host), self.port(permit), deadline).await;
        Ok((connected.map_err(|error| refused(error.to_string()))?, address))
    }

    async fn first_allowed(
        &self,
        candidates: Vec<SocketAddr>,
        permit: &Permit,
    ) -> Result<(TcpStream, SocketAddr), Refusal> {
        let (mut allowed, mut refused) = (Vec::with_capacity(candidates.len()), None);
        for address in candidates {
            match self.addresses.check(address, permit) {
                Ok(()) => allowed.push(address),
                Err(refusal) => refused = Some(refusal),
            }
        }
        self.first(allowed).await.map_err(|failed| match failed {
            Some((address, error)) => failure(permit, address, &error),
            None => refused.unwrap_or_else(|| no_address(permit)),
        })
    }

    async fn first(&self, mut addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Option<Failure>> {
        self.dead.last(&mut addresses, Instant::now());
        let (stream, address) = race::connect(&addresses, |address| self.dead.failed(address, Instant::now())).await?;
        self.dead.connected(address);
        // What is relayed was cut into packets by whoever sent it.
        let _ = stream.set_nodelay(true);
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

    async fn addresses_of(&self, host: HostName, port: u16, upstream: Upstream) -> Result<Vec<SocketAddr>, Refusal> {
        let v6 = (self.resolve)(host, Family::V6, upstream);
        let v4 = (self.resolve)(host, Family::V4, upstream);
        let (v6, v4) = match select(v6, v4).await {
            Either::Left((v6, v4)) => {
                let v4 = other(&v6, v4).await;
                (v6, v4)
            }
            Either::Right((v4, v6)) => (other(&v4, v6).await, v4),
        };
        let error = match (&v6, &v4) {
            (Err(ResolveError::NoSuchName), _) | (_, Err(ResolveError::NoSuchName)) => Some(ResolveError::NoSuchName),
            (_, Err(error)) | (Err(error), _) => Some(error.clone()),
            (Ok(_), Ok(_)) => None,
        };
        let candidates = |found: Result<Vec<IpAddr>, _>| {
            found.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
        };
        let candidates = race::interleave(candidates(v6), candidates(v4));
        match error {
            Some(error) if candidates.is_empty() => Err(unresolved(&host, &error)),
            _ => Ok(candidates),
        }
    }
}

/// The other family's answer: waited for in full if there is nothing to dial yet, else for a moment.
async fn other(first: &Result<Vec<IpAddr>, ResolveError>, second: Resolving) -> Result<Vec<IpAddr>, ResolveError> {
    if first.as_ref().is_ok_and(|addresses| !addresses.is_empty()) {
        timeout(RESOLUTION_DELAY, second).await.unwrap_or_else(|_| Ok(Vec::new()))
    } else {
        second.await
    }
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
        ResolveError::NoSuchName => Refusal::new(Cause::NoSuchName, format!("{host} does not exist in DNS")),
        ResolveError::Failed(why) => Refusal::new(Cause::DnsFailure, format!("{host} does not resolve: {why}")),
    }
}

fn no_address(permit: &Permit) -> Refusal {
    Refusal::new(Cause::NoAddress, format!("{} has no address", permit.destination.host))
}

fn failure(permit: &Permit, address: SocketAddr, error: &io::Error) -> Refusal {
    let (cause, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Cause::ConnectionRefused, "refused the connection".to_owned()),
        io::ErrorKind::TimedOut => (Cause::ConnectionTimeout, "did not answer: is port 443 open to us?".to_owned()),
        _ => (Cause::ConnectionFailed, error.to_string()),
    };
    let way = match &permit.way {
        Way::Endpoint(endpoint) => format!(" of {}", endpoint.label()),
        Way::Upstream(_) => String::new(),
    };
    Refusal::new(cause, format!("{}: {address}{way}: {what}", permit.destination.host))
}

#[cfg(test)]
mod tests;
