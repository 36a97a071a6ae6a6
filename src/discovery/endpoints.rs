//! Addresses of endpoints that come from DNS: looked up through the VPC resolver, again whenever their TTL ends, and kept
//! while it does not answer.
//!
//! The VPC resolver knows which network interfaces of the endpoint are healthy, needs no permissions to be asked, and
//! sees subnets come and go (PrivateLink guide, "Access an AWS service using an interface VPC endpoint").

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{OptionFuture, join_all};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::compose::nearest_first;
use super::merge::Discovery;
use super::region::Metadata;
use super::zone::{Zone, is_regional};
use crate::policy::{Addresses, EndpointIndex, Family, HostName, is_globally_routable};

/// The shortest time between two look-ups, whatever the TTL.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The longest: addresses of an endpoint change when its subnets do.
const MAX_INTERVAL: Duration = Duration::from_secs(300);
/// After a failure: at first, doubled each time, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// An endpoint's name in this host's zone has so long: it says which addresses are near, not which there are.
const ZONAL: Duration = Duration::from_secs(1);

/// What a look-up found: addresses, none where the name has none of the family, and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub addresses: Vec<IpAddr>,
    pub ttl: Duration,
}

/// Asks the VPC resolver for the addresses of a name; the error is in words for an operator.
pub type LookUp =
    Arc<dyn Fn(HostName, Family) -> Pin<Box<dyn Future<Output = Result<Found, String>> + Send>> + Send + Sync>;

impl Discovery {
    /// Keeps the addresses of all endpoints fresh, for the configuration of this moment. `attempted` is dropped once each
    /// of them has been looked up once, whatever came of it. `metadata` is asked for the zone of this host once, if an
    /// endpoint has a name by zone. Never returns.
    pub async fn follow_endpoints(
        self: Arc<Self>,
        look_up: LookUp,
        metadata: Metadata,
        attempted: impl Send + Sync + 'static,
    ) {
        let attempted = Arc::new(attempted);
        let zone = async move { metadata.zone().await }.boxed().shared();
        let mut tasks = JoinSet::new();
        for (index, name, is_apex) in self.names_to_look_up() {
            let wanted = WantedName { index, name, is_apex };
            let zone = is_regional(&name).then(|| zone.clone());
            let follow = Arc::clone(&self).follow(wanted, Arc::clone(&look_up), zone, Arc::clone(&attempted));
            tasks.spawn(follow);
        }
        drop(attempted);
        while tasks.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }

