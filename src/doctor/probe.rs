//! One call to one place, over TCP, TLS and HTTP/1.1, with every way in which it may end told apart.
//!
//! `examine` calls it for the endpoint's addresses and for the public ones. SNI and Host are the name, as an endpoint in
//! STRICT access mode demands (developer guide, apigateway-security-policies). HTTP/1.1, because private APIs speak
//! nothing else.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, USER_AGENT};
use hyper::http::{self, HeaderMap, Method};
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::observations::{Outcome, Probe};
use super::redaction::redacted;
use super::reply::Reply;
use super::request::Request;
use crate::egress_proxy::{EgressProxy, Host};

/// For a connection: SYN, and two more after one and three seconds.
const CONNECT: Duration = Duration::from_secs(3);
/// From a connection to the end of the answer. What refuses answers at once.
const ANSWER: Duration = Duration::from_secs(4);
/// Addresses tried at most.
const MAX_ADDRESSES: usize = 4;
/// Characters of a body that are kept, and octets that are read.
const MAX_BODY: usize = 4 << 10;
const READ: usize = 2 * MAX_BODY;
/// Characters of a header that is shown.
const MAX_HEADER: usize = 200;

/// Where to go.
#[derive(Debug, Clone)]
pub struct Destination {
    pub addresses: Vec<SocketAddr>,
    /// The egress proxy that the addresses are of, and the port to ask it for.
    pub proxy: Option<(EgressProxy, u16)>,
}

/// Sends the request to the first address that takes a connection; all are tried, so that those that do not are known.
/// At most seven seconds, and never beyond `deadline`.
pub async fn probe(destination: &Destination, request: &Request, tls: &ClientConfig, deadline: Instant) -> Probe {
    let addresses: Vec<_> = destination.addresses.iter().copied().take(MAX_ADDRESSES).collect();
    let attempts = join_all(addresses.iter().map(|address| connect(*address, deadline))).await;
    let (mut connected, mut failed, mut late) = (None, Vec::new(), false);
    for (address, attempt) in addresses.iter().zip(attempts) {
        match attempt {
            Ok(stream) => _ = connected.get_or_insert(stream),
            Err(error) => {
                late |= error.kind() == io::ErrorKind::TimedOut;
                failed.push((*address, in_words(&error)));
            }
        }
    }
    let outcome = match connected {
        Some(stream) => {
            let within = deadline.min(Instant::now() + ANSWER);
            match converse(stream, destination.proxy.as_ref(), request, tls, within).await {
                Ok(reply) => Outcome::Answered(reply),
                Err(outcome) => outcome,
            }
        }
        None if late => Outcome::ConnectTimeout,
        None => Outcome::Unreachable(failed.first().map(|(_, why)| why.clone()).unwrap_or_default()),
    };
    let proxy = destination.proxy.as_ref().map(|(proxy, _)| proxy.to_string());
    Probe { addresses, failed, proxy, outcome, control: None }
}

async fn connect(address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    let within = deadline.min(Instant::now() + CONNECT);
    timeout_at(within, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(late()))
}

