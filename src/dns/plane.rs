//! The DNS plane as `app` sees it: bind, serve, change at a reload, drain.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::config::{Config, Encrypted, ZoneAnswer};
use super::forwarder;
use super::health::Pulse;
use super::listen::{Bound, Listener, Over};
use super::resolver::{Observer, Resolver};
use super::service::{Counters, Service, Tls};
use super::upstream::{Server, Upstreams, UpstreamsError};
use crate::inherited::Inherited;
use crate::interfaces;
use crate::policy::{Addresses, ApiZones, Table};
use crate::server_tls::{Certificate, CertificateError, CertificateFiles};
use crate::tcp_listener::{bind_advice, overlap};

/// Bytes of answers remembered.
const CACHE_BYTES: usize = 16 << 20;

/// The DNS plane. Dropping it ends its listeners.
pub struct Plane {
    config: Config,
    /// The zones that the `vpc` group is never asked for.
    never: Option<Arc<ApiZones>>,
    service: watch::Sender<Arc<Service>>,
    bound: Vec<Bound>,
    listeners: Vec<Listener>,
    /// Those of earlier configurations that are still asked, and until when they answer.
    leaving: Vec<(Listener, Instant)>,
    tracker: TaskTracker,
    inherited: Inherited,
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
    #[error("{}: cannot bind {address}: {}", .over.key(), bind_advice(.error, .address, .ours))]
    Bind { over: Over, address: SocketAddr, error: io::Error, ours: Option<SocketAddr> },
    #[error("{}: cannot serve {address}: {error}", .over.key())]
    Serve { over: Over, address: SocketAddr, error: io::Error },
    #[error("{server} is this resolver itself, by {} {address}: name another server in [upstream]", .over.key())]
    Loop { server: Server, over: Over, address: SocketAddr },
    #[error(
        "{0} is the VPC's resolver or may be, which with dns.whole_vpc asks us for names of API Gateway, and upstream.public or \
         an [[upstream.zone]] would ask it for them: name servers outside the VPC there"
    )]
    ComesBack(Server),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
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
        Self::bind_with(config, table, observer, Inherited::default())
    }

    /// As [`Plane::bind`], where some of the sockets were bound for us; a reload finds them again.
    ///
    /// # Errors
    /// As [`Plane::bind`].
    pub fn bind_with(
        config: Config,
        table: watch::Receiver<Arc<Table>>,
        observer: Option<Observer>,
        inherited: Inherited,
    ) -> Result<Self, PlaneError> {
        let bound = bind_all(config.listeners(), &config, &inherited, &[])?;
        let addresses: Vec<_> = bound.iter().map(Bound::address).collect();
        refuse_loops(&config, &addresses)?;
        let never = kept_from_vpc(&config, &table);
        let upstreams = upstreams_of(&config, never.clone())?;
        let resolver = Arc::new(Resolver::new(table, upstreams, CACHE_BYTES, observer));
        let service = Service {
            resolver,
            clients: config.clients.clone(),
            forwarder: forwarder_of(&config),
            tls: first_tls(&config)?,
            shares: (!config.whole_vpc).then(Arc::default),
            counters: Arc::new(Counters::default()),
        };
        Ok(Self {
            never,
            config,
            service: watch::Sender::new(Arc::new(service)),
            bound,
            listeners: Vec::new(),
            leaving: Vec::new(),
            tracker: TaskTracker::new(),
            inherited,
        })
    }

    /// The addresses of UDP and TCP, in the order of the configuration, with the ports the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let plain = |(over, address)| (over == Over::Plain).then_some(address);
        self.all_addresses().into_iter().filter_map(plain).collect()
    }

    /// All addresses bound, the encrypted ones too.
    pub fn all_addresses(&self) -> Vec<(Over, SocketAddr)> {
        self.listeners.iter().map(Listener::address).chain(self.bound.iter().map(Bound::address)).collect()
    }

    /// To tell which listeners are alive.
    pub fn pulses(&self) -> Vec<Pulse> {
        self.listeners.iter().filter_map(Listener::pulse).collect()
    }

    /// What is in force.
    pub fn config(&self) -> &Config {
        &self.config
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
            let (over, address) = bound.address();
            let served = bound.serve(self.service.subscribe(), &self.tracker);
            served.map_err(|error| PlaneError::Serve { over, address, error })
        };
        bound.into_iter().map(start).collect()
    }

    /// What encrypted listeners are to show under another configuration, for [`Plane::reload`]: of the same files the
    /// certificate in use, read again. Its files may be on a file system that hangs; it waits five seconds for them.
    ///
    /// # Errors
    /// Files that cannot be read, or do not belong together.
    pub async fn tls(&self, config: &Config) -> Result<Option<Tls>, PlaneError> {
        let Some(files) = certificate_files(config) else { return Ok(None) };
        if let Some(current) = self.current_tls().filter(|current| current.certificate.files() == files) {
            current.certificate.refresh_apart().await;
            return Ok(Some(current));
        }
        let certificate = Certificate::read_apart(files.clone()).await?;
        certificate.follow();
        Ok(Some(Tls::new(certificate)?))
    }

    /// What encrypted listeners show now.
    pub fn current_tls(&self) -> Option<Tls> {
        self.service.borrow().tls.clone()
    }

    /// Changes to another configuration and its table, both at once: no query sees the one without the other. Listeners
    /// that stay keep their sockets; the cache stays with its upstreams. `tls` is what [`Plane::tls`] gave for this configuration. On
    /// an error nothing has changed.
    ///
    /// # Errors
    /// As [`Plane::bind`].
    pub fn reload(
        &mut self,
        config: Config,
        tls: Option<Tls>,
        table: watch::Receiver<Arc<Table>>,
        observer: Option<Observer>,
    ) -> Result<(), PlaneError> {
        self.reload_keeping(config, tls, table, observer).map(drop)
    }

    /// As [`Plane::reload`]; the listeners that go close when they are dropped, or as [`Plane::leave`] is told.
    ///
    /// # Errors
    /// As [`Plane::bind`].
    pub fn reload_keeping(
        &mut self,
        config: Config,
        tls: Option<Tls>,
        table: watch::Receiver<Arc<Table>>,
        observer: Option<Observer>,
    ) -> Result<Vec<Listener>, PlaneError> {
        let is_leaving = |asked: &(Over, SocketAddr)| self.leaving.iter().any(|(left, _)| left.asked() == *asked);
        let is_new = |asked: &(Over, SocketAddr)| {
            self.config.listeners().all(|listener| listener != *asked) && !is_leaving(asked)
        };
        let left = self.leaving.iter().map(|(left, _)| left.address());
        let mut addresses: Vec<_> = self.all_addresses().into_iter().chain(left).collect();
        let bound = bind_all(config.listeners().filter(is_new), &config, &self.inherited, &addresses)?;
        addresses.extend(bound.iter().map(Bound::address));
        refuse_loops(&config, &addresses)?;
        let current = Arc::clone(&self.service.borrow());
        let never = kept_from_vpc(&config, &table);
        let same_upstreams = config.upstreams == self.config.upstreams
            && never == self.never
            && config.egress_proxy == self.config.egress_proxy
            && config.extra_roots == self.config.extra_roots;
        let resolver = if same_upstreams {
            current.resolver.with_table(table, observer)
        } else {
            let upstreams = upstreams_of(&config, never.clone())?;
            upstreams.count_on(current.resolver.upstreams());
            Resolver::new(table, upstreams, CACHE_BYTES, observer).succeeding(&current.resolver)
        };
        if config.workers != self.config.workers {
            tracing::warn!("dns.workers changes at the next start only");
        }
        let started = self.start(bound)?;
        let service = Service {
            resolver: Arc::new(resolver),
            clients: config.clients.clone(),
            forwarder: forwarder_of(&config),
            tls,
            shares: (!config.whole_vpc).then(|| current.shares.clone().unwrap_or_default()),
            counters: Arc::clone(&current.counters),
        };
        self.service.send_replace(Arc::new(service));
        self.listeners.extend(started);
        let wanted: Vec<_> = config.listeners().collect();
        let back = self.leaving.extract_if(.., |(left, _)| wanted.contains(&left.asked()));
        self.listeners.extend(back.map(|(listener, _)| listener));
        let gone = self.listeners.extract_if(.., |listener| !wanted.contains(&listener.asked())).collect();
        (self.config, self.never) = (config, never);
        Ok(gone)
    }

    /// Has listeners that no configuration asks for any more answer for a while, for those that still ask them. Somebody has
    /// to await [`Plane::close_left`]. A reload that asks for one again has it back.
    pub fn leave(&mut self, gone: Vec<Listener>, lasting: Duration) {
        let until = Instant::now() + lasting;
        self.leaving.extend(gone.into_iter().map(|listener| (listener, until)));
    }

    /// Returns when the time of listeners that leave is over, and they are closed.
    pub async fn close_left(&mut self) {
        let Some(first) = self.leaving.iter().map(|(_, until)| *until).min() else {
            return std::future::pending().await;
        };
        sleep_until(first).await;
        self.leaving.retain(|(_, until)| *until > first);
    }

    /// Closes the listeners, then waits at most `grace` for the replies still owed. Whether all were sent.
    pub async fn drain(mut self, grace: Duration) -> bool {
        self.listeners.clear();
        self.leaving.clear();
        self.tracker.close();
        timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

fn bind_all(
    asked: impl Iterator<Item = (Over, SocketAddr)>,
    config: &Config,
    inherited: &Inherited,
    ours: &[(Over, SocketAddr)],
) -> Result<Vec<Bound>, PlaneError> {
    let bind = |(over, address)| {
        Bound::new(over, address, config.workers, inherited).map_err(|error| {
            let ours = ours.iter().map(|(_, ours)| *ours).find(|ours| overlap(*ours, address));
            PlaneError::Bind { over, address, error, ours }
        })
    };
    asked.map(bind).collect()
}

/// The zones whose names may come back to us from the VPC's resolver.
fn kept_from_vpc(config: &Config, table: &watch::Receiver<Arc<Table>>) -> Option<Arc<ApiZones>> {
    config.whole_vpc.then(|| Arc::clone(table.borrow().api_zones()))
}

fn upstreams_of(config: &Config, never: Option<Arc<ApiZones>>) -> Result<Upstreams, PlaneError> {
    if let Some(server) = never.as_ref().and_then(|zones| config.upstreams.comes_back(zones)) {
        return Err(PlaneError::ComesBack(server.clone()));
    }
    let (roots, proxy) = (&config.extra_roots, config.egress_proxy.as_ref());
    Ok(Upstreams::keeping_from_vpc(never, &config.upstreams, roots, proxy)?)
}

/// Where the certificate of encrypted listeners is, if there are any.
fn certificate_files(config: &Config) -> Option<&CertificateFiles> {
    let Encrypted { tls, https, certificate } = &config.encrypted;
    certificate.as_ref().filter(|_| !tls.is_empty() || !https.is_empty())
}

/// What encrypted listeners show at the start, when nobody is served yet. Blocks.
fn first_tls(config: &Config) -> Result<Option<Tls>, CertificateError> {
    let Some(files) = certificate_files(config) else { return Ok(None) };
    let certificate = Certificate::read(files.clone())?;
    certificate.follow();
    Tls::new(certificate).map(Some)
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
fn refuse_loops(config: &Config, listeners: &[(Over, SocketAddr)]) -> Result<(), PlaneError> {
    let upstreams = &config.upstreams;
    let own: Vec<IpAddr> = interfaces::networks().into_iter().map(|(address, _)| address).collect();
    for server in upstreams.public.iter().chain(&upstreams.vpc).chain(upstreams.zones.iter().flatten()) {
        let Some(address) = server.address() else { continue };
        let reached = listeners.iter().find(|(_, listener)| interfaces::reaches(address, *listener, &own));
        if let Some(&(over, address)) = reached {
            return Err(PlaneError::Loop { server: server.clone(), over, address });
        }
    }
    Ok(())
}
