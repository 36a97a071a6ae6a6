//! A VPC on loopback whose endpoint and whose internet answer as a test says.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sidegate::app::{Surroundings, SystemResolver, examine};
use sidegate::config::{Config, Inputs};
use sidegate::demo::certificates::Authority;
use sidegate::demo::dns_server::DnsServer;
use sidegate::demo::sockets::tcp_on_one_port;
use sidegate::demo::zones::Zones;
use sidegate::discovery::Metadata;
use sidegate::doctor::{Cause, Observations, Request as Call, Verdict, diagnose};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub const ZONE: &str = "execute-api.us-east-1.amazonaws.com";
/// Not in public DNS.
pub const PRIVATE: &str = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";
pub const PUBLIC: &str = "f6g7h8i9j0.execute-api.us-east-1.amazonaws.com";
pub const TARGET: &str = "d-abcdef1234.execute-api.us-east-1.amazonaws.com";
/// An alias of [`TARGET`].
pub const DOMAIN: &str = "api.example.com";
/// No API's.
pub const WEB: &str = "www.example.com";

pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 21);
pub const FORBIDDEN: &str = r#"{"message":"Forbidden"}"#;
pub const MISSING_TOKEN: &str = r#"{"message":"Missing Authentication Token"}"#;

/// What is answered to a request: status, header fields, body.
pub type Says = Arc<dyn Fn(&Request<Incoming>) -> (u16, Vec<(&'static str, String)>, String) + Send + Sync>;

/// How a place behaves.
#[derive(Clone)]
pub enum Manner {
    Says(Says),
    /// The same, with a certificate for somebody else.
    OtherCertificate,
    /// The same, for clients with a certificate only.
    ClientCertificate(&'static rustls::SupportedProtocolVersion),
    /// Ends every handshake with an alert.
    Alert,
    /// Takes connections and never says anything over TLS.
    Mute,
    /// Drops every SYN, as a security group does.
    Drops,
    /// Nobody listens.
    Refuses,
}

/// One answer to everything, marked as API Gateway marks it.
pub fn says(status: u16, error_type: &'static str, body: &str) -> Manner {
    let body = body.to_owned();
    Manner::Says(Arc::new(move |_| marked(status, error_type, &body)))
}

/// A 403 with this type and this message of a denial.
pub fn denies(rest: &str) -> Manner {
    let text = "User: anonymous is not authorized to perform: execute-api:Invoke on resource: \
                arn:aws:execute-api:us-east-1:********1234:a1b2c3d4e5/prod/GET/orders";
    says(403, "AccessDeniedException", &format!(r#"{{"Message":"{text}{rest}"}}"#))
}

/// `Forbidden` for all but the paths that no API has: the stage stands.
pub fn wants_a_key() -> Manner {
    Manner::Says(Arc::new(|request| {
        if request.uri().path().ends_with("no-such-path") {
            return marked(403, "MissingAuthenticationTokenException", MISSING_TOKEN);
        }
        marked(403, "ForbiddenException", FORBIDDEN)
    }))
}

pub fn forbids() -> Manner {
    says(403, "ForbiddenException", FORBIDDEN)
}

pub fn serves() -> Manner {
    says(200, "", "{}")
}

pub fn marked(status: u16, error_type: &str, body: &str) -> (u16, Vec<(&'static str, String)>, String) {
    let mut fields = vec![("x-amzn-RequestId", "1-2-3".to_owned()), ("x-amz-apigw-id", "AAA=".to_owned())];
    if !error_type.is_empty() {
        fields.push(("x-amzn-ErrorType", error_type.to_owned()));
    }
    (status, fields, body.to_owned())
}

/// Who the system's resolver is.
#[derive(Debug, Clone)]
pub enum System {
    Vpc,
    Public,
    Server(SocketAddr),
    Hosts(IpAddr),
}

/// What a test changes.
pub struct Lab {
    pub endpoint: Manner,
    pub internet: Manner,
    /// TOML of `[policy]`, beside the region.
    pub policy: &'static str,
    /// The endpoint's id, if it is configured.
    pub vpce_id: &'static str,
    /// More TOML, whole sections.
    pub more: String,
    pub system: System,
    /// Whether the VPC's resolver has the endpoint's hidden zone.
    pub private_dns: bool,
    /// In place of the public resolver.
    pub public: Option<SocketAddr>,
    /// `upstream.public` is the VPC's resolver.
    pub public_is_vpc: bool,
    /// `forward` keys.
    pub forward: String,
}

impl Default for Lab {
    fn default() -> Self {
        Self {
            endpoint: forbids(),
            internet: serves(),
            policy: "private_api_ids = [\"other12345\"]",
            vpce_id: "",
            more: String::new(),
            system: System::Vpc,
            private_dns: true,
            public: None,
            public_is_vpc: false,
            forward: String::new(),
        }
    }
}

/// A lab that runs. Ends when dropped.
pub struct Running {
    pub config: Config,
    pub toml: String,
    pub system: SystemResolver,
    /// Requests that came, by place: method, path, and the value of `x-api-key`.
    pub seen: Arc<Mutex<Vec<(Ipv4Addr, String)>>>,
    pub directory: TempDir,
    _dns: [DnsServer; 2],
    _tasks: JoinSet<()>,
    _full: Vec<TcpStream>,
}

impl Lab {
    pub async fn start(self) -> Running {
        let (public_zones, vpc_zones) = zones(self.private_dns);
        let public = DnsServer::start([127, 0, 0, 8].into(), public_zones).await.unwrap();
        let vpc = DnsServer::start([127, 0, 0, 2].into(), vpc_zones).await.unwrap();
        let mut listeners = tcp_on_one_port(&[ENDPOINT.into(), INTERNET.into()], 0).await.unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        let authority = Authority::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut tasks, mut full) = (JoinSet::new(), Vec::new());
        let internet = listeners.pop().unwrap();
        let endpoint = listeners.pop().unwrap();
        for (manner, listener) in [(self.endpoint, endpoint), (self.internet, internet)] {
            place(manner, listener, &authority, &seen, &mut tasks, &mut full).await;
        }
        let public_address = if self.public_is_vpc { vpc.address() } else { self.public.unwrap_or(public.address()) };
        let vpce_id = match self.vpce_id {
            "" => String::new(),
            id => format!("vpce_id = \"{id}\""),
        };
        let toml = format!(
            "state_dir = \"\"\n[policy]\nregion = \"us-east-1\"\n{}\n[[endpoint]]\nport = {port}\n{vpce_id}\n\
             [upstream]\npublic = [\"{public_address}\"]\nvpc = [\"{}\"]\ndefault = \"vpc\"\n\
             [dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n\
             [forward]\npublic_networks = [\"127.0.0.0/8\"]\npublic_port = {port}\nextra_roots = ['{}']\n{}\n\
             [forward.connect]\nlisten = []\n[admin]\nlisten = \"\"\n{}\n",
            self.policy,
            vpc.address(),
            ca.display(),
            self.forward,
            self.more,
        );
        let inputs = Inputs { file: Some(("lab".to_owned(), toml.clone())), environment: Vec::new() };
        let config = Config::load(&inputs).unwrap();
        let system = match self.system {
            System::Vpc => SystemResolver { servers: vec![vpc.address()], hosts: String::new() },
            System::Public => SystemResolver { servers: vec![public.address()], hosts: String::new() },
            System::Server(address) => SystemResolver { servers: vec![address], hosts: String::new() },
            System::Hosts(ip) => SystemResolver {
                servers: vec![vpc.address()],
                hosts: format!("{ip} {PRIVATE} {PUBLIC} {DOMAIN} {WEB}\n"),
            },
        };
        Running { config, toml, system, seen, directory, _dns: [public, vpc], _tasks: tasks, _full: full }
    }

    /// The verdict on a plain call of this URL.
    pub async fn verdict(self, url: &str) -> Verdict {
        self.start().await.verdict(url).await
    }

    /// The cause, and what would look the same.
    pub async fn causes(self, url: &str) -> (Cause, Vec<Cause>) {
        let Verdict { cause, also, .. } = self.verdict(url).await;
        (cause, also)
    }
}

impl Running {
    pub async fn verdict(&self, url: &str) -> Verdict {
        diagnose(&self.examine(&Call::of_url(url).unwrap()).await)
    }

    pub async fn examine(&self, call: &Call) -> Observations {
        examine(&self.config, &nowhere(), &self.system, call).await.unwrap()
    }
}

/// Nothing around: no metadata service, no resolv.conf.
pub fn nowhere() -> Surroundings {
    let imds = SocketAddr::from(([127, 0, 0, 1], 1));
    Surroundings {
        metadata: Metadata { ecs: None, imds },
        resolv_conf: PathBuf::from("/nonexistent"),
        name_server_port: 53,
    }
}

/// An address of loopback where nobody answers DNS.
pub fn nobody() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn zones(private_dns: bool) -> (Zones, Zones) {
    let mut public = Zones::default();
    for apex in [".", ZONE, "example.com"] {
        public.add_zone(apex).unwrap();
    }
    for name in [PUBLIC, TARGET, WEB] {
        public.add_a(name, 60, &[INTERNET]).unwrap();
    }
    public.add_cname(DOMAIN, 60, TARGET).unwrap();
    let mut vpc = public.clone();
    if private_dns {
        vpc.add_captured_zone(ZONE, 60, &[ENDPOINT]).unwrap();
    }
    (public, vpc)
}

async fn place(
    manner: Manner,
    listener: TcpListener,
    authority: &Authority,
    seen: &Arc<Mutex<Vec<(Ipv4Addr, String)>>>,
    tasks: &mut JoinSet<()>,
    full: &mut Vec<TcpStream>,
) {
    let any_api = format!("*.{ZONE}");
    let names = [any_api.as_str(), ZONE, DOMAIN, WEB];
    let plain = authority.server_config(&names).unwrap();
    let (tls, says) = match manner {
        Manner::Says(says) => (plain, Some(says)),
        Manner::OtherCertificate => (authority.server_config(&["other.example"]).unwrap(), Some(served())),
        Manner::ClientCertificate(version) => (mutual(authority, &plain, version), Some(served())),
        Manner::Mute => (plain, None),
        Manner::Refuses => return,
        Manner::Drops => {
            // A queue of one that nobody empties: the next SYN is dropped.
            let address = listener.local_addr().unwrap();
            drop(listener);
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(0).unwrap();
            full.push(TcpStream::connect(address).await.unwrap());
            tasks.spawn(async move {
                std::future::pending::<()>().await;
                drop(socket);
            });
            return;
        }
        Manner::Alert => {
            tasks.spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    // Fatal, handshake_failure (RFC 5246 section 7.2).
                    let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]).await;
                }
            });
            return;
        }
    };
    let seen = Arc::clone(seen);
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, says, seen) = (TlsAcceptor::from(tls.clone()), says.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let at = stream.local_addr().unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let Some(says) = says else { return std::future::pending::<()>().await };
                let service = service_fn(move |request: Request<Incoming>| {
                    let key = request.headers().get("x-api-key").map(|key| key.to_str().unwrap().to_owned());
                    let told = format!("{} {} {}", request.method(), request.uri(), key.unwrap_or_default());
                    let IpAddr::V4(ip) = at.ip() else { panic!("IPv4 only") };
                    seen.lock().unwrap().push((ip, told.trim_end().to_owned()));
                    let (status, fields, body) = says(&request);
                    let mut response = Response::builder().status(status);
                    for (name, value) in fields {
                        response = response.header(name, value);
                    }
                    let response = response.body(Full::new(Bytes::from(body))).unwrap();
                    async move { Ok::<_, Infallible>(response) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

fn served() -> Says {
    Arc::new(|_| marked(200, "", "{}"))
}

/// The same certificate, for clients that show one of the same authority.
fn mutual(
    authority: &Authority,
    plain: &ServerConfig,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(&plain.cert_resolver));
    Arc::new(config)
}
