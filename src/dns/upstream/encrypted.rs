//! Questions over HTTPS (RFC 8484) and QUIC (RFC 9250), carried by hickory.
//!
//! A server has one connection, kept until it fails. Only the transport is the library's: the bytes that come back are
//! checked and read like any other upstream's.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_net::h2::HttpsClientStream;
use hickory_net::quic::QuicClientStream;
use hickory_net::runtime::{RuntimeProvider, TokioRuntimeProvider};
use hickory_net::xfer::{DnsExchange, DnsHandle, FirstAnswer};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message};
use tokio::sync::Mutex;

use super::exchange::{AskError, is_reply_to};

type Connection = DnsExchange<TokioRuntimeProvider>;

/// What carries the questions.
#[derive(Debug, Clone)]
pub enum Carrier {
    Https { path: Arc<str> },
    Quic,
}

/// The connection to one server, made when needed.
pub struct Encrypted {
    carrier: Carrier,
    /// The name the certificate must carry.
    name: Arc<str>,
    config: Arc<rustls::ClientConfig>,
    /// Owns the tasks that drive the connections, and ends them when it goes.
    runtime: TokioRuntimeProvider,
    connection: Mutex<Option<Connection>>,
}

impl std::fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encrypted").field("carrier", &self.carrier).field("name", &self.name).finish_non_exhaustive()
    }
}

fn transport_error(error: impl std::fmt::Display) -> AskError {
    AskError::Transport(error.to_string())
}

impl Encrypted {
    /// A connection to be made to a server whose certificate is for `name`.
    pub fn new(carrier: Carrier, name: Arc<str>, config: Arc<rustls::ClientConfig>) -> Self {
        Self { carrier, name, config, runtime: TokioRuntimeProvider::new(), connection: Mutex::default() }
    }

    /// Sends the query to the server at `address` and waits for its reply. A kept connection that fails is replaced
    /// once. Has no deadline of its own.
    pub async fn ask(&self, address: SocketAddr, query: &mut [u8]) -> Result<Vec<u8>, AskError> {
        // RFC 8484 section 4.1 and RFC 9250 section 4.2.1 want id 0; the connection tells replies apart.
        query[..2].fill(0);
        let message = Message::from_vec(query).map_err(|_| AskError::Malformed)?;
        loop {
            let (connection, reused) = self.connection(address).await?;
            let request = DnsRequest::new(message.clone(), DnsRequestOptions::default());
            match connection.send(request).first_answer().await {
                Ok(response) => {
                    let mut reply = response.into_buffer();
                    if let Some(id) = reply.get_mut(..2) {
                        id.fill(0);
                    }
                    return if is_reply_to(query, &reply) { Ok(reply) } else { Err(AskError::Malformed) };
                }
                Err(error) => {
                    *self.connection.lock().await = None;
                    if !reused {
                        return Err(transport_error(error));
                    }
                }
            }
        }
    }

    /// The connection, and whether it was there before.
    async fn connection(&self, address: SocketAddr) -> Result<(Connection, bool), AskError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok((connection.clone(), true));
        }
        let provider = self.runtime.clone();
        let connection = match &self.carrier {
            Carrier::Https { path } => {
                HttpsClientStream::builder(Arc::clone(&self.config), provider)
                    .exchange(address, Arc::clone(&self.name), Arc::clone(path))
                    .await
            }
            Carrier::Quic => {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let local = any.parse().map_err(transport_error)?;
                let binder = provider.quic_binder().ok_or_else(|| transport_error("QUIC is not available"))?;
                let socket = binder.bind_quic(local, address)?;
                QuicClientStream::builder()
                    .crypto_config((*self.config).clone())
                    .exchange(socket, address, Arc::clone(&self.name), provider)
                    .await
            }
        }
        .map_err(transport_error)?;
        *slot = Some(connection.clone());
        Ok((connection, false))
    }
}
