//! A gateway on loopback that trusts one authority, and knows one endpoint and one public name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sidegate::forward::http::{Acceptor, Gateway, Settings};
use sidegate::forward::{AddressRules, AllowedDestination, Cause, Destinations, Dialer, Family, Others, Resolve};
use sidegate::policy::{Addresses, ApiId, Endpoint, Knowledge, Names, Networks, Origin, PrivateIds, Table};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub const ZONE: &str = "execute-api.us-east-1.amazonaws.com";
/// Goes to the endpoint.
pub const PRIVATE: &str = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";
/// Goes out.
pub const PUBLIC: &str = "f6g7h8i9j0.execute-api.us-east-1.amazonaws.com";
/// Goes out, by `forward.allow`.
pub const PARTNER: &str = "partner.example";

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let key = KeyPair::generate().unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("CA {:?}", key.public_key_raw()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate and its key.
    pub fn issue(&self, names: &[&str], expired: bool) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    pub fn server(&self, names: &[&str], expired: bool, alpn: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(names, expired);
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

/// What the gateway reported about a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub host: Option<String>,
    pub way: Option<&'static str>,
    pub status: Option<u16>,
    pub cause: Option<Cause>,
    pub complete: bool,
    pub up: u64,
    pub down: u64,
}

pub struct World {
    pub authority: Authority,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub table: watch::Sender<Arc<Table>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    _serving: AbortOnDropHandle<()>,
}

impl World {
    /// With the endpoint at one port and everything public at another.
    pub async fn new(authority: Authority, endpoint: u16, public: u16) -> Self {
        Self::with(authority, endpoint, public, None).await
    }

    /// With TLS towards clients, for a certificate with these names.
    pub async fn tls(authority: Authority, endpoint: u16, public: u16, names: &[&str]) -> Self {
        let (certificate, key) = authority.issue(names, false);
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        std::fs::write(path("chain.pem"), certificate.pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let acceptor = Acceptor::of_files(&path("chain.pem"), &path("key.pem")).unwrap();
        Self::with(authority, endpoint, public, Some(acceptor)).await
    }

    async fn with(authority: Authority, endpoint: u16, public: u16, acceptor: Option<Acceptor>) -> Self {
        let resolve: Resolve = Arc::new(|_, family, _| {
            let found = if family == Family::V4 { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { Vec::new() };
            Box::pin(async move { Ok(found) })
        });
        let public_networks = Networks::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let dialer = Dialer::new(resolve, AddressRules { public_networks, own_listeners: Vec::new() }, public);
        let (table, known) = watch::channel(Arc::new(table(endpoint, &["a1b2c3d4e5"])));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let reported = Arc::clone(&seen);
        let gateway = Arc::new(Gateway::new(Settings {
            table: known,
            rules: Destinations {
                allow: vec![AllowedDestination { name: PARTNER.parse().unwrap(), below: false, port: 443 }],
                others: Others::Refuse,
            },
            dialer: Arc::new(dialer),
            trust: authority.client(),
            acceptor,
            report: Arc::new(move |record| {
                reported.lock().unwrap().push(Seen {
                    host: record.host.map(|host| host.to_string()),
                    way: record.way,
                    status: record.status,
                    cause: record.cause,
                    complete: record.complete,
                    up: record.bytes_up(),
                    down: record.bytes_down(),
                });
            }),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, client)) = listener.accept().await {
                let (gateway, stop) = (Arc::clone(&gateway), stopping.clone());
                tokio::spawn(async move { gateway.serve(stream, client, address, &stop, Arc::new(|| {})).await });
            }
        });
        Self { authority, address, stop, table, seen, _serving: AbortOnDropHandle::new(serving) }
    }

    /// What was reported, once there is that much.
    pub async fn seen(&self, number: usize) -> Vec<Seen> {
        while self.seen.lock().unwrap().len() < number {
            tokio::task::yield_now().await;
        }
        self.seen.lock().unwrap().clone()
    }
}

/// A table in which these ids are private.
pub fn table(endpoint: u16, ids: &[&str]) -> Table {
    let addresses = Addresses { v4: vec![Ipv4Addr::LOCALHOST], ..Addresses::default() };
    let endpoint = Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port: endpoint };
    let mut known = PrivateIds::default();
    for id in ids {
        let everywhere = Knowledge { region: None, binding: None, origin: Origin::Static };
        known.add(id.parse::<ApiId>().unwrap(), everywhere);
    }
    let mut table = Table::new(vec![endpoint], Arc::new(Names::default()), None).unwrap();
    table.ids = Arc::new(known);
    table
}
