//! The composition root: builds everything from a configuration, binds it all before anything is served, keeps it
//! running, changes it at a reload, drains it at the end. The only file that knows everyone.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Liveness, Readiness};
use crate::config::Config;
use crate::discovery::{self, AddressSource, Discovery, EndpointConfig, Family, Found, HealthCheck, LookUp, Metadata};
use crate::dns::upstream::Server;
use crate::dns::{self, Existence, Observer, Plane, Question, Service, rtype};
use crate::interfaces;
use crate::policy::{Table, Upstream};
use crate::resolv_conf;

/// What a process finds around it; tests bring their own.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub metadata: Metadata,
    pub resolv_conf: PathBuf,
}

impl Surroundings {
    /// As they are on a host of AWS.
    pub fn of_host() -> Self {
        let ecs = std::env::var("ECS_CONTAINER_METADATA_URI_V4").ok().filter(|uri| !uri.is_empty());
        Self { metadata: Metadata::of_aws(ecs), resolv_conf: PathBuf::from("/etc/resolv.conf") }
    }
}

/// What `/ready` calls the first attempt to look endpoints up.
const ENDPOINT_ADDRESSES: &str = "endpoint addresses";

/// A running Sidegate.
#[derive(Debug)]
pub struct App {
    surroundings: Surroundings,
    discovery: Arc<Discovery>,
    plane: Plane,
    admin: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    gate: watch::Sender<admin::Gate>,
    /// Keep `/ready` from saying yes before every required list is there.
    missing_lists: Vec<admin::Block>,
    /// What `/live` asks.
    dns_addresses: watch::Sender<Vec<SocketAddr>>,
    readiness: Readiness,
    stop: CancellationToken,
    /// Keeps the discovery of the configuration in force up to date.
    following: JoinSet<()>,
    grace: Duration,
    linger: Duration,
}

impl App {
    /// Binds every listener, then serves.
    ///
    /// # Errors
    /// No region, an address that cannot be bound, an upstream that is this process itself: nothing is served then.
    pub async fn start(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        warn_of_gaps(&config);
        let discovery = Arc::new(Discovery::new(discovery_config(&config, &surroundings).await?)?);
        let dns = dns_config(&config, &surroundings.resolv_conf);
        let mut plane = Plane::bind(dns, discovery.table(), Some(observer(&discovery)))?;
        let readiness = Readiness::default();
        let gate = watch::Sender::new(gate(&config));
        let dns_addresses = watch::Sender::new(plane.addresses());
        let admin =
            match config.admin.listen {
                Some(address) => {
                    let alive = liveness(dns_addresses.subscribe());
                    let bound = admin::Server::bind(address, gate.subscribe(), readiness.clone(), alive);
                    Some(bound.with_context(|| {
                        format!("admin.listen: cannot bind {address}: set another, or \"\" for none")
                    })?)
                }
                None => None,
            };
        let admin_address = admin.as_ref().map(admin::Server::address).transpose()?;

        let stop = CancellationToken::new();
        let attempted = readiness.block(ENDPOINT_ADDRESSES);
        let missing_lists = blocks(&readiness, &discovery);
        plane.serve()?;
        for address in plane.addresses() {
            tracing::info!(%address, "dns listens on UDP and TCP");
        }
        if let Some(admin) = admin {
            tracing::info!(address = %admin.address()?, "admin listens");
            tokio::spawn(admin.serve(stop.clone()));
        }
        readiness.bound();
        let following = follow(&discovery, plane.service(), Some(attempted));
        Ok(Self {
            surroundings,
            discovery,
            plane,
            admin: admin_address,
            admin_listen: config.admin.listen,
            gate,
            missing_lists,
            dns_addresses,
            readiness,
            stop,
            following,
            grace: config.grace,
            linger: config.linger,
        })
    }

    /// Where the resolver listens.
    pub fn dns_addresses(&self) -> Vec<SocketAddr> {
        self.plane.addresses()
    }

    /// Where admin listens.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns once everything that `/ready` waits for has happened.
    pub async fn is_ready(&self) {
        self.readiness.is_ready().await;
    }

