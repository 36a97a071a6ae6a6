//! What one part is handed of another, so that neither knows the other: plain functions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{Liveness, Readiness};
use crate::discovery::{self, Discovery, Found, LookUp, Metadata, Tools};
use crate::dns::health::Pulse;
use crate::dns::{self, Existence, LookUpError, Observer, Question, Service};
use crate::forward::{self, OnAttempt, Resolve, ResolveError};
use crate::policy::Upstream;

/// What `/ready` calls the first attempt to look endpoints up.
const ENDPOINT_ADDRESSES: &str = "endpoint addresses";

/// Tells a discovery what public DNS says, for as long as it is in force: whoever still works under an older
/// configuration does not keep its table and lists.
pub(super) fn observer(discovery: &Arc<Discovery>) -> Observer {
    let discovery = Arc::downgrade(discovery);
    Arc::new(move |name, existence| {
        let Some(discovery) = discovery.upgrade() else { return };
        match existence {
            Existence::NoSuchName => discovery.learn(name),
            Existence::Exists => discovery.unlearn(name),
        }
    })
}

/// Keeps a discovery up to date until the result is dropped. With `readiness`, the first look-up of endpoint addresses and
/// the required lists are waited for.
pub(super) fn follow(
    discovery: &Arc<Discovery>,
    service: watch::Receiver<Arc<Service>>,
    tools: Tools,
    metadata: &Metadata,
    readiness: Option<&Readiness>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let attempted = readiness.map(|readiness| readiness.block(ENDPOINT_ADDRESSES));
    if let Some(readiness) = readiness {
        for (source, arrived) in discovery.awaited_lists() {
            let block = readiness.block(format!("list of {source}"));
            tasks.spawn(async move {
                arrived.await;
                drop(block);
            });
        }
    }
    tasks.spawn(Arc::clone(discovery).follow_endpoints(look_up(service), metadata.clone(), attempted));
    tasks.spawn(Arc::clone(discovery).follow_health());
    tasks.spawn(Arc::clone(discovery).follow_sources(tools));
    let discovery = Arc::clone(discovery);
    tasks.spawn(async move { discovery.expire_learned().await });
    tasks
}

/// Asks the VPC group of whatever configuration is in force.
pub(super) fn look_up(service: watch::Receiver<Arc<Service>>) -> LookUp {
    Arc::new(move |name, family| {
        let resolver = Arc::clone(&service.borrow().resolver);
        Box::pin(async move {
            let message = resolver.look_up(&Question::for_addresses(name, family), Upstream::Vpc).await;
            let message = message.map_err(|error| format!("vpc upstream: {error}"))?;
            message.failure().map_or(Ok(()), |code| Err(format!("vpc upstream: answered {code}")))?;
            let ttl = message.answer.iter().map(|record| record.ttl).min().unwrap_or(0);
            Ok(Found { addresses: message.addresses().collect(), ttl: Duration::from_secs(ttl.into()) })
        })
    })
}

/// Tells a discovery how attempts to connect to its endpoints ended, for as long as it is in force, as [`observer`].
pub(super) fn on_attempt(discovery: &Arc<Discovery>) -> OnAttempt {
    let discovery = Arc::downgrade(discovery);
    Arc::new(move |attempt| {
        let Some(discovery) = discovery.upgrade() else { return };
        let end = match attempt.end {
            forward::AttemptEnd::Connected => discovery::AttemptEnd::Connected,
            forward::AttemptEnd::Failed(error) => discovery::AttemptEnd::Failed(error.to_string()),
            forward::AttemptEnd::Overtaken => discovery::AttemptEnd::Overtaken,
        };
        discovery.attempted(attempt.address, attempt.begun.into_std(), &end);
    })
}

/// Alive if every UDP listener answers.
pub(super) fn liveness(pulses: watch::Receiver<Vec<Pulse>>) -> Liveness {
    Arc::new(move || {
        let pulses = pulses.borrow().clone();
        Box::pin(async move { try_join_all(pulses.iter().map(Pulse::is_alive)).await.map(|_| ()) })
    })
}

/// Resolves for the dialer, by whatever configuration is in force.
pub(super) fn resolve(service: watch::Receiver<Arc<Service>>) -> Resolve {
    Arc::new(move |name, family, upstream| {
        let resolver = Arc::clone(&service.borrow().resolver);
        Box::pin(async move {
            resolver.addresses(&name, family, upstream).await.map_err(|error| match error {
                LookUpError::NoSuchName => ResolveError::NoSuchName,
                LookUpError::Failed(why) => ResolveError::Failed(why),
            })
        })
    })
}

/// What the forwarder is handed of the others.
pub(super) fn forward_surroundings(
    dns_config: &dns::Config,
    admin: Option<SocketAddr>,
    discovery: &Arc<Discovery>,
    dns: &dns::Plane,
) -> forward::Surroundings {
    // Those that listen, and those that will.
    let of_dns = dns.all_addresses().into_iter().chain(dns_config.listeners()).map(|(_, address)| address);
    let other_listeners = of_dns.chain(admin).collect();
    let (resolve, on_attempt) = (resolve(dns.service()), on_attempt(discovery));
    forward::Surroundings { table: discovery.table(), resolve, on_attempt, other_listeners }
}
