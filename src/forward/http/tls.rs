//! TLS on both sides: with our certificate towards clients, and verified for the API's name towards servers.
//!
//! The certificate of a server is checked before one byte of a request is sent (there is no early data here).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError as CertificateProblem;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client, server};

use crate::forward::refusal::{Cause, Refusal};
use crate::policy::HostName;
use crate::server_tls::{self, Certificate, CertificateError, CertificateFiles};

/// Patience for a server's handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Which protocols a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Protocols {
    Http1,
    /// HTTP/2 where the server speaks it.
    Any,
}

/// Settings for connections to servers.
#[derive(Debug)]
pub(super) struct Connector {
    http1: Arc<ClientConfig>,
    any: Arc<ClientConfig>,
}

impl Connector {
    /// `settings` say who is trusted.
    pub(super) fn new(settings: &ClientConfig) -> Self {
        let with = |protocols: &[&[u8]]| {
            let mut settings = settings.clone();
            settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(settings)
        };
        Self { http1: with(&[HTTP1]), any: with(&[HTTP2, HTTP1]) }
    }

    /// # Errors
    /// The server does not prove that it is `host`, or speaks no TLS that we take.
    pub(super) async fn connect(
        &self,
        host: &HostName,
        protocols: Protocols,
        stream: TcpStream,
    ) -> Result<client::TlsStream<TcpStream>, Refusal> {
        let name = ServerName::try_from(host.to_string())
            .map_err(|_| Refusal::new(Cause::TlsFailure, format!("{host} cannot be in a certificate")))?;
        let settings = if protocols == Protocols::Http1 { &self.http1 } else { &self.any };
        let handshake = TlsConnector::from(Arc::clone(settings)).connect(name, stream);
        match timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failure(host, &error)),
            Err(_) => Err(Refusal::new(Cause::ConnectionTimeout, format!("{host}: no TLS handshake in time"))),
        }
    }
}

/// Whether HTTP/2 was agreed on.
pub(super) fn is_http2(connection: &rustls::CommonState) -> bool {
    connection.alpn_protocol() == Some(HTTP2)
}

fn failure(host: &HostName, error: &io::Error) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let words = format!("{host}: its certificate is not accepted: {}", in_words(why));
            Refusal::new(Cause::Certificate, words)
        }
        _ => Refusal::new(Cause::TlsFailure, format!("{host}: no TLS: {error}")),
    }
}

/// What is wrong with a certificate, and who can mend it.
fn in_words(error: &CertificateProblem) -> String {
    use CertificateProblem::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    let told = error.to_string();
    match error {
        UnknownIssuer => format!("{told}: if its authority is one of yours, name it in forward.extra_roots"),
        Expired | ExpiredContext { .. } => format!("{told}: have the server renew it, or correct this host's clock"),
        NotValidYet | NotValidYetContext { .. } => format!("{told}: correct this host's clock"),
        NotValidForName | NotValidForNameContext { .. } => format!("{told}: call the server by a name in it"),
        _ => format!("{told}: have the server send its own certificate, signed by an authority"),
    }
}

/// What is offered to clients. Who asks for HTTP/1.0 is served as well, and would be turned away if it were not on offer.
const OFFERED: [&[u8]; 3] = [HTTP2, HTTP1, b"http/1.0"];

/// Settings for connections of clients.
#[derive(Debug, Clone)]
pub(super) struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// Reads a certificate chain and its key from PEM files, and again when they change; must be called within a runtime.
    /// Blocks.
    ///
    /// # Errors
    /// A file that cannot be read, or a key of another certificate.
    pub(super) fn of_files(files: CertificateFiles) -> Result<Self, CertificateError> {
        Self::of(&Certificate::read(files)?)
    }

    /// As [`Acceptor::of_files`], on a thread that may block, for five seconds at most.
    ///
    /// # Errors
    /// As [`Acceptor::of_files`]; a file system that does not answer in time.
    pub(super) async fn of_files_apart(files: CertificateFiles) -> Result<Self, CertificateError> {
        Self::of(&Certificate::read_apart(files).await?)
    }

    fn of(certificate: &Arc<Certificate>) -> Result<Self, CertificateError> {
        certificate.follow();
        certificate.settings(&OFFERED).map(Self)
    }

    /// # Errors
    /// The client speaks no TLS that we take, or too slowly, or not at all.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        server_tls::accept(&self.0, stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
