//! What the forwarder needs to know to run; `config` fills it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::destination::Destination;
use super::permit::Entrance;
use crate::egress_proxy::EgressProxy;
use crate::policy::{HostName, Networks};
use crate::server_tls::CertificateFiles;

/// The forwarder's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub connect_listen: Vec<SocketAddr>,
    pub sni_listen: Vec<SocketAddr>,
    pub http_listen: Vec<SocketAddr>,
    /// For TLS on `http_listen`.
    pub http_tls: Option<CertificateFiles>,
    /// What CONNECT does with names that are not ours; `None`: direct while every `connect_listen` is loopback.
    pub others: Option<Others>,
    pub allow: Vec<AllowedDestination>,
    /// Who may use the listeners.
    pub clients: Networks,
    /// Networks that the public route may dial although they are not globally routable.
    pub public_networks: Networks,
    /// 443 but in labs.
    pub public_port: u16,
    pub extra_roots: Vec<PathBuf>,
    /// Takes the names of the public route, unresolved.
    pub parent_proxy: Option<EgressProxy>,
}

impl Config {
    /// Every listener: its entrance, and its address with a port that may be 0.
    pub fn listeners(&self) -> impl Iterator<Item = (Entrance, SocketAddr)> {
        let of = |entrance, addresses: &[SocketAddr]| addresses.iter().map(|&at| (entrance, at)).collect::<Vec<_>>();
        let connect = of(Entrance::Connect, &self.connect_listen).into_iter();
        connect.chain(of(Entrance::Sni, &self.sni_listen)).chain(of(Entrance::Http, &self.http_listen))
    }
}

/// What CONNECT does with names outside our zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Direct,
    Refuse,
}

/// One entry of `forward.allow`: `name`, `*.name`, either with `:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedDestination {
    pub name: HostName,
    /// Whether it stands for every name below `name` (and not for `name` itself).
    pub below: bool,
    /// 443 unless given.
    pub port: u16,
}

impl AllowedDestination {
    /// Whether it lets this destination through.
    pub fn holds(&self, Destination { host, port }: &Destination) -> bool {
        *port == self.port
            && if self.below { *host != self.name && host.is_within(&self.name) } else { *host == self.name }
    }
}
