//! What the DNS plane needs to know to run; `config` fills it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::listen::Over;
use super::upstream::Server;
use crate::egress_proxy::EgressProxy;
use crate::policy::{ApiZones, HostName, Networks};
use crate::server_tls::CertificateFiles;

/// Where a VPC's resolver is in every VPC (VPC guide, "Amazon DNS server").
const VPC_RESOLVER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253))];

/// The DNS plane's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// UDP and TCP, each; empty turns them off.
    pub listen: Vec<SocketAddr>,
    pub encrypted: Encrypted,
    /// The VPC's resolver sends names of our zones to us: it is never asked for them, and a few clients ask for many.
    pub whole_vpc: bool,
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

/// Listeners with TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encrypted {
    /// DNS over TLS, RFC 7858.
    pub tls: Vec<SocketAddr>,
    /// DNS over HTTPS, RFC 8484.
    pub https: Vec<SocketAddr>,
    /// There if one of them listens.
    pub certificate: Option<CertificateFiles>,
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

impl Config {
    /// Every listener: its kind, and its address with a port that may be 0.
    pub fn listeners(&self) -> impl Iterator<Item = (Over, SocketAddr)> {
        let of = |over, addresses: &[SocketAddr]| addresses.iter().map(|&at| (over, at)).collect::<Vec<_>>();
        let Encrypted { tls, https, .. } = &self.encrypted;
        of(Over::Plain, &self.listen).into_iter().chain(of(Over::Tls, tls)).chain(of(Over::Https, https))
    }

    /// This configuration without a listener.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { listen: Vec::new(), encrypted: Encrypted::default(), ..self }
    }
}

impl Upstreams {
    /// Those of `servers` that are the VPC's resolver or may be: by its well-known addresses, as `vpc` has it, or by a
    /// private or link-local address, since it also has the address after the next from the start of the VPC's network.
    /// Loopback is this host, and no part of a VPC.
    pub fn in_vpc<'s>(&self, servers: &'s [Server]) -> impl Iterator<Item = &'s Server> + use<'s> {
        let of = |server: &Server| server.address().map(|address| address.ip().to_canonical());
        let vpc: Vec<IpAddr> = self.vpc.iter().filter_map(of).chain(VPC_RESOLVER).collect();
        let inside = Networks::private();
        let may_be =
            move |ip: IpAddr| !ip.is_loopback() && inside.contains(ip) || is_link_local(ip) || vpc.contains(&ip);
        servers.iter().filter(move |server| of(server).is_some_and(&may_be))
    }

    /// The first server that a whole VPC's names of API Gateway would be asked of and come back from: one of `public`, or of a
    /// zone that has such names.
    pub fn comes_back(&self, zones: &ApiZones) -> Option<&Server> {
        let asked = self.zone_names.iter().zip(&self.zones).filter(|(name, _)| zones.meet(name));
        [self.public.as_slice()]
            .into_iter()
            .chain(asked.map(|(_, servers)| servers.as_slice()))
            .find_map(|servers| self.in_vpc(servers).next())
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
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
