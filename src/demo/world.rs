//! The world in a box: who is where, which name leads where, and the servers that make it so.
//!
//! `run` makes its calls in it, the `demo` command keeps it alive or serves it alone, integration tests put Sidegate into it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::ProtoError;
use rustls::ClientConfig;

use super::certificates::Authority;
use super::client::{Client, Outcome};
use super::dns_server::DnsServer;
use super::gate::Gate;
use super::sockets;
use super::zones::Zones;

/// The VPC resolver is the second address of its network, as in a real VPC.
const VPC_RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PUBLIC_RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);
/// One network interface of the endpoint in each of two availability zones.
const ENDPOINT: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 11), Ipv4Addr::new(127, 0, 0, 12)];
const GATEWAY: [Ipv4Addr; 1] = [Ipv4Addr::new(127, 0, 0, 21)];
/// A database that only the VPC knows. Nothing listens there.
const DATABASE: [Ipv4Addr; 1] = [Ipv4Addr::new(10, 0, 0, 5)];
/// What the hidden zone's records carry.
const TTL: u32 = 60;

/// The ports of real resolvers and gates.
const DNS_PORT: u16 = 53;
const HTTPS_PORT: u16 = 443;

/// Where the servers of a world stand.
#[derive(Debug, Clone)]
pub struct Addresses {
    vpc_resolver: SocketAddr,
    public_resolver: SocketAddr,
    endpoint: Vec<Ipv4Addr>,
    gateway: Vec<Ipv4Addr>,
    https_port: u16,
}

impl Addresses {
    /// All on 127.0.0.0/8, with ports that the OS chooses.
    pub fn loopback() -> Self {
        Self {
            vpc_resolver: (VPC_RESOLVER, 0).into(),
            public_resolver: (PUBLIC_RESOLVER, 0).into(),
            endpoint: ENDPOINT.to_vec(),
            gateway: GATEWAY.to_vec(),
            https_port: 0,
        }
    }

    /// A host with a leg in the VPC and one on the internet: on each a resolver on port 53 and a gate on port 443.
    pub fn two_networks(vpc: Ipv4Addr, internet: Ipv4Addr) -> Self {
        Self {
            vpc_resolver: (vpc, DNS_PORT).into(),
            public_resolver: (internet, DNS_PORT).into(),
            endpoint: vec![vpc],
            gateway: vec![internet],
            https_port: HTTPS_PORT,
        }
    }
}

/// The names that mean something in this world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Names {
    pub region: &'static str,
    /// The zone of the region, which private DNS captures.
    pub zone: &'static str,
    /// The one id that Sidegate has to be told.
    pub private_id: &'static str,
    pub private_api: &'static str,
    pub public_api: &'static str,
    /// A public custom domain: an alias of `custom_domain_target`, which is in the captured zone.
    pub custom_domain: &'static str,
    pub custom_domain_target: &'static str,
    /// A name from a private hosted zone.
    pub internal: &'static str,
}

const NAMES: Names = Names {
    region: "us-east-1",
    zone: "execute-api.us-east-1.amazonaws.com",
    private_id: "a1b2c3d4e5",
    private_api: "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
    public_api: "f6g7h8i9j0.execute-api.us-east-1.amazonaws.com",
    custom_domain: "api.example.com",
    custom_domain_target: "d-abcdef1234.execute-api.us-east-1.amazonaws.com",
    internal: "db.corp.internal",
};

/// Who answers calls in this world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The VPC endpoint, which serves private APIs.
    Endpoint,
    /// The public gateway.
    Internet,
    /// Neither, or now this and now that.
    Elsewhere,
}

impl Place {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Place::Endpoint => "endpoint",
            Place::Internet => "internet",
            Place::Elsewhere => "elsewhere",
        }
    }
}

/// What the two gates call themselves.
const ENDPOINT_LABEL: &str = "the endpoint";
const GATEWAY_LABEL: &str = "the internet";

/// A VPC with an `execute-api` endpoint whose private DNS is on, and as much internet as it takes to miss it.
///
/// All of it lives in this process, on 127.0.0.0/8 unless told otherwise, and ends when the value is dropped.
#[derive(Debug)]
pub struct World {
    vpc_resolver: DnsServer,
    public_resolver: DnsServer,
    _gates: [Gate; 2],
    endpoint: Vec<Ipv4Addr>,
    gateway: Vec<Ipv4Addr>,
    https_port: u16,
    authority: Authority,
    client: Client,
}

