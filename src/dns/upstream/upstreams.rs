//! All groups of the plane, built from the configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::bootstrap::BootstrapAnswer;
use super::exchange::{AskError, OwnSockets};
use super::group::{First, Group};
use super::line::{Inbox, Line};
use super::peer::{Peer, Prompt};
use super::server::{Server, Transport};
use super::vpc::VpcGroup;
use crate::dns::config;
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::egress_proxy::EgressProxy;
use crate::policy::{ApiZones, HostName, Upstream};
use crate::roots::{self, RootsError};

/// Within this a server's own name must resolve.
const BOOTSTRAP: Duration = Duration::from_secs(2);
/// Within this a probe in the background is over.
const PROBE: Duration = Duration::from_secs(4);

/// Every group of servers.
#[derive(Debug)]
pub struct Upstreams {
    public: Group,
    vpc: Arc<VpcGroup>,
    zones: Vec<Group>,
    zone_names: Vec<HostName>,
    own: OwnSockets,
}

/// Why the groups cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamsError {
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error("{0} needs an IP address")]
    Server(Server),
}

impl Upstreams {
    /// Builds the groups, in which `https://` servers are reached through `egress` if there is one; connects to nothing
    /// yet. The platform's roots are only read if some server needs them.
    ///
    /// # Errors
    /// Unreadable `extra_roots`, or a server without the address it needs.
    pub fn new(
        servers: &config::Upstreams,
        extra_roots: &[PathBuf],
        egress: Option<&EgressProxy>,
    ) -> Result<Self, UpstreamsError> {
        Self::keeping_from_vpc(None, servers, extra_roots, egress)
    }

    /// As [`Upstreams::new`]; the `vpc` group is never asked for a name in one of the zones `never`.
    ///
    /// # Errors
    /// As [`Upstreams::new`].
    pub fn keeping_from_vpc(
        never: Option<Arc<ApiZones>>,
        servers: &config::Upstreams,
        extra_roots: &[PathBuf],
        egress: Option<&EgressProxy>,
    ) -> Result<Self, UpstreamsError> {
        let all = || servers.public.iter().chain(&servers.vpc).chain(servers.zones.iter().flatten());
        let encrypted = all().any(|server| !matches!(server.transport, Transport::Udp | Transport::Tcp));
        let tls = Arc::new(if encrypted { roots::client_config(extra_roots)? } else { roots::trusting_nobody()? });
        let own = OwnSockets::default();
        let group = |servers: &[Server]| {
            let peer = |server: &Server| {
                Peer::new(server.clone(), &tls, egress, own.clone())
                    .ok_or_else(|| UpstreamsError::Server(server.clone()))
            };
            servers.iter().map(peer).collect::<Result<_, _>>().map(Group::new)
        };
        Ok(Self {
            public: group(&servers.public)?,
            vpc: Arc::new(VpcGroup::new(group(&servers.vpc)?, never)),
            zones: servers.zones.iter().map(|zone| group(zone)).collect::<Result<_, _>>()?,
            zone_names: servers.zone_names.clone(),
            own,
        })
    }

    /// The sockets that wait for an upstream now.
    pub fn own_sockets(&self) -> &OwnSockets {
        &self.own
    }

    /// Asks a group; see `Group::ask`.
    ///
    /// # Errors
    /// As `Group::ask`.
    pub async fn ask(
        &self,
        upstream: Upstream,
        question: &Question,
        deadline: Instant,
        first: Option<First>,
    ) -> Result<Message, AskError> {
        if first.is_none() {
            self.probe(upstream, question);
        }
        let bootstrap = self.bootstrap();
        match upstream {
            Upstream::Public => self.public.ask(question, &bootstrap, deadline, first).await,
            Upstream::Vpc => self.vpc.ask(question, &bootstrap, deadline, first).await,
            Upstream::Zone(position) => {
                let group = self.zones.get(position).ok_or(AskError::NoServer)?;
                group.ask(question, &bootstrap, deadline, first).await
            }
        }
    }

    /// The first choice of a group for this question and how to ask it, if it is prompt: see `Group::prompt`. Who gets one asks
    /// it, and goes on by [`Upstreams::ask`] where that does not end it.
    pub fn prompt(&self, upstream: Upstream, question: &Question) -> Option<(&Arc<Peer>, Prompt)> {
        let prompt = match upstream {
            Upstream::Public => self.public.prompt(),
            Upstream::Vpc => self.vpc.prompt(question),
            Upstream::Zone(position) => self.zones.get(position)?.prompt(),
        }?;
        self.probe(upstream, question);
        Some(prompt)
    }

    /// A line to a server of ours, whose replies come to `inbox`.
    pub fn line(&self, peer: &Arc<Peer>, inbox: &Arc<Inbox>) -> Line {
        Line::open(Arc::clone(peer), self.bootstrap(), Arc::clone(inbox))
    }

    /// Asks a server aside that is due; its outcome is kept by the peer itself, the client waits for the first choice only.
    fn probe(&self, upstream: Upstream, question: &Question) {
        let probed = match upstream {
            Upstream::Public => self.public.claim_probe(),
            Upstream::Vpc => self.vpc.claim_probe(question),
            Upstream::Zone(position) => self.zones.get(position).and_then(Group::claim_probe),
        };
        let Some(peer) = probed else { return };
        let (question, bootstrap) = (question.clone(), self.bootstrap());
        tokio::spawn(async move {
            if timeout(PROBE, peer.ask(&question, &bootstrap, None)).await.is_err() {
                peer.health().failed();
            }
        });
    }

    fn bootstrap(&self) -> impl Fn(Question) -> BootstrapAnswer + Send + Sync + use<> {
        let vpc = Arc::clone(&self.vpc);
        move |question| bootstrap(Arc::clone(&vpc), question)
    }

    /// The servers of each group by its name in metrics: `public`, `vpc`, `zone:` and the zone's name.
    pub(super) fn groups(&self) -> impl Iterator<Item = (String, &[Arc<Peer>])> {
        let zones = self.zones.iter().enumerate().map(|(position, group)| match self.zone_names.get(position) {
            Some(name) => (format!("zone:{name}"), group.peers()),
            None => (format!("zone:{position}"), group.peers()),
        });
        [("public".to_owned(), self.public.peers()), ("vpc".to_owned(), self.vpc.peers())].into_iter().chain(zones)
    }

    /// One line per server, for operators: its address, failures in a row, smoothed time to an answer.
    pub fn states(&self) -> Vec<(Upstream, String, u32, Option<Duration>)> {
        let groups = [(Upstream::Public, self.public.peers()), (Upstream::Vpc, self.vpc.peers())].into_iter();
        let zones = self.zones.iter().enumerate().map(|(position, zone)| (Upstream::Zone(position), zone.peers()));
        groups
            .chain(zones)
            .flat_map(|(upstream, peers)| peers.iter().map(move |peer| (upstream, peer)))
            .map(|(upstream, peer)| {
                let health = peer.health().clone();
                (upstream, peer.server().to_string(), health.failures(), health.smoothed())
            })
            .collect()
    }
}

/// Looks the name of a server, or of the egress proxy, up through the VPC group, which must not have names of its own to look up.
fn bootstrap(vpc: Arc<VpcGroup>, question: Question) -> BootstrapAnswer {
    Box::pin(async move {
        let nobody = |_| -> BootstrapAnswer { Box::pin(async { Err(AskError::NoServer) }) };
        vpc.ask(&question, &nobody, Instant::now() + BOOTSTRAP, None).await
    })
}
