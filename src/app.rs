//! The composition root: builds everything from a configuration, binds it all before anything is served, keeps it
//! running, changes it at a reload, drains it at the end. The only file that knows everyone.

mod admin_listener;
mod closures;
mod configs;
mod decisions;
mod doctor;
mod known;
mod metrics;
mod once;
mod reloads;
mod route_report;
mod status;
mod supervision;
mod take_over;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::admin_listener::AdminListener;
use self::closures::{follow, forward_surroundings, liveness, look_up, observer};
use self::configs::{discovery_config, dns_config, gate, place, refuse_unused, vpc_servers, warn_of_gaps};
pub use self::doctor::{SystemResolver, examine};
use self::known::Known;
pub use self::once::{known, private_apis, upstreams};
pub use self::route_report::RouteReport;
use self::supervision::Supervision;
pub use self::supervision::Supervisor;
use self::take_over::TakeOver;
pub use self::take_over::{Installed, Totals as TakeOverTotals, install};
use crate::admin::{self, Readiness};
use crate::config::Config;
use crate::discovery::{Discovery, EndpointHealth, Metadata};
use crate::dns::health::Pulse;
use crate::dns::{self, Plane};
use crate::forward::{self, Entrance};
use crate::inherited::Inherited;
use crate::policy::Table;

/// The longest an answer may be owed, with a margin: the resolver gives up after four seconds.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How long clients whose questions wait in inherited sockets are kept for the first look-ups. They give up after five
/// seconds.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(2);
/// What `/ready` calls the time until resolv.conf leads to us.
const TAKE_OVER: &str = "dns.take_over";
/// Programs that keep what they read in resolv.conf look again within this: Go every five seconds, the C libraries at once.
const REREAD: Duration = Duration::from_secs(5);

/// What a process finds around it; tests bring their own.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub metadata: Metadata,
    pub resolv_conf: PathBuf,
    /// The one port on which servers in it are asked; another one only in tests.
    pub name_server_port: u16,
}

impl Surroundings {
    /// As they are on a host of AWS.
    pub fn of_host() -> Self {
        let ecs = std::env::var("ECS_CONTAINER_METADATA_URI_V4").ok().filter(|uri| !uri.is_empty());
        let resolv_conf = PathBuf::from("/etc/resolv.conf");
        Self { metadata: Metadata::of_aws(ecs), resolv_conf, name_server_port: 53 }
    }
}

/// A running Sidegate.
#[derive(Debug)]
pub struct App {
    /// First of all, so that resolv.conf leads elsewhere before anything ends. There while a listener is on port 53.
    take_over: Option<TakeOver>,
    take_over_totals: Arc<TakeOverTotals>,
    surroundings: Surroundings,
    discovery: watch::Sender<Arc<Discovery>>,
    plane: Plane,
    /// Whether `vpc` is what the configuration says, whatever resolv.conf does.
    vpc_is_set: bool,
    forwarder: forward::Plane,
    answers: admin::Answers,
    admin: Option<AdminListener>,
    gate: watch::Sender<admin::Gate>,
    reloads: Arc<reloads::Totals>,
    reload_requests: mpsc::Receiver<reloads::Request>,
    /// Cancelled by `POST /quitquitquit`.
    quit: CancellationToken,
    /// What `/live` asks.
    pulses: watch::Sender<Vec<Pulse>>,
    readiness: Readiness,
    /// Keeps the discovery of the configuration in force up to date.
    following: JoinSet<()>,
    inherited: Inherited,
    supervision: Supervision,
    grace: Duration,
    linger: Duration,
}

impl App {
    /// Binds every listener, then serves.
    ///
    /// # Errors
    /// No region, an address that cannot be bound, an upstream that is this process itself: nothing is served then.
    pub async fn start(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        Self::start_under(Supervisor::default(), config, surroundings).await
    }

