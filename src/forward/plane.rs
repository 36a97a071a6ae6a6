//! The forwarder plane as `app` sees it: bind, serve, change at a reload, drain.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::access::Journal;
use super::address::AddressRules;
use super::config::{Config, Others};
use super::dial::{Dialer, OnAttempt, Resolve};
use super::http::{Gateway, GatewayError};
use super::permit::{Destinations, Entrance};
use super::router::Router;
use super::service::{AtBounds, Connection, Drain, Listening, Service};
use super::{connect, http, sni};
use crate::inherited::Inherited;
use crate::interfaces;
use crate::policy::Table;
use crate::tcp_listener::{self, Bounds, Connections, Roster, bind_advice, overlap};

/// Connections of one listener.
const BOUNDS: Bounds = Bounds { total: 8192, per_client: 1024 };
/// After the grace, time for what was ended to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the plane needs beside its configuration; `app` has it.
#[derive(Clone)]
pub struct Surroundings {
    pub table: watch::Receiver<Arc<Table>>,
    pub resolve: Resolve,
    /// Learns which addresses of endpoints let us in.
    pub on_attempt: OnAttempt,
    /// The TCP listeners of this process that are not this plane's.
    pub other_listeners: Vec<SocketAddr>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("other_listeners", &self.other_listeners).finish_non_exhaustive()
    }
}

/// Why the plane cannot start, or cannot change to another configuration.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("forward.{}.listen: cannot bind {address}: {}", .entrance.label(), bind_advice(.error, .address, .ours))]
    Bind { entrance: Entrance, address: SocketAddr, error: io::Error, ours: Option<SocketAddr> },
    #[error("forward.{}.listen: {address} is held by forward.{}.listen {held} of the configuration in force: restart for this change", .entrance.label(), .by.label())]
    Held { entrance: Entrance, address: SocketAddr, by: Entrance, held: SocketAddr },
    #[error(transparent)]
    Http(#[from] GatewayError),
}

/// The HTTPS forwarder. Dropping it closes its listeners.
#[derive(Debug)]
pub struct Plane {
    service: watch::Sender<Arc<Service>>,
    journal: Arc<Journal>,
    bounds: Arc<AtBounds>,
    open: Arc<[Roster; 3]>,
    bound: Vec<Bound>,
    listeners: Vec<Listener>,
    drain: Drain,
    inherited: Inherited,
}

/// What the plane counts; reloads change nothing about it.
#[derive(Debug, Clone)]
pub struct Counters {
    pub journal: Arc<Journal>,
    pub bounds: Arc<AtBounds>,
    /// In the order of the entrances.
    open: Arc<[Roster; 3]>,
}

impl Counters {
    /// Connections open now, by entrance; those of a listener that has closed as well, until they end.
    pub fn open(&self) -> impl Iterator<Item = (Entrance, usize)> {
        Entrance::ALL.into_iter().zip(self.open.iter().map(Roster::open))
    }
}

/// An address of the configuration; its port may be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    entrance: Entrance,
    address: SocketAddr,
}

#[derive(Debug)]
struct Bound {
    asked: Asked,
    address: SocketAddr,
    socket: TcpListener,
    /// Its queue is the next process's too.
    inherited: bool,
}

/// An address being served; dropping it ends that.
#[derive(Debug)]
struct Listener {
    asked: Asked,
    address: SocketAddr,
    stop: CancellationToken,
}

/// Another configuration, ready to be changed to.
#[derive(Debug)]
pub struct Prepared {
    wanted: Vec<Asked>,
    bound: Vec<Bound>,
    service: Service,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Plane {
    /// Binds every address; serves nothing yet.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn bind(config: &Config, surroundings: Surroundings) -> Result<Self, PlaneError> {
        Self::bind_with(config, surroundings, Inherited::default())
    }

    /// As [`Plane::bind`], where some of the sockets were bound for us; a reload finds them again.
    ///
    /// # Errors
    /// As [`Plane::bind`].
    pub fn bind_with(config: &Config, surroundings: Surroundings, inherited: Inherited) -> Result<Self, PlaneError> {
        let bound = bind_all(asked(config), &inherited)?;
        let journal = Arc::new(Journal::default());
        let addresses = bound.iter().map(|bound| bound.address).collect();
        let http = if config.http_listen.is_empty() { None } else { Some(Gateway::new(config)?) };
        let service = service(config, surroundings, addresses, Arc::clone(&journal), http);
        let (bounds, drain) = (Arc::default(), Drain::default());
        Ok(Self {
            service: watch::Sender::new(Arc::new(service)),
            journal,
            bounds,
            open: Arc::default(),
            bound,
            listeners: Vec::new(),
            drain,
            inherited,
        })
    }

