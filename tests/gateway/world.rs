//! A gateway on loopback that trusts one authority, and knows one endpoint and one public name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sidegate::forward::access::Total;
use sidegate::forward::{AllowedDestination, Config, Plane, Resolve, Surroundings};
use sidegate::policy::{Addresses, ApiId, Endpoint, Family, Knowledge, Names, Networks, Origin, PrivateIds, Table};
use sidegate::server_tls::CertificateFiles;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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

/// A plane with one listener, for HTTP.
pub struct World {
    pub authority: Authority,
    pub address: SocketAddr,
    pub table: watch::Sender<Arc<Table>>,
    /// The configuration in force.
    pub config: Config,
    around: Surroundings,
    plane: Option<Plane>,
    _folder: TempDir,
}

impl World {
    /// With the endpoint at one port and everything public at another.
    pub async fn new(authority: Authority, endpoint: u16, public: u16) -> Self {
        Self::with(authority, endpoint, public, None).await
    }

    /// With TLS towards clients, for a certificate with these names.
    pub async fn tls(authority: Authority, endpoint: u16, public: u16, names: &[&str]) -> Self {
        Self::with(authority, endpoint, public, Some(names)).await
    }

    async fn with(authority: Authority, endpoint: u16, public_port: u16, names: Option<&[&str]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let http_tls = names.map(|names| {
            let (certificate, key) = authority.issue(names, false);
            CertificateFiles {
                certificate: written("chain.pem", certificate.pem()),
                key: written("key.pem", key.serialize_pem()),
                named_by: "forward.http.tls_certificate and tls_key",
            }
        });
        let config = Config {
            connect_listen: Vec::new(),
            sni_listen: Vec::new(),
            http_listen: vec!["127.0.0.1:0".parse().unwrap()],
            http_tls,
            clients: Networks::new(vec!["127.0.0.0/8".parse().unwrap()]),
            others: None,
            allow: vec![AllowedDestination { name: PARTNER.parse().unwrap(), below: false, port: 443 }],
            public_networks: Networks::new(vec!["127.0.0.0/8".parse().unwrap()]),
            public_port,
            extra_roots: vec![written("ca.pem", authority.0.pem())],
            parent_proxy: None,
        };
        let resolve: Resolve = Arc::new(|_, family, _| {
            let found = if family == Family::V4 { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { Vec::new() };
            Box::pin(async move { Ok(found) })
        });
        let (table, known) = watch::channel(Arc::new(table(endpoint, &["a1b2c3d4e5"])));
        let around = Surroundings { table: known, resolve, on_attempt: Arc::new(|_| ()), other_listeners: Vec::new() };
        let mut plane = Plane::bind(&config, around.clone()).unwrap();
        plane.serve();
        let (_, address) = plane.addresses()[0];
        Self { authority, address, table, config, around, plane: Some(plane), _folder: folder }
    }

    /// Changes to the configuration as it is now.
    pub async fn reload(&mut self) {
        let plane = self.plane.as_mut().unwrap();
        let prepared = plane.prepare(&self.config, self.around.clone()).await.unwrap();
        plane.adopt(prepared);
    }

    /// How requests ended, once there are that many.
    pub async fn ended(&self, number: u64) -> Vec<(&'static str, Total)> {
        loop {
            let totals = self.plane.as_ref().unwrap().journal().totals();
            if totals.values().map(|total| total.count).sum::<u64>() >= number {
                return totals.into_iter().map(|((_, reason), total)| (reason, total)).collect();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Begins to end, with all the time it needs; says whether all ended by itself.
    pub fn drain(&mut self) -> JoinHandle<bool> {
        tokio::spawn(self.plane.take().unwrap().drain(Duration::from_secs(60)))
    }
}

/// A table in which these ids are private.
pub fn table(endpoint: u16, ids: &[&str]) -> Table {
    let addresses = Addresses { v4: vec![Ipv4Addr::LOCALHOST], ..Addresses::default() };
    let endpoint = Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port: endpoint };
    let mut known = PrivateIds::default();
    for id in ids {
        let everywhere = Knowledge::of(&Origin::Static);
        known.add(&id.parse::<ApiId>().unwrap(), everywhere);
    }
    let mut table = Table::new(vec![endpoint], Arc::new(Names::default()), None).unwrap();
    table.ids = Arc::new(known);
    table
}
