//! A caller as an application is one: asks a DNS server for a name, then makes an HTTPS call to the first address.
//!
//! `run` makes its calls with it, once through each resolver; integration tests use it the same way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::ProtoError;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, RecordType};
use http_body_util::Empty;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Patience for one DNS answer over UDP. A resolver may take about 4 s where an upstream is silent.
const DNS_PATIENCE: Duration = Duration::from_secs(5);
/// Patience for a whole HTTPS call.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// UDP packets read while waiting for the one that answers.
const MAX_STRAYS: usize = 16;

/// Makes HTTPS calls to one port, and trusts one authority.
#[derive(Debug, Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    port: u16,
}

/// What a call came to: the addresses that the name got, and the status of the reply.
#[derive(Debug)]
pub struct Outcome {
    pub addresses: Vec<IpAddr>,
    pub status: Result<StatusCode, ClientError>,
}

/// Why there is no address or no status. The texts are short because they stand in a cell of a table.
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
    #[error("no TLS")]
    NoTls(#[source] io::Error),
    #[error("no HTTP reply")]
    NoReply(#[from] hyper::Error),
    #[error("no reply in time")]
    Slow,
}

impl Client {
    /// A client for the HTTPS servers on `port`, with TLS settings that say whom it trusts.
    pub fn new(tls: Arc<ClientConfig>, port: u16) -> Self {
        Self { tls, port }
    }

    /// Resolves `name` by asking `resolver`, then gets `https://NAME/` from the first address.
    pub async fn call(&self, resolver: SocketAddr, name: &str) -> Outcome {
        match resolve(resolver, name).await {
            Ok(addresses) => {
                let status = match addresses.first() {
                    Some(address) => self.get(*address, name).await,
                    None => Err(ClientError::NoAddress),
                };
                Outcome { addresses, status }
            }
            Err(error) => Outcome { addresses: Vec::new(), status: Err(error) },
        }
    }

    /// The status of `https://NAME/` at `address`, with `name` as SNI and as Host.
    ///
    /// # Errors
    /// No connection, a certificate that does not fit, or no reply.
    pub async fn get(&self, address: IpAddr, name: &str) -> Result<StatusCode, ClientError> {
        timeout(CALL_PATIENCE, self.get_at(SocketAddr::new(address, self.port), name))
            .await
            .unwrap_or(Err(ClientError::Slow))
    }

    async fn get_at(&self, address: SocketAddr, name: &str) -> Result<StatusCode, ClientError> {
        let stream = TcpStream::connect(address).await.map_err(ClientError::NoConnection)?;
        let sni = ServerName::try_from(name.to_owned()).map_err(|error| ClientError::NoTls(io::Error::other(error)))?;
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(sni, stream).await.map_err(ClientError::NoTls)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::new(Empty::<Bytes>::new());
        if let Ok(host) = header::HeaderValue::from_str(name) {
            request.headers_mut().insert(header::HOST, host);
        }
        let reply = sender.send_request(request);
        tokio::pin!(reply);
        // The connection only moves while it is polled. It may end with the reply already handed over, so its end says
        // nothing about the call.
        let reply = tokio::select! {
            reply = &mut reply => reply,
            _ = connection => reply.await,
        };
        Ok(reply?.status())
    }
}

/// The IPv4 addresses of `name` as `resolver` gives them, in its order, aliases followed within the answer.
///
/// # Errors
/// No answer, an answer that is an error, or one without an address.
pub async fn resolve(resolver: SocketAddr, name: &str) -> Result<Vec<IpAddr>, ClientError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    let answer = ask(resolver, &name, RecordType::A).await?;
    match answer.metadata.response_code {
        ResponseCode::NoError => addresses(&answer, name),
        ResponseCode::NXDomain => Err(ClientError::NoSuchName),
        code => Err(ClientError::Code(code)),
    }
}

/// Asks one question, recursion desired, without EDNS.
///
/// # Errors
/// No answer in time, or one that is no DNS message.
pub async fn ask(resolver: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, ClientError> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    exchange(resolver, &question).await
}

/// Sends a message over UDP, and again over TCP if the answer did not fit.
///
/// # Errors
/// No answer in time, or one that is no DNS message.
pub async fn exchange(resolver: SocketAddr, question: &Message) -> Result<Message, ClientError> {
    let bytes = question.to_vec()?;
    let silent = |_| Err(io::ErrorKind::TimedOut.into());
    let over_udp = timeout(DNS_PATIENCE, ask_udp(resolver, &bytes)).await.unwrap_or_else(silent);
    let answer = Message::from_vec(&over_udp.map_err(ClientError::NoAnswer)?).map_err(ProtoError::from)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let over_tcp = timeout(DNS_PATIENCE, ask_tcp(resolver, &bytes)).await.unwrap_or_else(silent);
    Ok(Message::from_vec(&over_tcp.map_err(ClientError::NoAnswer)?).map_err(ProtoError::from)?)
}

async fn ask_udp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if resolver.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, so that a closed port is an error at once and nobody else's packet gets in.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = [0; 4096];
    for _ in 0..MAX_STRAYS {
        let length = socket.recv(&mut buffer).await?;
        if buffer[..length].get(..2) == question.get(..2) {
            return Ok(buffer[..length].to_vec());
        }
    }
    Err(io::Error::other("only answers to other questions came"))
}

async fn ask_tcp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Follows the aliases from `name` through the answer section, and collects the addresses at their end.
fn addresses(answer: &Message, mut name: Name) -> Result<Vec<IpAddr>, ClientError> {
    // Every record is an alias at most once, so this many steps end every chain, and every circle too.
    for _ in 0..=answer.answers.len() {
        let own = || answer.answers.iter().filter(|record| record.name == name);
        let found: Vec<IpAddr> = own().filter_map(|record| record.data.ip_addr()).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let alias = own().find_map(|record| match &record.data {
            RData::CNAME(CNAME(target)) => Some(target.clone()),
            _ => None,
        });
        match alias {
            Some(target) => name = target,
            None => break,
        }
    }
    Err(ClientError::NoAddress)
}