    pub fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.discovery.table()
    }

    /// Changes to another configuration; what is in flight goes on.
    ///
    /// # Errors
    /// As [`App::start`]; then everything is as it was.
    pub async fn reload(&mut self, config: Config) -> anyhow::Result<()> {
        warn_of_gaps(&config);
        let discovery = discovery_config(&config, &self.surroundings).await?;
        let discovery = Arc::new(self.discovery.successor(discovery)?);
        let dns = dns_config(&config, &self.surroundings.resolv_conf);
        self.plane.reload(dns, discovery.table(), Some(observer(&discovery)))?;
        // What has not been attempted yet is still waited for.
        let is_ready = self.readiness.state() == admin::State::Ready;
        let attempted = (!is_ready).then(|| self.readiness.block(ENDPOINT_ADDRESSES));
        self.following = follow(&discovery, self.plane.service(), attempted);
        self.discovery = discovery;
        // Once ready it stays so.
        if !is_ready {
            self.missing_lists = blocks(&self.readiness, &self.discovery);
        }
        self.gate.send_replace(gate(&config));
        self.dns_addresses.send_replace(self.plane.addresses());
        if config.admin.listen != self.admin_listen {
            tracing::warn!("admin.listen changes at the next start only");
        }
        (self.grace, self.linger) = (config.grace, config.linger);
        Ok(())
    }

    /// Ends in good order: not ready at once, served on for `linger`, then listeners close and what is in flight ends
    /// within `grace`.
    pub async fn drain(self) {
        self.readiness.drain();
        tracing::info!(linger = ?self.linger, grace = ?self.grace, "draining");
        tokio::time::sleep(self.linger).await;
        drop(self.following);
        if !self.plane.drain(self.grace).await {
            tracing::warn!("some answers were still owed when the grace was over");
        }
        self.stop.cancel();
    }
}

/// The table a configuration makes, its endpoints looked up once, for commands that end.
///
/// # Errors
/// No region, or upstreams that cannot be set up.
pub async fn table_of(config: &Config, surroundings: &Surroundings) -> anyhow::Result<Arc<Table>> {
    let discovery = Discovery::new(discovery_config(config, surroundings).await?)?;
    let quiet = dns::Config { listen: Vec::new(), ..dns_config(config, &surroundings.resolv_conf) };
    let plane = Plane::bind(quiet, discovery.table(), None)?;
    discovery.look_up_endpoints(&look_up(plane.service())).await;
    let table = Arc::clone(&discovery.table().borrow());
    Ok(table)
}

/// The servers of each upstream group under this configuration.
pub fn upstreams(config: &Config, surroundings: &Surroundings) -> dns::Upstreams {
    dns_config(config, &surroundings.resolv_conf).upstreams
}

async fn discovery_config(config: &Config, surroundings: &Surroundings) -> anyhow::Result<discovery::Config> {
    let all_named = !config.endpoints.is_empty() && config.endpoints.iter().all(|e| e.region.is_some());
    let region = match (&config.region, config.endpoints.first().and_then(|endpoint| endpoint.region.clone())) {
        (Some(region), _) => region.clone(),
        // Nothing is left for it to stand for.
        (None, Some(first)) if all_named => first,
        (None, _) => surroundings.metadata.region().await?,
    };
    let default_endpoint = EndpointConfig {
        region: None,
        vpce_id: None,
        addresses: AddressSource::Apex,
        private_api_ids: Vec::new(),
        health: HealthCheck::Off,
        port: 443,
    };
    let endpoints = if config.endpoints.is_empty() { vec![default_endpoint] } else { config.endpoints.clone() };
    let policy = &config.policy;
    let discovery = discovery::Config {
        region,
        dns_suffix: policy.dns_suffix,
        endpoints,
        private_api_ids: policy.private_api_ids.clone(),
        always_public_ids: policy.always_public_ids.clone(),
        always_public_names: policy.always_public_names.clone(),
        private_names: policy.private_names.clone(),
        forward_zones: config.zones.clone(),
        default_upstream: config.default_upstream,
        sources: config.discovery.clone(),
    };
    if discovery.learns() {
        tracing::info!("private ids are learned: an id that public DNS does not know goes to the endpoint");
    }
    Ok(discovery)
}