    /// As [`App::start`], with what a supervisor has handed over, and told from now on how it goes.
    ///
    /// # Errors
    /// As [`App::start`]; an inherited socket that no listener has.
    pub async fn start_under(
        supervisor: Supervisor,
        config: Config,
        surroundings: Surroundings,
    ) -> anyhow::Result<Self> {
        let started_at = SystemTime::now();
        warn_of_gaps(&config, &surroundings).await;
        let Supervisor { notifier, watchdog, inherited } = supervisor;
        refuse_unused(&inherited, &config)?;
        let place = place(&config, &surroundings, None).await?;
        let discovery = Arc::new(Discovery::new(discovery_config(&config, &surroundings).await?)?);
        let dns = dns_config(&config, &surroundings).await;
        let mut plane = Plane::bind_with(dns, discovery.table(), Some(observer(&discovery)), inherited.clone())?;
        let tools = discovery.tools(look_up(plane.service()))?;
        let around = forward_surroundings(&config.dns, config.admin.listen, &discovery, &plane);
        let mut forwarder = forward::Plane::bind_with(&config.forward, around, inherited.clone())?;
        let readiness = Readiness::default();
        let gate = watch::Sender::new(gate(&config));
        let pulses = watch::Sender::new(Vec::new());
        let current = watch::Sender::new(Arc::clone(&discovery));
        let reloads = Arc::new(reloads::Totals::default());
        let (reload, reload_requests) = reloads::channel();
        let quit = CancellationToken::new();
        let take_over_totals = Arc::new(TakeOverTotals::default());
        let known = Arc::new(Known {
            discovery: current.subscribe(),
            dns: plane.service(),
            forwarder: forwarder.counters(),
            readiness: readiness.clone(),
            reloads: Arc::clone(&reloads),
            take_over: Arc::clone(&take_over_totals),
            started: Instant::now(),
            started_at,
        });
        let answers = known.answers(liveness(pulses.subscribe()), reload, quit.clone());
        let bind = |address| AdminListener::bind(address, &[], &inherited, gate.subscribe(), answers.clone());
        let admin = config.admin.listen.map(bind);
        let mut admin = admin.transpose()?;

        // Before anything says that it is ready.
        let following = follow(&discovery, plane.service(), tools, &surroundings.metadata, Some(&readiness));
        if !inherited.is_empty() {
            // What has queued up since the process before is answered once there is something to answer it from.
            let _ = tokio::time::timeout(FIRST_ATTEMPTS, readiness.nothing_pending()).await;
        }
        plane.serve()?;
        pulses.send_replace(plane.pulses());
        for (over, address) in plane.all_addresses() {
            match over {
                dns::Over::Plain => tracing::info!(%address, "dns listens on UDP and TCP"),
                dns::Over::Tls => tracing::info!(%address, "dns listens on TLS"),
                dns::Over::Https => tracing::info!(%address, "dns listens on HTTPS"),
            }
        }
        forwarder.serve();
        for (entrance, address) in forwarder.addresses() {
            tracing::info!(%address, "forward.{} listens", entrance.label());
        }
        if let Some(admin) = &mut admin {
            admin.serve();
        }
        let take_over =
            place.map(|place| TakeOver::start(place, Some(readiness.block(TAKE_OVER)), Arc::clone(&take_over_totals)));
        readiness.bound();
        let liveness = Arc::clone(&answers.liveness);
        let supervision = Supervision::start(notifier, watchdog, &readiness, current.subscribe(), liveness);
        Ok(Self {
            take_over,
            take_over_totals,
            surroundings,
            discovery: current,
            plane,
            vpc_is_set: config.vpc_is_set,
            forwarder,
            answers,
            admin,
            gate,
            reloads,
            reload_requests,
            quit,
            pulses,
            readiness,
            following,
            inherited,
            supervision,
            grace: config.grace,
            linger: config.linger,
        })
    }

    /// Where the resolver listens.
    pub fn dns_addresses(&self) -> Vec<SocketAddr> {
        self.plane.addresses()
    }