    async fn follow(
        self: Arc<Self>,
        WantedName { index, name, is_apex }: WantedName,
        look_up: LookUp,
        zone: Option<impl Future<Output = Option<Zone>> + Unpin + Send>,
        attempted: impl Send,
    ) {
        let mut attempted = Some(attempted);
        let mut retry = FIRST_RETRY;
        let mut zone: OptionFuture<_> = zone.into();
        let (mut is_zone_awaited, mut zonal) = (true, Zonal::default());
        if !self.addresses(index).is_empty() {
            // After a reload: these serve meanwhile, and those of them that are near stay it.
            zonal = Zonal::of_zone((&mut zone).await.flatten(), &name);
            is_zone_awaited = false;
        }
        loop {
            zonal.look_up(&look_up).await;
            let wait = match look_up_once(&name, is_apex, &self.addresses(index), &zonal.addresses(), &look_up).await {
                Ok((addresses, ttl)) => {
                    retry = FIRST_RETRY;
                    self.set_found(index, addresses);
                    ttl.clamp(MIN_INTERVAL, MAX_INTERVAL)
                }
                Err(problem) => {
                    self.set_problem(index, problem);
                    let wait = retry;
                    retry = (retry * 2).min(LAST_RETRY);
                    wait
                }
            };
            attempted.take();
            let next = tokio::time::Instant::now() + wait;
            if is_zone_awaited {
                tokio::select! {
                    found = &mut zone => {
                        is_zone_awaited = false;
                        zonal = Zonal::of_zone(found.flatten(), &name);
                        if !zonal.0.is_empty() {
                            continue;
                        }
                    }
                    () = tokio::time::sleep_until(next) => continue,
                }
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// Looks every endpoint up once, for commands that end.
    pub async fn look_up_endpoints(&self, look_up: &LookUp) {
        for (index, name, is_apex) in self.names_to_look_up() {
            match look_up_once(&name, is_apex, &self.addresses(index), &[], look_up).await {
                Ok((addresses, _)) => self.set_found(index, addresses),
                Err(problem) => self.set_problem(index, problem),
            }
        }
    }

    fn set_found(&self, index: EndpointIndex, addresses: Addresses) {
        let before = self.addresses(index);
        match (&before.problem, &addresses.problem) {
            (was, Some(problem)) if was.as_ref() != Some(problem) => tracing::warn!("{problem}"),
            (_, None) if (&before.v4, &before.v6) != (&addresses.v4, &addresses.v6) => {
                tracing::info!(v4 = ?addresses.v4, v6 = ?addresses.v6, "endpoint addresses");
            }
            _ => {}
        }
        self.set_addresses(index, addresses);
    }

    /// Keeps the last answer while there is none.
    fn set_problem(&self, index: EndpointIndex, problem: String) {
        let mut addresses = self.addresses(index);
        if addresses.problem.as_ref() != Some(&problem) {
            let kept =
                if addresses.is_empty() { "private APIs answer SERVFAIL" } else { "its last addresses are kept" };
            tracing::warn!("endpoint addresses: {problem}; {kept}");
            addresses.problem = Some(problem);
            self.set_addresses(index, addresses);
        }
    }
}

/// A name whose addresses are an endpoint's.
struct WantedName {
    index: EndpointIndex,
    name: HostName,
    is_apex: bool,
}

/// What an endpoint's names in this host's zone say, by the zone's name and by its id; at most one of them exists.
#[derive(Default)]
struct Zonal(Vec<(HostName, Family, Vec<IpAddr>)>);

impl Zonal {
    /// What `regional` is called in the zone of this host; nothing where that is not known.
    fn of_zone(zone: Option<Zone>, regional: &HostName) -> Self {
        Self::of(&zone.map(|zone| zone.names_of(regional)).unwrap_or_default())
    }

    fn of(names: &[HostName]) -> Self {
        let both = |name: &HostName| [Family::V4, Family::V6].map(|family| (*name, family, Vec::new()));
        Self(names.iter().flat_map(both).collect())
    }

    /// Asks for all of them at once. What is not answered in time stays as it was.
    async fn look_up(&mut self, look_up: &LookUp) {
        let questions = self.0.iter_mut().map(|(name, family, known)| async {
            if let Ok(Ok(found)) = timeout(ZONAL, look_up(*name, *family)).await {
                *known = found.addresses;
            }
        });
        join_all(questions).await;
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.0.iter().flat_map(|(_, _, known)| known).copied().collect()
    }
}

async fn look_up_once(
    name: &HostName,
    is_apex: bool,
    before: &Addresses,
    zonal: &[IpAddr],
    look_up: &LookUp,
) -> Result<(Addresses, Duration), String> {
    let (v4, v6) = tokio::join!(look_up(*name, Family::V4), look_up(*name, Family::V6));
    let (v4, v6) = match (v4, v6) {
        // One family is enough; what was known of the other is kept, and asked for again soon.
        (Ok(v4), Err(_)) if !v4.addresses.is_empty() => (v4, kept(before.v6.iter().copied())),
        (Err(_), Ok(v6)) if !v6.addresses.is_empty() => (kept(before.v4.iter().copied()), v6),
        (Err(error), _) | (_, Err(error)) => return Err(format!("{name} cannot be looked up: {error}")),
        (Ok(v4), Ok(v6)) => (v4, v6),
    };
    let ttl = [&v4, &v6].iter().filter(|found| !found.addresses.is_empty()).map(|found| found.ttl).min();
    let mut found: Vec<IpAddr> = v4.addresses.into_iter().chain(v6.addresses).collect();
    // A resolver that turns its answers around says nothing new by that, and those who answer or dial take turns anyway.
    found.sort_unstable();
    let Some(ttl) = ttl else {
        let problem = format!("{name} has no address: is there an execute-api endpoint in this VPC?");
        return Ok((Addresses { problem: Some(problem), ..Addresses::default() }, MIN_INTERVAL * 6));
    };
    let addresses = nearest_first(found.into_iter(), zonal);
    if is_apex && is_public(&addresses) {
        let problem = format!(
            "{name} resolves to public addresses: private DNS is off for this VPC's execute-api endpoint, or there is none; \
             set endpoint.dns_name or endpoint.addresses"
        );
        return Ok((Addresses { problem: Some(problem), ..Addresses::default() }, MIN_INTERVAL * 6));
    }
    Ok((Addresses { fresh_until: Some(Instant::now() + ttl), ..addresses }, ttl))
}

/// Addresses of a family that could not be looked up this time.
fn kept(addresses: impl Iterator<Item: Into<IpAddr>>) -> Found {
    Found { addresses: addresses.map(Into::into).collect(), ttl: MIN_INTERVAL }
}

/// Whether these are the addresses of the internet's front door rather than of an endpoint. IPv6 addresses say nothing:
/// those of a VPC are globally routable too. Nor do addresses in a network of this host, which may have public ones.
fn is_public(addresses: &Addresses) -> bool {
    let far = addresses.v4.iter().skip(addresses.near_v4);
    far.copied().any(|address| is_globally_routable(address.into()))
}

#[cfg(test)]
mod tests;
