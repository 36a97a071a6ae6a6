//! `forward.http`: plain HTTP in, or TLS with a given certificate; verified HTTPS out.
//!
//! HTTP/1.1 is read and written here, byte for byte: libraries regroup fields, refuse paths that are in use, and hide
//! framing that two readers read differently. HTTP/2 is hyper's. Between the four stands one neutral form.
//!
//! - `inbound`, `inbound_h2`: requests of clients; `upgrade`: what follows a 101
//! - `forward`: one request's way; `record`: what became of it
//! - `connect`, `pool`, `tls`: connections to servers; `outbound`, `outbound_h2`: one exchange on them
//! - `message`: the neutral form; `framing`, `fields`, `chunked`: the rules, pure; `source`, `body`, `write`: bytes

mod body;
mod chunked;
mod connect;
mod fields;
mod forward;
mod framing;
mod inbound;
mod inbound_h2;
mod message;
mod outbound;
mod outbound_h2;
mod pool;
mod record;
mod request;
mod source;
mod tls;
mod upgrade;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::connect::Connections;
use self::forward::Client;
use self::pool::Pool;
use self::tls::Connector;
use super::dial::Dialer;
use super::permit::Destinations;
use crate::policy::{HostName, Table};

pub use self::record::{Record, Report};
pub use self::tls::{Acceptor, CertificateError};

/// A body of which no byte comes for so long is given up.
const STALL: Duration = Duration::from_secs(60);

/// What the entrance is made of.
pub struct Settings {
    pub table: watch::Receiver<Arc<Table>>,
    pub rules: Destinations,
    pub dialer: Arc<Dialer>,
    /// Whose certificates are believed.
    pub trust: ClientConfig,
    /// For TLS towards clients; plain HTTP without.
    pub acceptor: Option<Acceptor>,
    /// Is told of each request when it is over.
    pub report: Report,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// The entrance under one configuration, with its connections to servers.
pub struct Gateway {
    table: watch::Receiver<Arc<Table>>,
    rules: Destinations,
    connections: Connections,
    acceptor: Option<Acceptor>,
    report: Report,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Must be called within a runtime.
    pub fn new(settings: Settings) -> Self {
        let Settings { table, rules, dialer, trust, acceptor, report } = settings;
        let connections = Connections { pool: Pool::new(), connector: Connector::new(trust), dialer };
        Self { table, rules, connections, acceptor, report }
    }

    /// Serves one client until it has no more requests, breaks a rule, or `stop` and what is under way has ended.
    /// `has_asked` is called for each request whose head has come.
    pub async fn serve(
        self: &Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        listener: SocketAddr,
        stop: &CancellationToken,
        has_asked: Arc<dyn Fn() + Send + Sync>,
    ) {
        // What is relayed was cut into packets by whoever sent it.
        let _ = stream.set_nodelay(true);
        let mut client = Client { address, port: listener.port(), server_name: None };
        let Some(acceptor) = &self.acceptor else {
            return inbound::serve(self, source::plain_halves(stream), &client, stop, &*has_asked).await;
        };
        let stream = match acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(client = %address, %error, "no TLS"),
        };
        let connection = stream.get_ref().1;
        client.server_name = connection.server_name().and_then(|name| name.parse::<HostName>().ok());
        if tls::is_http2(connection) {
            inbound_h2::serve(self, stream, client, stop, has_asked).await;
        } else {
            inbound::serve(self, source::halves(stream), &client, stop, &*has_asked).await;
        }
    }

    fn record(&self, client: SocketAddr) -> Record {
        Record::new(client, Arc::clone(&self.report))
    }
}