impl World {
    /// One on loopback. Has to be called within a Tokio runtime.
    ///
    /// # Errors
    /// An address of 127.0.0.0/8 cannot be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_at(Addresses::loopback()).await
    }

    /// Binds everything, then serves. Has to be called within a Tokio runtime.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start_at(at: Addresses) -> io::Result<Self> {
        let addresses: Vec<IpAddr> = at.endpoint.iter().chain(&at.gateway).copied().map(IpAddr::V4).collect();
        let mut endpoint = sockets::tcp_on_one_port(&addresses, at.https_port).await?;
        let gateway = endpoint.split_off(at.endpoint.len());
        let https_port = endpoint.iter().chain(&gateway).try_fold(0, |_, one| one.local_addr().map(|at| at.port()))?;
        let public = public_zones_with(&at.gateway).map_err(io::Error::other)?;
        let vpc = vpc_zones(&public, &at.endpoint).map_err(io::Error::other)?;

        let authority = Authority::new()?;
        // The endpoint's certificate too holds the custom domain, as AWS lets public custom domains be called over an
        // endpoint. That makes its refusal a 403 and not a failed handshake.
        let any_api = format!("*.{}", NAMES.zone);
        let tls = authority.server_config(&[&any_api, NAMES.custom_domain])?;
        Ok(Self {
            vpc_resolver: DnsServer::start_at(at.vpc_resolver, vpc).await?,
            public_resolver: DnsServer::start_at(at.public_resolver, public).await?,
            _gates: [
                Gate::start(ENDPOINT_LABEL, endpoint, tls.clone(), &[NAMES.private_api]).await?,
                Gate::start(GATEWAY_LABEL, gateway, tls, &[NAMES.public_api, NAMES.custom_domain]).await?,
            ],
            endpoint: at.endpoint,
            gateway: at.gateway,
            https_port,
            client: Client::new(authority.client_config()?, https_port),
            authority,
        })
    }

    /// The VPC's resolver, which answers every name of the zone with the endpoint.
    pub fn vpc_resolver(&self) -> SocketAddr {
        self.vpc_resolver.address()
    }

    /// A resolver outside the VPC, which has never heard of the private API.
    pub fn public_resolver(&self) -> SocketAddr {
        self.public_resolver.address()
    }

    /// The addresses of the endpoint.
    pub fn endpoint_addresses(&self) -> Vec<IpAddr> {
        self.endpoint.iter().copied().map(IpAddr::V4).collect()
    }

    /// The addresses of the public gateway.
    pub fn gateway_addresses(&self) -> Vec<IpAddr> {
        self.gateway.iter().copied().map(IpAddr::V4).collect()
    }

    /// Where a call led: whose addresses the name got, all of them, or who says to have served it. `None` if neither
    /// tells.
    pub fn place_of(&self, outcome: &Outcome) -> Option<Place> {
        let within = |group: &[Ipv4Addr]| outcome.addresses.iter().all(|ip| group.iter().any(|one| ip == one));
        if !outcome.addresses.is_empty() {
            return Some(match (within(&self.endpoint), within(&self.gateway)) {
                (true, _) => Place::Endpoint,
                (_, true) => Place::Internet,
                _ => Place::Elsewhere,
            });
        }
        Some(match outcome.reply.as_ref().ok()?.through.as_deref()? {
            ENDPOINT_LABEL => Place::Endpoint,
            GATEWAY_LABEL => Place::Internet,
            _ => Place::Elsewhere,
        })
    }

    /// The port on which both gates listen, where 443 would be.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The root certificate of both gates' certificates.
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// TLS settings that trust this world's authority alone, for callers other than [`Client`].
    ///
    /// # Errors
    /// Never in practice: the root is one that we made.
    pub fn client_tls(&self) -> io::Result<Arc<ClientConfig>> {
        self.authority.client_config()
    }

    /// The names that lead somewhere.
    pub fn names(&self) -> &Names {
        &NAMES
    }

    /// A caller that trusts this world's authority and knows its port.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// What the world outside knows: the public names, and that there is no such private id.
///
/// Public for tests that need a resolver which differs in one record.
///
/// # Errors
/// Never in practice: the names are constants.
pub fn public_zones() -> Result<Zones, ProtoError> {
    public_zones_with(&GATEWAY)
}

fn public_zones_with(gateway: &[Ipv4Addr]) -> Result<Zones, ProtoError> {
    let mut zones = Zones::default();
    for apex in [".", NAMES.zone, "example.com"] {
        zones.add_zone(apex)?;
    }
    zones.add_a(NAMES.public_api, TTL, gateway)?;
    zones.add_a(NAMES.custom_domain_target, TTL, gateway)?;
    zones.add_cname(NAMES.custom_domain, 300, NAMES.custom_domain_target)?;
    Ok(zones)
}

/// What the VPC's resolver knows: all that is public, a private hosted zone, and the endpoint's hidden zone, which
/// hides the public one of the same name.
fn vpc_zones(public: &Zones, endpoint: &[Ipv4Addr]) -> Result<Zones, ProtoError> {
    let mut zones = public.clone();
    zones.add_captured_zone(NAMES.zone, TTL, endpoint)?;
    zones.add_zone("corp.internal")?;
    zones.add_a(NAMES.internal, TTL, &DATABASE)?;
    Ok(zones)
}
