//! All that is known of a running process, by whatever configuration is in force: what admin shows of it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{RouteReport, TakeOverTotals, decisions, metrics, reloads, status};
use crate::admin::{Answers, Liveness, Readiness, Reload};
use crate::discovery::Discovery;
use crate::dns::Service;
use crate::forward;
use crate::policy::HostName;

/// Handles to those who know.
#[derive(Debug)]
pub(super) struct Known {
    pub discovery: watch::Receiver<Arc<Discovery>>,
    pub dns: watch::Receiver<Arc<Service>>,
    pub forwarder: forward::Counters,
    pub readiness: Readiness,
    pub reloads: Arc<reloads::Totals>,
    pub take_over: Arc<TakeOverTotals>,
    pub started: Instant,
    /// The same by the clock on the wall, which may be put right meanwhile.
    pub started_at: SystemTime,
}

impl Known {
    /// What admin is told, and what it may have done.
    pub(super) fn answers(self: &Arc<Self>, liveness: Liveness, reload: Reload, quit: CancellationToken) -> Answers {
        let [status, route, decisions, metrics] = std::array::from_fn(|_| Arc::clone(self));
        Answers {
            readiness: self.readiness.clone(),
            liveness,
            status: Arc::new(move || status::status(&status)),
            route: Arc::new(move |name| route.route(name)),
            decisions: Arc::new(move || decisions::decisions(&decisions.dns.borrow().counters, &decisions.forwarder)),
            metrics: Arc::new(move || metrics::text(&metrics)),
            reload,
            quit,
        }
    }

    /// As `sidegate route --json`, from what this process knows now.
    fn route(&self, name: &HostName) -> String {
        let discovery = Arc::clone(&self.discovery.borrow());
        let service = Arc::clone(&self.dns.borrow());
        let table = discovery.table().borrow().clone();
        let servers = |upstream| {
            let states = service.resolver.upstreams().states().into_iter();
            states.filter(|(group, ..)| *group == upstream).map(|(_, server, ..)| server).collect()
        };
        format!("{:#}\n", RouteReport::new(name, &table, &discovery.sources(), servers).json())
    }
}