    /// The addresses bound, with the ports the system chose.
    pub fn addresses(&self) -> Vec<(Entrance, SocketAddr)> {
        let listening = self.listeners.iter().map(|listener| (listener.asked.entrance, listener.address));
        listening.chain(self.bound.iter().map(|bound| (bound.asked.entrance, bound.address))).collect()
    }

    /// What became of connections so far.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    pub fn at_bounds(&self) -> &AtBounds {
        &self.bounds
    }

    /// Connections open now, by entrance.
    pub fn open(&self) -> impl Iterator<Item = (Entrance, usize)> {
        Entrance::ALL.into_iter().zip(self.open.iter().map(Roster::open))
    }

    /// All that is counted, for as long as the process runs.
    pub fn counters(&self) -> Counters {
        let (journal, bounds, open) = (Arc::clone(&self.journal), Arc::clone(&self.bounds), Arc::clone(&self.open));
        Counters { journal, bounds, open }
    }

    /// Serves every address bound so far.
    pub fn serve(&mut self) {
        for bound in std::mem::take(&mut self.bound) {
            self.listeners.push(self.start(bound));
        }
    }

    fn start(&self, Bound { asked, address, socket, inherited }: Bound) -> Listener {
        let (connections, stop) = (Connections::new(BOUNDS), CancellationToken::new());
        tcp_listener::keep_alive(&socket);
        self.open
            .iter()
            .zip(Entrance::ALL)
            .filter(|(_, of)| *of == asked.entrance)
            .for_each(|(all, _)| all.add(&connections));
        let acceptor = Acceptor {
            entrance: asked.entrance,
            listening: Arc::new(Listening {
                service: self.service.subscribe(),
                address,
                bounds: Arc::clone(&self.bounds),
                drain: Drain { begun: stop.clone(), ..self.drain.clone() },
            }),
            connections,
            own: interfaces::networks().into_iter().map(|(ip, _)| ip).collect(),
        };
        let stopped = stop.clone();
        self.drain.tracker.spawn(async move {
            let failed = || acceptor.failed();
            let admit = |stream, client| acceptor.admit(stream, client);
            if inherited {
                tcp_listener::accept_until(&socket, &stopped, admit, failed).await;
            } else {
                tcp_listener::accept(socket, &stopped, admit, failed).await;
            }
        });
        Listener { asked, address, stop }
    }

    /// Makes everything ready that another configuration needs; nothing has changed yet.
    ///
    /// # Errors
    /// As [`Plane::bind`].
    pub async fn prepare(&self, config: &Config, surroundings: Surroundings) -> Result<Prepared, PlaneError> {
        let wanted: Vec<Asked> = asked(config).collect();
        let is_new = |asked: &Asked| self.listeners.iter().all(|listener| listener.asked != *asked);
        let added = wanted.iter().copied().filter(is_new);
        let bound = bind_all(added, &self.inherited);
        let bound = bound.map_err(|error| self.told_by_whom(error, &surroundings.other_listeners))?;
        let addresses = self.addresses().into_iter().map(|(_, address)| address);
        let addresses = addresses.chain(bound.iter().map(|bound| bound.address)).collect();
        let http = if config.http_listen.is_empty() { None } else { Some(Gateway::new_apart(config).await?) };
        let service = service(config, surroundings, addresses, Arc::clone(&self.journal), http);
        Ok(Prepared { wanted, bound, service })
    }

    /// An address that is taken may be taken by a listener that this change would end, of ours or `others`.
    fn told_by_whom(&self, error: PlaneError, others: &[SocketAddr]) -> PlaneError {
        let PlaneError::Bind { entrance, address, error, .. } = error else { return error };
        match self.addresses().into_iter().find(|(_, held)| overlap(*held, address)) {
            Some((by, held)) => PlaneError::Held { entrance, address, by, held },
            None => {
                let ours = others.iter().copied().find(|other| overlap(*other, address));
                PlaneError::Bind { entrance, address, error, ours }
            }
        }
    }

    /// Changes to what was prepared. Listeners that stay keep their sockets, connections their bytes; the next connection
    /// or request goes by the new configuration.
    pub fn adopt(&mut self, Prepared { wanted, bound, service }: Prepared) {
        self.service.send_replace(Arc::new(service));
        let started: Vec<Listener> = bound.into_iter().map(|bound| self.start(bound)).collect();
        self.listeners.extend(started);
        self.listeners.retain(|listener| wanted.contains(&listener.asked));
    }

    /// Closes the listeners, then waits at most `grace` for what runs. Whether all of it ended by itself.
    pub async fn drain(mut self, grace: Duration) -> bool {
        self.listeners.clear();
        self.drain.tracker.close();
        let ended = timeout(grace, self.drain.tracker.wait()).await.is_ok();
        self.drain.over.cancel();
        // Whoever is left has been told to end.
        let _ = timeout(LAST_WORDS, self.drain.tracker.wait()).await;
        ended
    }
}

