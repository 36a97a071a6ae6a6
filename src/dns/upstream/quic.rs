//! Questions over QUIC (RFC 9250), carried by hickory: one connection to a server, kept until it fails.
//!
//! Only the transport is the library's: the bytes that come back are checked and read like any other upstream's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_net::NetError;
use hickory_net::quic::QuicClientStream;
use hickory_net::runtime::{RuntimeProvider, TokioRuntimeProvider};
use hickory_net::xfer::{DnsExchange, DnsHandle, FirstAnswer};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message};
use tokio::sync::Mutex;

use super::exchange::{AskError, is_reply_to};

/// A question without an answer for so long tells that the connection is dead.
const SILENCE: Duration = Duration::from_secs(3);

type Exchange = DnsExchange<TokioRuntimeProvider>;

/// The connection to one server, made when needed.
pub struct Quic {
    server: SocketAddr,
    /// The name the certificate must carry.
    name: Arc<str>,
    config: Arc<rustls::ClientConfig>,
    /// Owns the tasks that drive the connections, and ends them when it goes.
    runtime: TokioRuntimeProvider,
    /// With a number of its own, so that only the one that failed is let go.
    current: Mutex<(u64, Option<Exchange>)>,
    /// Answers so far, to any question: a name whose own servers are slow is no fault of the connection.
    answers: AtomicU64,
}

impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quic").field("server", &self.server).field("name", &self.name).finish_non_exhaustive()
    }
}

fn failed(error: impl std::fmt::Display) -> AskError {
    AskError::Transport(error.to_string())
}

impl Quic {
    /// A connection to be made to a server whose certificate is for `name`.
    pub fn new(server: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> Self {
        let runtime = TokioRuntimeProvider::new();
        Self { server, name: name.into(), config, runtime, current: Mutex::new((0, None)), answers: AtomicU64::new(0) }
    }

    /// Sends the query and waits for its reply. A connection that was kept and fails is replaced once.
    ///
    /// # Errors
    /// No connection, or no answer within three seconds.
    pub async fn ask(&self, query: &mut [u8]) -> Result<Vec<u8>, AskError> {
        // RFC 9250 section 4.2.1 wants id 0; the stream tells replies apart.
        query[..2].fill(0);
        let message = Message::from_vec(query).map_err(|_| AskError::Malformed)?;
        let (number, exchange, reused) = self.exchange().await?;
        let answer = match self.request(number, exchange, &message).await {
            Err(AskError::Transport(_)) if reused => {
                let (number, exchange, _) = self.exchange().await?;
                self.request(number, exchange, &message).await?
            }
            answer => answer?,
        };
        if is_reply_to(query, &answer) { Ok(answer) } else { Err(AskError::Malformed) }
    }

    async fn request(&self, number: u64, exchange: Exchange, message: &Message) -> Result<Vec<u8>, AskError> {
        let request = DnsRequest::new(message.clone(), DnsRequestOptions::default());
        let answers_before = self.answers.load(Ordering::Relaxed);
        match exchange.send(request).first_answer().await {
            Ok(response) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                let mut reply = response.into_buffer();
                if let Some(id) = reply.get_mut(..2) {
                    id.fill(0);
                }
                Ok(reply)
            }
            // The connection did its work, only the message was odd.
            Err(NetError::Proto(_)) => Err(AskError::Malformed),
            Err(NetError::Timeout) if self.answers.load(Ordering::Relaxed) > answers_before => Err(AskError::Timeout),
            Err(error) => {
                let mut current = self.current.lock().await;
                if current.0 == number {
                    current.1 = None;
                }
                Err(if matches!(error, NetError::Timeout) { AskError::Timeout } else { failed(error) })
            }
        }
    }

    /// The connection, its number, and whether it was there before.
    async fn exchange(&self) -> Result<(u64, Exchange, bool), AskError> {
        let mut current = self.current.lock().await;
        if let (number, Some(exchange)) = &*current {
            return Ok((*number, exchange.clone(), true));
        }
        let any = if self.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let local = any.parse().map_err(failed)?;
        let binder = self.runtime.quic_binder().ok_or_else(|| failed("QUIC is not available"))?;
        let socket = binder.bind_quic(local, self.server)?;
        let exchange = QuicClientStream::builder()
            .crypto_config((*self.config).clone())
            .request_timeout(SILENCE)
            .exchange(socket, self.server, Arc::clone(&self.name), self.runtime.clone())
            .await
            .map_err(failed)?;
        let number = current.0 + 1;
        *current = (number, Some(exchange.clone()));
        Ok((number, exchange, false))
    }
}