    /// Where the forwarder listens, by entrance.
    pub fn forward_addresses(&self) -> Vec<(Entrance, SocketAddr)> {
        self.forwarder.addresses()
    }

    /// Where admin listens.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminListener::address)
    }

    /// Returns once everything that `/ready` waits for has happened.
    pub async fn is_ready(&self) {
        self.readiness.is_ready().await;
    }

    pub fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.discovery.borrow().table()
    }

    /// Returns at the next `POST /reload`; whoever sent it waits to be told how the reload went. Until then sees to what
    /// else comes up.
    pub async fn reload_requested(&mut self) -> oneshot::Sender<Result<(), String>> {
        loop {
            let other_servers = async {
                match &mut self.take_over {
                    Some(take_over) => take_over.other_servers().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(request) = self.reload_requests.recv() => return request,
                servers = other_servers => self.ask_others(&servers),
                () = self.plane.close_left() => {}
            }
        }
    }

    /// Returns once `POST /quitquitquit` has been answered.
    pub fn quit_requested(&self) -> impl Future<Output = ()> + use<> {
        self.quit.clone().cancelled_owned()
    }

    /// A reload begins, before there is a configuration to change to.
    pub async fn reload_begins(&self) {
        self.supervision.reload_begins().await;
    }

    /// Takes up the servers that resolv.conf has by now.
    fn ask_others(&mut self, servers: &[IpAddr]) {
        let mut dns = self.plane.config().clone();
        let servers = vpc_servers(servers, &dns.listen, self.surroundings.name_server_port);
        if self.vpc_is_set || servers.is_empty() || dns.upstreams.vpc == servers {
            return;
        }
        let discovery = Arc::clone(&self.discovery.borrow());
        dns.upstreams.vpc.clone_from(&servers);
        match self.plane.reload(dns, self.plane.current_tls(), discovery.table(), Some(observer(&discovery))) {
            Ok(()) => tracing::info!(?servers, "the VPC's servers are others now, as resolv.conf says"),
            Err(error) => tracing::error!("servers of resolv.conf are not taken up: {error}"),
        }
    }

    /// How taking resolv.conf over went.
    pub fn take_over_totals(&self) -> Arc<TakeOverTotals> {
        Arc::clone(&self.take_over_totals)
    }

    /// Counts how a reload went, and tells the supervisor; also of those that end before there is a configuration to
    /// change to.
    pub async fn reload_ended(&self, outcome: Result<(), String>) {
        self.reloads.count(outcome.is_ok());
        self.supervision.reload_ended(outcome).await;
    }

    /// What is known of every endpoint's addresses, in the order of the configuration.
    pub fn address_health(&self) -> Vec<EndpointHealth> {
        self.discovery.borrow().address_health()
    }

    /// Changes to another configuration; what is in flight goes on.
    ///
    /// # Errors
    /// As [`App::start`]; then everything is as it was.
    pub async fn reload(&mut self, config: Config) -> anyhow::Result<()> {
        warn_of_gaps(&config, &self.surroundings).await;
        refuse_unused(&self.inherited, &config)?;
        let in_force = self.take_over.as_ref().map(TakeOver::place);
        let place = place(&config, &self.surroundings, in_force).await?;
        if let Some(in_force) = in_force {
            in_force.make_way(place.as_ref()).await?;
        }
        let discovery = discovery_config(&config, &self.surroundings).await?;
        let before = Arc::clone(&self.discovery.borrow());
        let predecessor = Arc::clone(&before);
        // Long lists take their time, and queries must not wait for it.
        let discovery = Arc::new(tokio::task::spawn_blocking(move || predecessor.successor(discovery)).await??);
        let tools = discovery.tools(look_up(self.plane.service()))?;
        let moved = config.admin.listen != self.admin.as_ref().map(AdminListener::asked);
        let streams = self.plane.all_addresses().into_iter().map(|(_, address)| address);
        let streams = streams.chain(self.forward_addresses().into_iter().map(|(_, address)| address));
        let ours: Vec<_> = streams.chain(self.admin_address()).collect();
        let bind =
            |address| AdminListener::bind(address, &ours, &self.inherited, self.gate.subscribe(), self.answers.clone());
        let admin = config.admin.listen.filter(|_| moved).map(bind).transpose()?;
        let admin_address = admin.as_ref().or(self.admin.as_ref().filter(|_| !moved)).map(AdminListener::address);
        let dns = dns_config(&config, &self.surroundings).await;
        let tls = self.plane.tls(&dns).await?;
        let around = forward_surroundings(&config.dns, admin_address, &discovery, &self.plane);
        let forwarder = self.forwarder.prepare(&config.forward, around).await?;
        discovery.catch_up(&before).await;
        let gone = self.plane.reload_keeping(dns, tls, discovery.table(), Some(observer(&discovery)))?;
        if self.take_over.as_ref().map(TakeOver::place) != place.as_ref() {
            // What is still waited for stays so; who was ready before is.
            let waits = self.readiness.state() != admin::State::Ready;
            let taken = waits.then(|| self.readiness.block(TAKE_OVER));
            let was_ours = match self.take_over.take() {
                Some(take_over) => take_over.end().await,
                None => false,
            };
            if was_ours {
                // Who has read the file still asks the listener that goes.
                self.plane.leave(gone, REREAD);
            }
            let totals = Arc::clone(&self.take_over_totals);
            self.take_over = place.map(|place| TakeOver::start(place, taken, totals));
        } else if let (Some(take_over), Some(place)) = (&self.take_over, &place) {
            take_over.place().follow(place);
        }
        self.vpc_is_set = config.vpc_is_set;
        self.forwarder.adopt(forwarder);
        if moved {
            self.admin = admin;
            self.admin.iter_mut().for_each(AdminListener::serve);
        }
        // What has not happened yet is still waited for; once ready it stays so.
        let pending = self.readiness.state() != admin::State::Ready;
        let (service, metadata) = (self.plane.service(), &self.surroundings.metadata);
        self.following = follow(&discovery, service, tools, metadata, pending.then_some(&self.readiness));
        self.discovery.send_replace(discovery);
        self.gate.send_replace(gate(&config));
        self.pulses.send_replace(self.plane.pulses());
        (self.grace, self.linger) = (config.grace, config.linger);
        Ok(())
    }

    /// Ends in good order: not ready at once, served on for `linger`, then listeners close and what is in flight ends
    /// within `grace`. Where resolv.conf leads to us, it is put back five seconds before they close.
    pub async fn drain(mut self) {
        self.readiness.drain();
        drop(self.reload_requests);
        tracing::info!(linger = ?self.linger, grace = ?self.grace, "draining");
        self.supervision.stopping(self.linger, self.grace).await;
        let last = match self.take_over.take() {
            Some(take_over) => {
                tokio::time::sleep(self.linger.saturating_sub(REREAD)).await;
                if take_over.end().await { REREAD } else { self.linger.min(REREAD) }
            }
            None => self.linger,
        };
        tokio::time::sleep(last).await;
        let (answered, carried) = if self.inherited.is_empty() {
            drop(self.following);
            // What the forwarder still has to connect needs names until the end; new queries are no longer taken.
            tokio::join!(self.plane.drain(self.grace), self.forwarder.drain(self.grace))
        } else {
            // Nobody reads inherited sockets between us and the next process: names are answered until the last tunnel ends.
            let carried = self.forwarder.drain(self.grace).await;
            drop(self.following);
            (self.plane.drain(self.grace.min(LAST_ANSWERS)).await, carried)
        };
        if !answered {
            tracing::warn!("some answers were still owed when the grace was over");
        }
        if !carried {
            tracing::warn!("some connections were still in use when the grace was over");
        }
        drop(self.admin);
    }
}