/// The plane's own configuration, with the `vpc` servers of this host where none are configured.
fn dns_config(config: &Config, resolv_conf: &Path) -> dns::Config {
    let mut dns = config.dns.clone();
    if !config.vpc_is_set {
        let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
        let own: Vec<IpAddr> = interfaces::networks().into_iter().map(|(address, _)| address).collect();
        let is_us =
            |address: &SocketAddr| dns.listen.iter().any(|listener| interfaces::reaches(*address, *listener, &own));
        let servers: Vec<Server> = resolv_conf::name_servers(&text)
            .into_iter()
            .map(|ip| SocketAddr::new(ip, 53))
            .filter(|address| !is_us(address))
            .map(Server::udp)
            .collect();
        if !servers.is_empty() {
            dns.upstreams.vpc = servers;
        }
    }
    dns
}

/// Says what the operator should know of this configuration before it runs.
fn warn_of_gaps(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if !config.default_upstream_is_set && config.zones.is_empty() && config.default_upstream == Upstream::Public {
        tracing::info!(
            "names that only the VPC knows go to public DNS: set upstream.default = \"vpc\" if there are any"
        );
    }
    let forward = &config.forward;
    for (key, listen) in [
        ("forward.connect", &forward.connect_listen),
        ("forward.sni", &forward.sni_listen),
        ("forward.http", &forward.http_listen),
    ] {
        if !listen.is_empty() {
            tracing::warn!("{key}.listen: the HTTPS forwarder is not part of this version, nothing listens there");
        }
    }
    if config.endpoints.iter().any(|endpoint| endpoint.health == HealthCheck::Tcp) {
        tracing::warn!("endpoint.health = \"tcp\" is not part of this version: static addresses are always answered");
    }
}

/// Tells a discovery what public DNS says.
fn observer(discovery: &Arc<Discovery>) -> Observer {
    let discovery = Arc::clone(discovery);
    Arc::new(move |name, existence| match existence {
        Existence::NoSuchName => discovery.learn(name),
        Existence::Exists => discovery.unlearn(name),
    })
}

/// Keeps a discovery up to date until the result is dropped.
fn follow(
    discovery: &Arc<Discovery>,
    service: watch::Receiver<Arc<Service>>,
    attempted: Option<admin::Block>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(discovery).follow_endpoints(look_up(service), attempted));
    let discovery = Arc::clone(discovery);
    tasks.spawn(async move { discovery.expire_learned().await });
    tasks
}

/// Asks the VPC group of whatever configuration is in force.
fn look_up(service: watch::Receiver<Arc<Service>>) -> LookUp {
    Arc::new(move |name, family| {
        let resolver = Arc::clone(&service.borrow().resolver);
        Box::pin(async move {
            let qtype = if family == Family::V4 { rtype::A } else { rtype::AAAA };
            let message = resolver.look_up(&Question::new(name, qtype), Upstream::Vpc).await;
            let message = message.map_err(|error| format!("vpc upstream: {error}"))?;
            message.failure().map_or(Ok(()), |code| Err(format!("vpc upstream: answered {code}")))?;
            let ttl = message.answer.iter().map(|record| record.ttl).min().unwrap_or(0);
            Ok(Found { addresses: message.addresses().collect(), ttl: Duration::from_secs(ttl.into()) })
        })
    })
}

/// Alive if every UDP listener answers.
fn liveness(addresses: watch::Receiver<Vec<SocketAddr>>) -> Liveness {
    Arc::new(move || {
        let addresses = addresses.borrow().clone();
        Box::pin(async move {
            for address in addresses {
                dns::health::ask(address).await?;
            }
            Ok(())
        })
    })
}

fn blocks(readiness: &Readiness, discovery: &Discovery) -> Vec<admin::Block> {
    discovery.missing_lists().into_iter().map(|source| readiness.block(format!("list of {source}"))).collect()
}

/// Who may ask admin.
fn gate(config: &Config) -> admin::Gate {
    admin::Gate { clients: config.clients.clone(), hosts: config.admin.hosts.clone() }
}