fn asked(config: &Config) -> impl Iterator<Item = Asked> {
    config.listeners().map(|(entrance, address)| Asked { entrance, address })
}

fn bind_all(asked: impl Iterator<Item = Asked>, inherited: &Inherited) -> Result<Vec<Bound>, PlaneError> {
    let bind = |asked: Asked| {
        let bound = inherited.tcp(asked.address).and_then(|handed| {
            let inherited = handed.is_some();
            let socket = TcpListener::from_std(handed.map_or_else(|| tcp_listener::bind(asked.address), Ok)?)?;
            Ok((socket.local_addr()?, socket, inherited))
        });
        let Asked { entrance, address } = asked;
        let (address, socket, inherited) =
            bound.map_err(|error| PlaneError::Bind { entrance, address, error, ours: None })?;
        Ok(Bound { asked, address, socket, inherited })
    };
    asked.map(bind).collect()
}

fn service(
    config: &Config,
    surroundings: Surroundings,
    own: Vec<SocketAddr>,
    journal: Arc<Journal>,
    http: Option<Gateway>,
) -> Service {
    let Surroundings { table, resolve, on_attempt, other_listeners } = surroundings;
    let own_listeners = own.into_iter().chain(other_listeners).collect();
    let addresses = AddressRules { public_networks: config.public_networks.clone(), own_listeners };
    let private = config.connect_listen.iter().all(|listener| listener.ip().is_loopback());
    let others = config.others.unwrap_or(if private { Others::Direct } else { Others::Refuse });
    let router = Router {
        table,
        destinations: Destinations { allow: config.allow.clone(), others },
        dialer: Dialer::new(resolve, on_attempt, addresses, config.public_port, config.parent_proxy.clone()),
    };
    Service { router, clients: config.clients.clone(), journal, http }
}

/// What the connections of a listener share.
struct Acceptor {
    entrance: Entrance,
    listening: Arc<Listening>,
    connections: Arc<Connections>,
    /// The addresses of this host when the listener began.
    own: Vec<IpAddr>,
}

impl Acceptor {
    /// The system lacks something that one of our connections can give back.
    fn failed(&self) {
        let bounds = &self.listening.bounds;
        bounds.accept_errors.fetch_add(1, Ordering::Relaxed);
        if self.connections.give_way() {
            bounds.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn admit(&self, stream: TcpStream, client: SocketAddr) {
        let Listening { service, bounds, drain, .. } = &*self.listening;
        if !service.borrow().clients.contains(client.ip()) {
            bounds.foreign.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let close = drain.over.child_token();
        // All of a host's programs share its addresses.
        let counted_as = Some(client.ip()).filter(|ip| !ip.is_loopback() && !self.own.contains(&ip.to_canonical()));
        let (place, evicted) = self.connections.admit(counted_as, Instant::now(), close);
        if evicted {
            bounds.evicted.fetch_add(1, Ordering::Relaxed);
        }
        let connection = Connection { client, place, listening: Arc::clone(&self.listening) };
        // Boxed, so that a task is moved about without all the room that it will need.
        match self.entrance {
            Entrance::Connect => drop(drain.tracker.spawn(Box::pin(connect::serve(stream, connection)))),
            Entrance::Sni => drop(drain.tracker.spawn(Box::pin(sni::serve(stream, connection)))),
            Entrance::Http => drop(drain.tracker.spawn(Box::pin(http::serve(stream, connection)))),
        }
    }
}
