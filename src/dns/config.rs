//! What the DNS plane needs to know to run; `config` fills it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::upstream::Server;
use crate::egress_proxy::EgressProxy;
use crate::policy::{HostName, Networks};

/// The DNS plane's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// UDP and TCP, each; empty turns the plane's listeners off.
    pub listen: Vec<SocketAddr>,
    /// UDP threads per address.
    pub workers: NonZeroUsize,
    /// Who may ask.
    pub clients: Networks,
    pub upstreams: Upstreams,
    pub answer: ZoneAnswer,
    /// Between us and `https://` servers of every group; its own name is looked up through the `vpc` group.
    pub egress_proxy: Option<EgressProxy>,
    /// PEM files with roots to trust beside the platform's.
    pub extra_roots: Vec<PathBuf>,
}

/// What the names of our zones resolve to, those of rules 1 to 5.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ZoneAnswer {
    /// The endpoint's addresses for private names, public resolution for the others.
    #[default]
    Endpoint,
    /// The HTTPS forwarder at these addresses, for every name that exists. `0.0.0.0` and `::` stand for the addresses of
    /// this host.
    Forwarder(Vec<IpAddr>),
}

/// The servers of each group. A group may be empty: its names are then SERVFAIL.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Upstreams {
    pub public: Vec<Server>,
    pub vpc: Vec<Server>,
    /// In the order of the configuration, as [`crate::policy::Upstream::Zone`] counts them.
    pub zones: Vec<Vec<Server>>,
    /// What each of them is called, at the same position.
    pub zone_names: Vec<HostName>,
}