/// Through the proxy, if there is one, then TLS, then one request.
async fn converse(
    stream: TcpStream,
    proxy: Option<&(EgressProxy, u16)>,
    request: &Request,
    tls: &ClientConfig,
    deadline: Instant,
) -> Result<Reply, Outcome> {
    let stream = match proxy {
        None => stream,
        Some((proxy, port)) => proxy
            .connect(stream, &Host::Name(request.host), *port, deadline)
            .await
            .map_err(|error| Outcome::ProxyRefused(error.to_string()))?,
    };
    let asked = Arc::new(Asked::default());
    let handshake = shake_hands(stream, request, tls, Arc::clone(&asked));
    let handshake = timeout_at(deadline, handshake).await;
    let stream = handshake.unwrap_or_else(|_| Err(Outcome::TlsRefused("no TLS handshake in time".to_owned())));
    let wants_certificate = |why: String| Outcome::WantsClientCertificate(why);
    let stream = match stream {
        Err(Outcome::TlsRefused(why)) if asked.was() => return Err(wants_certificate(why)),
        stream => stream?,
    };
    let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
    match timeout_at(deadline, exchange(stream, request)).await {
        // Since TLS 1.3 a client only hears that its certificate is missed when it reads (RFC 8446 section 4.4.2.4).
        Ok(Err(why)) if asked.was() => Err(wants_certificate(why)),
        Ok(Ok(reply)) if asked.was() && reply.status == 403 => Err(wants_certificate("403 without one".to_owned())),
        Ok(Err(why)) => Err(Outcome::NoAnswer(why)),
        Ok(Ok(reply)) => Ok(Reply { tls: version.map(str::to_owned), ..reply }),
        Err(_) => Err(Outcome::NoAnswer(format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

async fn shake_hands(
    stream: TcpStream,
    request: &Request,
    tls: &ClientConfig,
    asked: Arc<Asked>,
) -> Result<TlsStream<TcpStream>, Outcome> {
    let name = ServerName::try_from(request.host.to_string());
    let name = name.map_err(|_| Outcome::NotTried("the name cannot be in a certificate".to_owned()))?;
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls.client_auth_cert_resolver = asked;
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(|error| {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(why)) => Outcome::Certificate(why.to_string()),
            _ => Outcome::TlsRefused(in_words(&error)),
        }
    })
}

async fn exchange(stream: TlsStream<TcpStream>, request: &Request) -> Result<Reply, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| in_words(&error))?;
    // Ends with this call, however it ends.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = sender.send_request(to_send(request)?).await.map_err(|error| in_words(&error))?;
    let (head, body) = response.into_parts();
    let mut reply = reply(head.status.as_u16(), &head.headers, request);
    if reply.status >= 400 {
        reply.body = redacted(&start_of(body).await, request).chars().take(MAX_BODY).collect();
    }
    Ok(reply)
}

fn to_send(request: &Request) -> Result<http::Request<Empty<Bytes>>, String> {
    let mut sent = http::Request::new(Empty::new());
    *sent.method_mut() = request.method.clone();
    *sent.uri_mut() = request.target().parse().map_err(|_| "the path cannot be sent".to_owned())?;
    let headers = sent.headers_mut();
    let host = HeaderValue::try_from(request.host.to_string()).map_err(|error| error.to_string())?;
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in &request.headers {
        headers.append(name, value.clone());
    }
    let own = concat!("sidegate-doctor/", env!("CARGO_PKG_VERSION"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(own));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    if !matches!(request.method, Method::GET | Method::HEAD) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(sent)
}

fn reply(status: u16, headers: &HeaderMap, request: &Request) -> Reply {
    let of = |name: &str| {
        let text = printable(headers.get(name)?.as_bytes(), READ);
        Some(redacted(&text, request).chars().take(MAX_HEADER).collect::<String>())
    };
    let marks = ["apigw-requestid", "x-amz-apigw-id", "x-amzn-requestid"];
    let request_id = marks.into_iter().find_map(|name| Some((name.to_owned(), of(name)?)));
    Reply {
        status,
        tls: None,
        error_type: of("x-amzn-errortype").map(|text| text.split(':').next().unwrap_or_default().to_owned()),
        request_id,
        waf_action: of("x-amzn-waf-action"),
        from_cloudfront: of("x-cache").is_some_and(|text| text.eq_ignore_ascii_case("Error from cloudfront")),
        body: String::new(),
    }
}

/// What there is of the body's start, also where the rest never comes.
async fn start_of(mut body: Incoming) -> String {
    let mut start = Vec::new();
    let read = async {
        while start.len() < READ
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Some(data) = frame.data_ref() {
                start.extend_from_slice(&data[..data.len().min(READ - start.len())]);
            }
        }
    };
    // What is late is left out; an answer was had.
    let _ = timeout(Duration::from_secs(1), read).await;
    printable(&start, READ)
}

/// A text that steers no terminal.
fn printable(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(most).collect()
}

/// An error with what lies beneath it, each said once.
fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        beneath = error.source();
    }
    words
}

/// Has no certificate, and remembers that a server wanted one.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl Asked {
    fn was(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
