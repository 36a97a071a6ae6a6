//! Which sources there are; `config` fills it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::policy::{ApiId, HostName, Region, VpceId};

/// One `[[endpoint]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointConfig {
    /// `None`: the region of this host.
    pub region: Option<Region>,
    pub vpce_id: Option<VpceId>,
    pub addresses: AddressSource,
    /// Ids that only this endpoint serves.
    pub private_api_ids: Vec<ApiId>,
    pub health: HealthCheck,
    /// Where it listens: 443 but in labs.
    pub port: u16,
}

/// Where the addresses of an endpoint come from.
#[derive(Debug, Clone, PartialEq)]
pub enum AddressSource {
    Static(Vec<IpAddr>),
    /// A `vpce-...` name, asked of the `vpc` upstream.
    Name(HostName),
    /// The apex of the region's zone, asked of the `vpc` upstream.
    Apex,
}

/// Whether addresses are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthCheck {
    Tcp,
    Off,
}

/// One `[[discovery]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    pub kind: SourceKind,
    /// At least one second.
    pub interval: Duration,
    /// Until it has produced a list, unknown ids are not ready rather than public.
    pub required: bool,
}

/// What a source reads.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    File { path: PathBuf },
    Url { url: String, headers: Vec<(String, String)> },
    ApiGateway { region: Option<Region>, endpoint_url: Option<String> },
    Learned,
}
