//! An HTTP client for our own look-ups: a list behind a URL, API Gateway, metadata services.
//!
//! Names are asked of the `vpc` upstream, never of the system's resolver, which may be us (a loop) or not be there. One
//! connection a request: these are seldom.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::{Request, Response, Uri, uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::discovery::endpoints::LookUp;
use crate::policy::{Family, HostName};

/// Why there is no answer; in words for an operator, with nothing secret in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{asked}: {why}")]
pub(in crate::discovery) struct FetchError {
    /// The URL, without user, password and query.
    pub(in crate::discovery) asked: String,
    /// What failed, and what to do.
    pub(in crate::discovery) why: String,
}

/// What one request may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::discovery) struct Limits {
    /// For each address; then the next is tried.
    pub(in crate::discovery) connect: Duration,
    /// From the look-up to the last octet.
    pub(in crate::discovery) within: Duration,
    /// Octets of the answer's body.
    pub(in crate::discovery) max_body: usize,
}

/// Sends requests.
pub(in crate::discovery) struct Fetcher {
    look_up: LookUp,
    tls: TlsConnector,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

impl Fetcher {
    pub(in crate::discovery) fn new(look_up: LookUp, tls: Arc<ClientConfig>) -> Self {
        let mut tls = Arc::unwrap_or_clone(tls);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { look_up, tls: TlsConnector::from(Arc::new(tls)) }
    }

    /// Sends a request whose URI is absolute, and reads the whole answer, whatever its status. Redirects are answers.
    ///
    /// # Errors
    /// No address, no connection, no trust, no whole answer in time.
    pub(in crate::discovery) async fn send(
        &self,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Result<Response<Bytes>, FetchError> {
        let asked = shown(request.uri());
        let exchanged = timeout(limits.within, self.exchange(request, limits)).await;
        exchanged
            .unwrap_or_else(|_| {
                let seconds = limits.within.as_secs_f32();
                Err(format!("no whole answer within {seconds} s: see that it is up and can be reached from here"))
            })
            .map_err(|why| FetchError { asked, why })
    }

    async fn exchange(&self, request: Request<Bytes>, limits: Limits) -> Result<Response<Bytes>, String> {
        let not_ours = || "a URL begins with http:// or https:// and a host: correct it".to_owned();
        let host = request.uri().host().filter(|host| !host.is_empty()).ok_or_else(not_ours)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let scheme = request.uri().scheme().ok_or_else(not_ours)?;
        let encrypted = *scheme == uri::Scheme::HTTPS;
        if !encrypted && *scheme != uri::Scheme::HTTP {
            return Err(not_ours());
        }
        let port = port(request.uri(), if encrypted { 443 } else { 80 })?;
        let stream = connect(&self.addresses(&host).await?, port, limits.connect).await?;
        if !encrypted {
            return converse(stream, request, limits.max_body).await;
        }
        let name = ServerName::try_from(host).map_err(|_| not_ours())?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| tls_in_words(&error))?;
        converse(stream, request, limits.max_body).await
    }

    /// The addresses of a name or of `localhost`, or the address itself. IPv4 first: it is what every VPC has.
    ///
    /// # Errors
    /// In words for an operator.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        // Never asked of DNS (RFC 6761 section 6.3).
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let name: HostName = host.parse().map_err(|error| format!("{host} is no host name ({error}): correct it"))?;
        let (v4, v6) = tokio::join!((self.look_up)(name, Family::V4), (self.look_up)(name, Family::V6));
        // One family is enough.
        let mut addresses: Vec<IpAddr> = Vec::new();
        let mut failed = None;
        for found in [v4, v6] {
            match found {
                Ok(found) => addresses.extend(found.addresses),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if addresses.is_empty() => {
                Err(format!("{name} cannot be looked up ({error}): correct it, or upstream.vpc"))
            }
            None if addresses.is_empty() => Err(format!("{name} has no address: correct it")),
            _ => Ok(addresses),
        }
    }
}

/// What is no port reads as none; the default is not what was meant.
fn port(url: &Uri, default: u16) -> Result<u16, String> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let after_user = authority.rsplit('@').next().unwrap_or_default();
    match after_user.strip_prefix(url.host().unwrap_or_default()) {
        None | Some("") => Ok(default),
        Some(written) => {
            let port = url.port_u16().filter(|port| *port > 0);
            port.ok_or_else(|| format!("{written:?} is no port: write one of 1 to 65535, or leave it out"))
        }
    }
}

/// A URL as errors show it: users, passwords and queries may be secret.
pub(super) fn shown(url: &Uri) -> String {
    let scheme = url.scheme_str().map(|scheme| format!("{scheme}://")).unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}{}{port}{}", url.host().unwrap_or_default(), url.path())
}

/// An error with what lies beneath it, each said once, without links to a library's manual.
pub(super) fn in_words(error: &dyn Error) -> String {
    let said = |error: &dyn Error| error.to_string().split(": https://docs.rs/").next().unwrap_or_default().to_owned();
    let mut words = said(error);
    let mut beneath = error.source();
    while let Some(error) = beneath {
        let more = said(error);
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        beneath = error.source();
    }
    words
}

/// Tries one address after the other.
async fn connect(addresses: &[IpAddr], port: u16, within: Duration) -> Result<TcpStream, String> {
    let mut failed = Vec::new();
    for address in addresses.iter().map(|ip| SocketAddr::new(*ip, port)) {
        match timeout(within, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed.push(format!("{address}: {error}")),
            Err(_) => failed.push(format!("{address}: nothing within {} s", within.as_secs_f32())),
        }
    }
    Err(format!("no connection ({}): see that it is up and can be reached from here", failed.join("; ")))
}

fn tls_in_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let fix = match why {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "use a name that it is for"
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "renew it, or set the clock of this host"
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "set the clock of this host"
                }
                CertificateError::UnknownIssuer => "add who signed it to forward.extra_roots",
                _ => "replace it on the server, or add who signed it to forward.extra_roots",
            };
            format!("its certificate is not accepted ({why}): {fix}")
        }
        _ => format!("no TLS ({}): see that it speaks TLS 1.2 or newer on this port", in_words(error)),
    }
}

/// One request, one answer, and the end of the connection.
async fn converse<S>(stream: S, request: Request<Bytes>, max_body: usize) -> Result<Response<Bytes>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broke_off = |error: &dyn Error| format!("no whole answer ({}): see the server's own log", in_words(error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broke_off(&error))?;
    // Ends with this call, however it ends.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = sender.send_request(in_origin_form(request)?).await.map_err(|error| broke_off(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, max_body).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            format!("its answer has more than {max_body} octets: see that the URL is the right one")
        } else {
            broke_off(error.as_ref())
        }
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// RFC 9112 section 3.2.1, with the Host that goes with it (RFC 9110 section 7.2), unless the caller brought one.
fn in_origin_form(request: Request<Bytes>) -> Result<Request<Full<Bytes>>, String> {
    let (mut head, body) = request.into_parts();
    let default = if head.uri.scheme() == Some(&uri::Scheme::HTTPS) { 443 } else { 80 };
    let port = head.uri.port_u16().filter(|port| *port != default).map(|port| format!(":{port}"));
    let host = format!("{}{}", head.uri.host().unwrap_or_default(), port.unwrap_or_default());
    let host = HeaderValue::try_from(host).map_err(|error| error.to_string())?;
    head.headers.entry(HOST).or_insert(host);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = target.parse().map_err(|_| "its path is none: correct the URL".to_owned())?;
    Ok(Request::from_parts(head, Full::new(body)))
}

#[cfg(test)]
pub(super) mod tests;
