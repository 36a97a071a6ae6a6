//! What commands ask that end by themselves: `sidegate route`, `discover` and `doctor`.

use std::sync::Arc;

use tokio::sync::watch;

use super::Surroundings;
use super::closures::look_up;
use super::configs::{discovery_config, dns_config};
use crate::config::Config;
use crate::discovery::{self, Discovery, PrivateApis, SourceStatus};
use crate::dns::{self, Plane};
use crate::policy::Table;

/// What a Sidegate that starts now would know, for commands that end: its endpoints are looked up and its sources read
/// once, beside their last good lists.
///
/// # Errors
/// No region, or upstreams that cannot be set up.
pub async fn known(config: &Config, surroundings: &Surroundings) -> anyhow::Result<(Arc<Table>, Vec<SourceStatus>)> {
    let discovery = Discovery::new(discovery_config(config, surroundings).await?)?;
    let quiet = dns_config(config, surroundings).await.quiet();
    let plane = Plane::bind(quiet, discovery.table(), None)?;
    let look_up = look_up(plane.service());
    let tools = discovery.tools(Arc::clone(&look_up))?;
    tokio::join!(discovery.look_up_endpoints(&look_up), discovery.read_sources(&tools));
    let table = Arc::clone(&discovery.table().borrow());
    Ok((table, discovery.sources()))
}

/// The private APIs of this account, for `sidegate discover`.
///
/// # Errors
/// No region, upstreams that cannot be set up, an account that does not answer.
pub async fn private_apis(config: &Config, surroundings: &Surroundings) -> anyhow::Result<PrivateApis> {
    let of_discovery = discovery_config(config, surroundings).await?;
    let quiet = dns_config(config, surroundings).await.quiet();
    let plane = Plane::bind(quiet, watch::Sender::new(Arc::default()).subscribe(), None)?;
    discovery::discover(&of_discovery, look_up(plane.service())).await.map_err(anyhow::Error::msg)
}

/// The servers of each upstream group under this configuration.
pub async fn upstreams(config: &Config, surroundings: &Surroundings) -> dns::Upstreams {
    dns_config(config, surroundings).await.upstreams
}
