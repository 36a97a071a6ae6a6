//! The DNS plane as `app` sees it: bind, serve, change at a reload, drain.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::config::{Config, ZoneAnswer};
use super::forwarder;
use super::listen::{Bound, Listener};
use super::resolver::{Observer, Resolver};
use super::service::{Counters, Service};
use super::upstream::{Server, Upstreams, UpstreamsError};
use crate::interfaces;
use crate::policy::{Addresses, Table};
use crate::tcp_listener::bind_advice;

/// Bytes of answers remembered.
const CACHE_BYTES: usize = 16 << 20;

/// The DNS plane. Dropping it ends its listeners.
pub struct Plane {
    config: Config,
    service: watch::Sender<Arc<Service>>,
    bound: Vec<Bound>,
    listeners: Vec<Listener>,
    tracker: TaskTracker,
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane")
            .field("config", &self.config)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// Why the plane cannot start, or cannot change to another configuration.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("dns.listen: cannot bind {address}: {}", bind_advice(.error, .address))]
    Bind { address: SocketAddr, error: io::Error },
    #[error("dns.listen: cannot serve {address}: {error}")]
    Serve { address: SocketAddr, error: io::Error },
    #[error("{server} is this resolver itself, by dns.listen {address}: name another server in [upstream]")]
    Loop { server: Server, address: SocketAddr },
    #[error(transparent)]
    Upstreams(#[from] UpstreamsError),
}

impl Plane {
    /// Binds every address and builds the upstream groups; serves and asks nothing yet.
    ///
    /// # Errors
    /// An address that cannot be bound, an upstream that is ourselves, roots that cannot be read.
    pub fn bind(
        config: Config,
        table: watch::Receiver<Arc<Table>>,
        observer: Option<Observer>,
    ) -> Result<Self, PlaneError> {
        let bound = bind_all(&config.listen, &config)?;
        let addresses: Vec<SocketAddr> = bound.iter().map(Bound::address).collect();
        refuse_loops(&config, &addresses)?;
        let upstreams = upstreams_of(&config)?;
        let resolver = Arc::new(Resolver::new(table, upstreams, CACHE_BYTES, observer));
        let (clients, forwarder) = (config.clients.clone(), forwarder_of(&config));
        let service = Service { resolver, clients, forwarder, counters: Arc::new(Counters::default()) };
        Ok(Self {
            config,
            service: watch::Sender::new(Arc::new(service)),
            bound,
            listeners: Vec::new(),
            tracker: TaskTracker::new(),
        })
    }

    /// The addresses bound, in the order of the configuration, with the ports the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).chain(self.bound.iter().map(Bound::address)).collect()
    }

    /// To reach the resolver of the configuration in force, whichever that is.
    pub fn service(&self) -> watch::Receiver<Arc<Service>> {
        self.service.subscribe()
    }

    /// Serves every address bound so far.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn serve(&mut self) -> Result<(), PlaneError> {
        let bound = std::mem::take(&mut self.bound);
        self.listeners.extend(self.start(bound)?);
        Ok(())
    }

    fn start(&self, bound: Vec<Bound>) -> Result<Vec<Listener>, PlaneError> {
        let start = |bound: Bound| {
            let address = bound.address();
            bound.serve(self.service.subscribe(), &self.tracker).map_err(|error| PlaneError::Serve { address, error })
        };
        bound.into_iter().map(start).collect()
    }

    /// Changes to another configuration and its table, both at once: no query sees the one without the other. Listeners
    /// that stay keep their sockets; the cache stays with its upstreams. On an error nothing has changed.
    ///
    /// # Errors
    /// As [`Plane::bind`].
    pub fn reload(
        &mut self,
        config: Config,
        table: watch::Receiver<Arc<Table>>,
        observer: Option<Observer>,
    ) -> Result<(), PlaneError> {
        let is_new = |address: &&SocketAddr| !self.config.listen.contains(address);
        let added: Vec<SocketAddr> = config.listen.iter().filter(is_new).copied().collect();
        let bound = bind_all(&added, &config)?;
        let addresses: Vec<SocketAddr> = self.addresses().into_iter().chain(bound.iter().map(Bound::address)).collect();
        refuse_loops(&config, &addresses)?;
        let current = Arc::clone(&self.service.borrow());
        let same_upstreams = config.upstreams == self.config.upstreams
            && config.egress_proxy == self.config.egress_proxy
            && config.extra_roots == self.config.extra_roots;
        let resolver = if same_upstreams {
            current.resolver.with_table(table, observer)
        } else {
            let upstreams = upstreams_of(&config)?;
            upstreams.count_on(current.resolver.upstreams());
            Resolver::new(table, upstreams, CACHE_BYTES, observer).succeeding(&current.resolver)
        };
        if config.workers != self.config.workers {
            tracing::warn!("dns.workers changes at the next start only");
        }
        let (resolver, clients, counters) = (Arc::new(resolver), config.clients.clone(), Arc::clone(&current.counters));
        let started = self.start(bound)?;
        let forwarder = forwarder_of(&config);
        self.service.send_replace(Arc::new(Service { resolver, clients, forwarder, counters }));
        self.listeners.extend(started);
        self.listeners.retain(|listener| config.listen.contains(&listener.asked()));
        self.config = config;
        Ok(())
    }

    /// Closes the listeners, then waits at most `grace` for the replies still owed. Whether all were sent.
    pub async fn drain(mut self, grace: Duration) -> bool {
        self.listeners.clear();
        self.tracker.close();
        timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

fn bind_all(addresses: &[SocketAddr], config: &Config) -> Result<Vec<Bound>, PlaneError> {
    let bind = |&address| Bound::new(address, config.workers).map_err(|error| PlaneError::Bind { address, error });
    addresses.iter().map(bind).collect()
}

fn upstreams_of(config: &Config) -> Result<Upstreams, UpstreamsError> {
    Upstreams::new(&config.upstreams, &config.extra_roots, config.egress_proxy.as_ref())
}

/// What the names of our zones resolve to, unless it is endpoint and public addresses.
fn forwarder_of(config: &Config) -> Option<Addresses> {
    let ZoneAnswer::Forwarder(listed) = &config.answer else { return None };
    let own: Vec<IpAddr> = interfaces::networks().into_iter().map(|(address, _)| address).collect();
    let addresses = forwarder::reachable(listed, &own);
    tracing::info!(v4 = ?addresses.v4, v6 = ?addresses.v6, "names of our zones resolve to the forwarder");
    Some(addresses)
}

/// A server that is one of our own listeners would send every question round in a circle.
fn refuse_loops(config: &Config, listeners: &[SocketAddr]) -> Result<(), PlaneError> {
    let upstreams = &config.upstreams;
    let own: Vec<IpAddr> = interfaces::networks().into_iter().map(|(address, _)| address).collect();
    for server in upstreams.public.iter().chain(&upstreams.vpc).chain(upstreams.zones.iter().flatten()) {
        let Some(address) = server.address() else { continue };
        if let Some(&listener) = listeners.iter().find(|listener| interfaces::reaches(address, **listener, &own)) {
            return Err(PlaneError::Loop { server: server.clone(), address: listener });
        }
    }
    Ok(())
}
