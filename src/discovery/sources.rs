//! All sources together: run for as long as the process does, or read once for a command that ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::config::{Config, SourceConfig, SourceKind};
use super::endpoints::LookUp;
use super::list::List;
use super::merge::Discovery;
use super::source::Source;
use super::source::api_gateway::ApiGatewayReader;
use super::source::fetch::Fetcher;
use crate::policy::Region;
use crate::roots::{self, RootsError};

/// A command waits so long for a source.
const ONCE: Duration = Duration::from_secs(10);
/// `discover` waits so long: a throttled account answers slowly.
const DISCOVER: Duration = Duration::from_secs(120);

/// What sources read with.
#[derive(Debug, Clone)]
pub struct Tools(Option<Arc<Fetcher>>);

fn fetcher(config: &Config, look_up: LookUp) -> Result<Arc<Fetcher>, RootsError> {
    let tls = roots::client_config(&config.extra_roots)?;
    Ok(Arc::new(Fetcher::new(look_up, Arc::new(tls))))
}

impl Discovery {
    /// What its sources need to be read; where none goes over the network, no roots are.
    ///
    /// # Errors
    /// Roots that cannot be read.
    pub fn tools(&self, look_up: LookUp) -> Result<Tools, RootsError> {
        let goes_out =
            |source: &SourceConfig| matches!(source.kind, SourceKind::Url { .. } | SourceKind::ApiGateway { .. });
        let needed = self.config.sources.iter().any(goes_out);
        Ok(Tools(if needed { Some(fetcher(&self.config, look_up)?) } else { None }))
    }

    /// Reads all sources, again and again, and keeps the table up to date with them. Never returns.
    pub async fn follow_sources(self: Arc<Self>, tools: Tools) {
        let mut tasks = JoinSet::new();
        for source in &self.sources {
            tasks.spawn(Arc::clone(source).follow(tools.0.clone()));
        }
        self.merge_lists().await;
    }

    /// Reads each source once, for commands that end; nothing is kept on disk.
    pub async fn read_sources(&self, tools: &Tools) {
        let reads = self.sources.iter().map(|source| source.read_once(tools.0.clone(), ONCE));
        futures_util::future::join_all(reads).await;
        self.merge_lists_now().await;
    }

    /// The required sources that have no list yet, by the names they go by in logs, each with the moment the table has it.
    pub fn awaited_lists(self: &Arc<Self>) -> Vec<(String, impl Future<Output = ()> + Send + 'static)> {
        let is_awaited = |(_, source): &(usize, &Arc<Source>)| source.config.required && source.list().is_none();
        let awaited = self.sources.iter().enumerate().filter(is_awaited).map(|(position, source)| {
            let discovery = Arc::clone(self);
            let arrived = async move {
                let mut table = discovery.table();
                // The sender is ours, so that it cannot be gone.
                while !discovery.has_list_of(position) && table.changed().await.is_ok() {}
            };
            (source.label.to_string(), arrived)
        });
        awaited.collect()
    }
}

/// What `discover` has read.
#[derive(Debug)]
pub struct PrivateApis {
    /// Where it has asked, none twice.
    pub regions: Vec<Region>,
    /// Each entry with its region.
    pub list: List,
}

impl PrivateApis {
    /// How many are in this region.
    pub fn count(&self, region: &Region) -> usize {
        self.list.entries().iter().filter(|entry| entry.region.as_ref() == Some(region)).count()
    }
}

/// The private APIs of this account, as API Gateway lists them: in the regions that sources of kind `api-gateway` name,
/// else in that of this host.
///
/// # Errors
/// The first region that did not answer; in words for an operator.
pub async fn discover(config: &Config, look_up: LookUp) -> Result<PrivateApis, String> {
    let fetcher = fetcher(config, look_up).map_err(|error| error.to_string())?;
    let configured = config.sources.iter().filter_map(|source| match &source.kind {
        SourceKind::ApiGateway { region, endpoint_url } => {
            Some((region.as_ref().unwrap_or(&config.region).clone(), endpoint_url.clone()))
        }
        _ => None,
    });
    let mut places: Vec<_> = configured.collect();
    if places.is_empty() {
        places.push((config.region.clone(), None));
    }
    let (mut regions, mut entries) = (Vec::new(), Vec::new());
    for (region, endpoint_url) in places {
        let mut reader = ApiGatewayReader::new(region.clone(), endpoint_url, Arc::clone(&fetcher));
        let list = tokio::time::timeout(DISCOVER, reader.read()).await;
        let list = list.unwrap_or_else(|_| Err(format!("no list within {} s", DISCOVER.as_secs())));
        let list = list.map_err(|error| format!("api-gateway {region}: {error}"))?;
        entries.extend_from_slice(list.entries());
        if !regions.contains(&region) {
            regions.push(region);
        }
    }
    Ok(PrivateApis { regions, list: List::new(entries) })
}
