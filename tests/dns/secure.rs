//! Clients of the encrypted listeners, and the certificate that these show.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use sidegate::dns::{Config, Encrypted, Over};
use sidegate::server_tls::CertificateFiles;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gate::{Gate, PATIENCE, config, frame, loopback, public};

pub const NAME: &str = "sidegate.test";

/// Our certificate on disk, and who has signed it.
pub struct Shown {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Shown {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let shown = Self { issuer, folder: tempfile::tempdir().unwrap() };
        shown.renew();
        shown
    }

    pub fn files(&self) -> CertificateFiles {
        let at = |name: &str| self.folder.path().join(name);
        CertificateFiles { certificate: at("tls.crt"), key: at("tls.key"), named_by: "dns.tls_certificate and tls_key" }
    }

    /// Who has signed it, for `extra_roots`.
    pub fn roots(&self) -> PathBuf {
        let path = self.folder.path().join("roots.pem");
        std::fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    /// Puts another certificate in the place of the one there is; what clients will see of it.
    pub fn renew(&self) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.files().certificate, certificate.pem()).unwrap();
        std::fs::write(self.files().key, key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    /// UDP and TCP, DNS over TLS, DNS over HTTPS, each on loopback, with everything going to these servers.
    pub fn config(&self, servers: &[SocketAddr]) -> Config {
        let certificate = Some(self.files());
        let encrypted = Encrypted { tls: vec![loopback()], https: vec![loopback()], certificate };
        Config { encrypted, ..config(&[loopback()], public(servers)) }
    }

    /// TLS to one of our listeners, from this address, offering these protocols.
    pub async fn connect(
        &self,
        from: &str,
        to: SocketAddr,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut settings = builder.with_root_certificates(roots).with_no_client_auth();
        settings.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
        let stream = socket.connect(to).await?;
        let name = ServerName::try_from(NAME).unwrap();
        timeout(PATIENCE, TlsConnector::from(Arc::new(settings)).connect(name, stream)).await.expect("in time")
    }

    pub async fn dot(&self, gate: &Gate) -> DotClient {
        DotClient(self.connect("127.0.0.1", address(gate, Over::Tls), &["dot"]).await.unwrap())
    }

    pub async fn doh(&self, gate: &Gate, version: Version) -> DohClient {
        self.doh_from("127.0.0.1", gate, version).await.unwrap()
    }

    pub async fn doh_from(&self, from: &str, gate: &Gate, version: Version) -> std::io::Result<DohClient> {
        let protocol = if version == Version::HTTP_2 { "h2" } else { "http/1.1" };
        let stream = TokioIo::new(self.connect(from, address(gate, Over::Https), &[protocol]).await?);
        let sender = if version == Version::HTTP_2 {
            let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(DohClient(sender))
    }
}

/// Where the plane listens for this kind.
pub fn address(gate: &Gate, over: Over) -> SocketAddr {
    gate.plane.all_addresses().into_iter().find(|(kind, _)| *kind == over).expect("such a listener").1
}

/// A client of DNS over TLS.
pub struct DotClient(pub TlsStream<TcpStream>);

impl DotClient {
    pub async fn send(&mut self, query: &[u8]) {
        self.0.write_all(&frame(query)).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next reply; `None` where the server has closed the connection.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        let length = timeout(PATIENCE, self.0.read_u16()).await.expect("an answer in time").ok()?;
        let mut reply = vec![0; length.into()];
        timeout(PATIENCE, self.0.read_exact(&mut reply)).await.expect("the whole answer in time").unwrap();
        Some(reply)
    }

    /// The certificate that the server has shown.
    pub fn shown(&self) -> Vec<u8> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

/// A client of DNS over HTTPS on one connection.
pub struct DohClient(Sender);

impl DohClient {
    /// The same connection for somebody else, over HTTP/2.
    pub fn again(&self) -> Self {
        let Sender::Http2(sender) = &self.0 else { panic!("HTTP/1.1 has one exchange at a time") };
        Self(Sender::Http2(sender.clone()))
    }

    /// Sends a request when the connection is ready for it, waits for the head and the body of the answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Bytes>> {
        let exchange = async {
            let response = match &mut self.0 {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
            };
            let (head, body) = response.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        timeout(PATIENCE, exchange).await.expect("an answer in time")
    }

    pub async fn post(&mut self, query: &[u8]) -> Response<Bytes> {
        self.send(post(query)).await.unwrap()
    }
}

pub fn post(query: &[u8]) -> Request<Full<Bytes>> {
    let request = Request::post(format!("https://{NAME}/dns-query")).header("host", NAME);
    let request = request.header("content-type", "application/dns-message");
    request.body(Full::new(Bytes::copy_from_slice(query))).unwrap()
}

pub fn get(target: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://{NAME}{target}")).header("host", NAME).body(Full::default()).unwrap()
}
