//! The DNS plane as `app` sees it: bind, serve, replace at a reload, drain.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::config::Config;
use super::listen::{Bound, Listener};
use super::resolver::{Observer, Resolver};
use super::service::{Counters, Service};
use super::upstream::{Server, UpstreamsError};
use super::{config, upstream};
use crate::policy::Table;

/// Bytes of answers remembered.
const CACHE_BYTES: usize = 16 << 20;

/// The DNS plane.
#[derive(Debug)]
pub struct Plane {
    config: Config,
    table: watch::Receiver<Arc<Table>>,
    observer: Option<Observer2>,
    service: watch::Sender<Arc<Service>>,
    listeners: Vec<Listener>,
    tracker: TaskTracker,
}

/// Why the plane cannot start, or cannot change to another configuration.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("dns.listen: cannot bind {address}: {reason}")]
    Bind { address: SocketAddr, reason: String },
    #[error("{server} is this resolver itself (dns.listen {address}): name another server in [upstream]")]
    Loop { server: Server, address: SocketAddr },
    #[error(transparent)]
    Upstreams(#[from] UpstreamsError),
}

impl Plane {}
