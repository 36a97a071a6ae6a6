//! `forward.http`: plain HTTP in, or TLS with a given certificate; verified HTTPS out.
//!
//! HTTP/1.1 is read and written here, byte for byte: libraries regroup fields, refuse paths that are in use, and hide
//! framing that two readers read differently. HTTP/2 is hyper's. Between the four stands one neutral form.
//!
//! - `inbound`, `inbound_h2`: requests of clients; `upgrade`: what follows a 101
//! - `forward`: one request's way; `record`: what became of it
//! - `connect`, `pool`, `multiplexed`, `share`, `tls`: connections to servers; `outbound`, `outbound_h2`: one exchange on them
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
mod multiplexed;
mod outbound;
mod outbound_h2;
mod pool;
mod record;
mod request;
mod share;
mod source;
mod tls;
mod upgrade;
mod write;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use self::connect::Connections;
use self::forward::Client;
use self::tls::{Acceptor, Connector};
use super::config::Config;
use super::service::Connection;
use crate::policy::HostName;
use crate::roots::{self, RootsError};
use crate::server_tls::CertificateError;

/// A body of which no byte comes for so long is given up.
const STALL: Duration = Duration::from_secs(60);

/// What one configuration of the entrance has beside the plane's [`Service`](super::service::Service): connections to
/// servers that wait for requests, and its certificates.
#[derive(Debug)]
pub struct Gateway {
    connections: Connections,
    /// For TLS towards clients; plain HTTP without.
    acceptor: Option<Acceptor>,
}

impl Gateway {
    /// Reads the certificates; must be called within a runtime, and blocks.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn new(config: &Config) -> Result<Self, GatewayError> {
        let acceptor = config.http_tls.clone().map(Acceptor::of_files).transpose()?;
        Self::with(acceptor, config)
    }

    /// As [`Gateway::new`], while others are served: our own certificate may be on a file system that hangs, and is waited
    /// for five seconds without a thread of theirs.
    ///
    /// # Errors
    /// As [`Gateway::new`].
    pub async fn new_apart(config: &Config) -> Result<Self, GatewayError> {
        let acceptor = match config.http_tls.clone() {
            Some(files) => Some(Acceptor::of_files_apart(files).await?),
            None => None,
        };
        Self::with(acceptor, config)
    }

    fn with(acceptor: Option<Acceptor>, config: &Config) -> Result<Self, GatewayError> {
        let connector = Connector::new(&roots::client_config(&config.extra_roots)?);
        Ok(Self { connections: Connections::new(connector), acceptor })
    }
}

/// Why the entrance cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// Serves one client until it has no more requests, breaks a rule, or has to go. Once the plane ends, what is under way
/// is finished, and nothing new is begun.
pub(super) async fn serve(stream: TcpStream, connection: Connection) {
    let close = connection.place.close.clone();
    tokio::select! {
        () = begin(stream, connection) => {}
        () = close.cancelled() => {}
    }
}

async fn begin(stream: TcpStream, connection: Connection) {
    let service = connection.service();
    let Some(gateway) = &service.http else { return };
    let client = Client { connection, server_name: None };
    let acceptor = gateway.acceptor.clone();
    // A reload replaces it; this connection goes by whatever is in force.
    drop(service);
    let Some(acceptor) = acceptor else {
        return inbound::serve(source::plain_halves(stream), &client).await;
    };
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(client = %client.connection.client, %error, "no TLS"),
    };
    let tls = stream.get_ref().1;
    let server_name = tls.server_name().and_then(|name| name.parse::<HostName>().ok());
    let (client, is_http2) = (Client { server_name, ..client }, tls::is_http2(tls));
    if is_http2 {
        inbound_h2::serve(stream, Arc::new(client)).await;
    } else {
        inbound::serve(source::halves(stream), &client).await;
    }
}

/// For tests of clients: believes no certificate.
#[cfg(test)]
fn reaching_nobody() -> Gateway {
    Gateway { connections: Connections::new(Connector::new(&roots::trusting_nobody().unwrap())), acceptor: None }
}
