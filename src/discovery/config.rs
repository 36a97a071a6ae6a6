//! Which sources there are; `config` fills it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::policy::{ApiId, HostName, Region, Upstream, VpceId};

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

impl SourceConfig {
    /// The name a source goes by in logs and in what `sidegate route` prints.
    pub fn label(&self) -> String {
        match &self.kind {
            SourceKind::File { path } => format!("file {}", path.display()),
            SourceKind::Url { url, .. } => format!("url {}", without_secrets(url)),
            SourceKind::ApiGateway { region: Some(region), .. } => format!("api-gateway {region}"),
            SourceKind::ApiGateway { region: None, .. } => "api-gateway".to_owned(),
            SourceKind::Learned => "learned".to_owned(),
        }
    }
}

/// A URL without user, password, query and fragment, any of which may be secret.
fn without_secrets(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let authority_ends = rest.find('/').unwrap_or(rest.len());
    let host_begins = rest[..authority_ends].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host_begins..])
}

/// Everything the table is made from; `app` builds it once the region is known.
#[derive(Debug, Clone)]
pub struct Config {
    /// The region of endpoints that name none.
    pub region: Region,
    pub dns_suffix: Option<HostName>,
    /// Never empty.
    pub endpoints: Vec<EndpointConfig>,
    pub private_api_ids: Vec<ApiId>,
    pub always_public_ids: Vec<ApiId>,
    pub always_public_names: Vec<HostName>,
    pub private_names: Vec<(HostName, VpceId)>,
    /// Names of the zones with servers of their own, in the order of the configuration.
    pub forward_zones: Vec<HostName>,
    pub default_upstream: Upstream,
    /// Whether the VPC's resolver sends names of API Gateway's zones to us.
    pub whole_vpc: bool,
    pub sources: Vec<SourceConfig>,
    /// Where last good lists are kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// Whether the operator chose it.
    pub state_dir_is_set: bool,
    /// PEM files with roots to trust beside the platform's.
    pub extra_roots: Vec<PathBuf>,
}

impl Config {
    /// Whether ids are learned from public DNS: where the configuration says so, or where there is nothing else to know
    /// them from.
    pub fn learns(&self) -> bool {
        learns(&self.private_api_ids, &self.endpoints, &self.sources)
    }
}

/// As [`Config::learns`], of what is known before the region is.
pub fn learns(private_api_ids: &[ApiId], endpoints: &[EndpointConfig], sources: &[SourceConfig]) -> bool {
    let no_static = private_api_ids.is_empty() && endpoints.iter().all(|endpoint| endpoint.private_api_ids.is_empty());
    sources.iter().any(|source| source.kind == SourceKind::Learned) || no_static && sources.is_empty()
}

#[cfg(test)]
impl Config {
    /// One endpoint in us-east-1 and nothing else known.
    pub(super) fn of_test(addresses: AddressSource) -> Self {
        let endpoint = EndpointConfig {
            region: None,
            vpce_id: Some("vpce-0123456789abcdef0".parse().unwrap()),
            addresses,
            private_api_ids: Vec::new(),
            health: HealthCheck::Off,
            port: 443,
        };
        Self {
            region: "us-east-1".parse().unwrap(),
            dns_suffix: None,
            endpoints: vec![endpoint],
            private_api_ids: Vec::new(),
            always_public_ids: Vec::new(),
            always_public_names: Vec::new(),
            private_names: Vec::new(),
            forward_zones: Vec::new(),
            default_upstream: Upstream::Public,
            whole_vpc: false,
            sources: Vec::new(),
            state_dir: None,
            state_dir_is_set: false,
            extra_roots: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn a_label_shows_nothing_of_a_url_that_may_be_secret() {
        for (url, shown) in [
            ("https://lists.example/ids", "https://lists.example/ids"),
            ("http://user:p@ss@lists.example:8080/a@b/ids?X-Amz-Signature=0123#f", "http://lists.example:8080/a@b/ids"),
            ("https://token@lists.example", "https://lists.example"),
            ("https://lists.example?secret@x", "https://lists.example"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
