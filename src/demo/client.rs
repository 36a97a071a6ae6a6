//! A caller as an application is one: gets `https://NAME/` by DNS, or by an entrance of an HTTPS forwarder.
//!
//! `run` makes its calls with it, once each [`Way`]; integration tests use it the same way.

mod dns;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub use dns::{ask, exchange, resolve};

/// Patience for a whole call after the DNS answer. A forwarder tries for 10 s before it says that it cannot connect.
const CALL_PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a proxy's answer to CONNECT, and of a reply's body.
const MAX_HEAD: usize = 8 << 10;
const MAX_BODY: usize = 16 << 10;

/// Makes HTTPS calls to one port, and trusts one authority.
#[derive(Debug, Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    port: u16,
}

/// How a call gets to its API: by asking the server, or entering the forwarder, that listens at the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Resolves the name there, then connects to the first address.
    Dns(SocketAddr),
    /// Asks there for a tunnel by HTTP CONNECT, as a program with `HTTPS_PROXY` does.
    Connect(SocketAddr),
    /// Begins TLS there, as a program does whose connections are redirected.
    Sni(SocketAddr),
    /// Gets `http://NAME/` there instead, without TLS; the entrance makes it HTTPS.
    Http(SocketAddr),
}

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    /// What the name got; none where the caller does not resolve it.
    pub addresses: Vec<IpAddr>,
    pub reply: Result<Reply, ClientError>,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: StatusCode,
    /// The label of the [`Gate`](super::gate::Gate) that served it, from the body.
    pub through: Option<String>,
}

/// Why there is no address or no reply. The texts are short because they stand in a cell of a table.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no such name")]
    NoSuchName,
    #[error("no address")]
    NoAddress,
    #[error("DNS error: {0}")]
    Code(ResponseCode),
    #[error("no DNS answer")]
    NoAnswer(#[source] io::Error),
    #[error("broken DNS answer")]
    BrokenAnswer(#[from] ProtoError),
    #[error("no connection")]
    NoConnection(#[source] io::Error),
    #[error("no tunnel")]
    NoTunnel(#[source] io::Error),
    #[error("no tunnel: {0}")]
    TunnelRefused(StatusCode),
    #[error("no TLS")]
    NoTls(#[source] io::Error),
    #[error("no HTTP reply")]
    NoReply(#[from] hyper::Error),
    #[error("no whole body")]
    NoBody(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no reply in time")]
    Slow,
}

impl Client {
    /// A client for the HTTPS servers on `port`, with TLS settings that say whom it trusts.
    pub fn new(tls: Arc<ClientConfig>, port: u16) -> Self {
        Self { tls, port }
    }

    /// Gets `https://NAME/` this way.
    pub async fn call(&self, way: Way, name: &str) -> Outcome {
        match way {
            Way::Dns(resolver) => match resolve(resolver, name).await {
                Ok(addresses) => {
                    let reply = match addresses.first() {
                        Some(address) => self.get(*address, name).await,
                        None => Err(ClientError::NoAddress),
                    };
                    Outcome { addresses, reply }
                }
                Err(error) => Outcome { addresses: Vec::new(), reply: Err(error) },
            },
            Way::Connect(proxy) => by_forwarder(self.get_through(proxy, name)).await,
            Way::Sni(entrance) => by_forwarder(self.get_at(entrance, name)).await,
            Way::Http(entrance) => by_forwarder(get_plain(entrance, name)).await,
        }
    }

    /// The reply to `https://NAME/` at `address`, with `name` as SNI and as Host.
    ///
    /// # Errors
    /// No connection, a certificate that does not fit, or no reply.
    pub async fn get(&self, address: IpAddr, name: &str) -> Result<Reply, ClientError> {
        in_time(self.get_at(SocketAddr::new(address, self.port), name)).await
    }

    async fn get_at(&self, address: SocketAddr, name: &str) -> Result<Reply, ClientError> {
        self.get_by_tls(connect(address).await?, name).await
    }

    async fn get_through(&self, proxy: SocketAddr, name: &str) -> Result<Reply, ClientError> {
        let mut stream = connect(proxy).await?;
        match tunnel(&mut stream, name).await.map_err(ClientError::NoTunnel)? {
            status if status.is_success() => self.get_by_tls(stream, name).await,
            status => Err(ClientError::TunnelRefused(status)),
        }
    }

    async fn get_by_tls(&self, stream: TcpStream, name: &str) -> Result<Reply, ClientError> {
        let sni = ServerName::try_from(name.to_owned()).map_err(|error| ClientError::NoTls(io::Error::other(error)))?;
        let connector = TlsConnector::from(self.tls.clone());
        get_over(connector.connect(sni, stream).await.map_err(ClientError::NoTls)?, name).await
    }
}

async fn by_forwarder(call: impl Future<Output = Result<Reply, ClientError>>) -> Outcome {
    Outcome { addresses: Vec::new(), reply: in_time(call).await }
}

async fn in_time(call: impl Future<Output = Result<Reply, ClientError>>) -> Result<Reply, ClientError> {
    timeout(CALL_PATIENCE, call).await.unwrap_or(Err(ClientError::Slow))
}

async fn get_plain(address: SocketAddr, name: &str) -> Result<Reply, ClientError> {
    get_over(connect(address).await?, name).await
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ClientError> {
    TcpStream::connect(address).await.map_err(ClientError::NoConnection)
}

/// Asks a proxy for a tunnel to the HTTPS port of `name`; its answer's status (RFC 9110 section 9.3.6).
async fn tunnel(stream: &mut TcpStream, name: &str) -> io::Result<StatusCode> {
    let head = format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what comes after the head belongs to the tunnel.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_HEAD {
            return Err(io::Error::other("the proxy's answer does not end"));
        }
        answer.push(stream.read_u8().await?);
    }
    let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| StatusCode::from_bytes(rest.get(..3)?).ok());
    status.ok_or_else(|| io::Error::other("the proxy's answer is not HTTP/1.1"))
}

/// Gets `/` over a connection that is there, by HTTP/1.1.
async fn get_over<S>(stream: S, host: &str) -> Result<Reply, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    if let Ok(host) = header::HeaderValue::from_str(host) {
        request.headers_mut().insert(header::HOST, host);
    }
    let call = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(ClientError::NoBody)?.to_bytes();
        let body: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let through = body.and_then(|body| Some(body.get("through")?.as_str()?.to_owned()));
        Ok(Reply { status: head.status, through })
    };
    tokio::pin!(call);
    // The connection only moves while it is polled. It may end with the reply already handed over, so its end says
    // nothing about the call.
    tokio::select! {
        reply = &mut call => reply,
        _ = connection => call.await,
    }
}
