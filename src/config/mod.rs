//! The configuration as written, TOML and environment, to a [`Config`] that cannot be wrong.
//!
//! `app` loads it at start and on every reload, `cli` for `sidegate check`. [`Inputs::gather`] reads files and
//! variables, [`Config::load`] does the rest without I/O. Layers, weakest first, are `config/default.toml` (built in),
//! the file, and the environment; a stronger layer replaces single keys. All errors are reported at once, in
//! [`ConfigErrors`].
//!
//! - `schema`: every key there is
//! - `text`, `environment`: one layer each, as the flat keys of `document`, each with its place
//! - `read`, `values`: one key to one value
//! - `sections`, `arrays`: keys to the types that each plane owns
//! - `rules`: what several keys must keep together; `whole_vpc`: what they must keep where a whole VPC asks us
//! - `error`, `excerpt`, `secret`, `suggest`: how errors look, and what they never show

mod arrays;
mod document;
mod environment;
mod error;
mod excerpt;
mod inputs;
mod load;
mod read;
mod rules;
mod schema;
mod secret;
mod sections;
mod suggest;
mod text;
mod values;
mod whole_vpc;

use std::path::PathBuf;
use std::time::Duration;

use crate::policy::{ApiId, HostName, Networks, Region, Upstream, VpceId};
use crate::{admin, discovery, dns, forward};

pub use error::{ConfigError, ConfigErrors, Excerpt};
pub use inputs::{DEFAULT_FILE, Inputs};

/// `config/default.toml`, which documents every key with its default.
pub const DEFAULT_TOML: &str = document::DEFAULT_TEXT;

/// Everything an operator can set, valid as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where last good lists are kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// Whether the operator chose it.
    pub state_dir_is_set: bool,
    /// Who may use any listener.
    pub clients: Networks,
    /// How long work in flight may take at shutdown, 0 to 10 minutes.
    pub grace: Duration,
    /// How long everything is still served after `/ready` says no, 0 to 10 minutes.
    pub linger: Duration,
    /// `policy.region`, else `AWS_REGION`, else `AWS_DEFAULT_REGION`. `None`: to be asked of the metadata services.
    pub region: Option<Region>,
    pub policy: Policy,
    /// Empty if none is configured: one in the host's region is meant then.
    pub endpoints: Vec<discovery::EndpointConfig>,
    /// Where rule 7 sends names: public or VPC.
    pub default_upstream: Upstream,
    /// Whether the operator chose it.
    pub default_upstream_is_set: bool,
    /// The names of `[[upstream.zone]]`, in order; their servers stand at the same positions in `dns.upstreams.zones`.
    pub zones: Vec<HostName>,
    pub dns: dns::Config,
    /// Whether the operator wrote `upstream.vpc`. If not, the servers that resolv.conf had take the place of the default.
    pub vpc_is_set: bool,
    /// Whether resolv.conf is pointed at us while we run.
    pub take_over: bool,
    pub forward: forward::Config,
    pub discovery: Vec<discovery::SourceConfig>,
    pub admin: admin::Config,
    pub log: LogConfig,
    /// What is allowed and still asks for somebody to act; one sentence each.
    pub warnings: Vec<String>,
}

/// `[policy]`, but for its region.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    pub private_api_ids: Vec<ApiId>,
    pub always_public_ids: Vec<ApiId>,
    pub always_public_names: Vec<HostName>,
    /// Names that an endpoint serves; each endpoint id is that of a configured endpoint.
    pub private_names: Vec<(HostName, VpceId)>,
    /// In place of the suffixes of the partition table.
    pub dns_suffix: Option<HostName>,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
    /// Whether each connection of the forwarder is logged.
    pub access: bool,
}

/// The least that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads all layers. Does no I/O, but that the default of `dns.workers` counts the cores it may use.
    ///
    /// # Errors
    /// Everything that is wrong in the file and in the environment, all the operator's to correct.
    pub fn load(inputs: &Inputs) -> Result<Self, ConfigErrors> {
        load::load(inputs)
    }
}
