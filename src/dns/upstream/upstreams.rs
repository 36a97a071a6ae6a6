//! All groups of the plane, built from the configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::{Instant, timeout};

use super::bootstrap::BootstrapAnswer;
use super::exchange::{AskError, OwnSockets};
use super::group::Group;
use super::peer::Peer;
use super::server::{Server, Transport};
use crate::dns::config;
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::policy::Upstream;

/// Within this a server's own name must resolve.
const BOOTSTRAP: Duration = Duration::from_secs(2);
/// Within this a probe in the background is over.
const PROBE: Duration = Duration::from_secs(4);

/// Every group of servers.
#[derive(Debug)]
pub struct Upstreams {
    public: Group,
    vpc: Arc<Group>,
    zones: Vec<Group>,
    own: OwnSockets,
}

/// Why the groups cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamsError {
    #[error("cannot read the roots in {}: {reason}: name a PEM file with certificates in forward.extra_roots", path.display())]
    Roots { path: PathBuf, reason: String },
    #[error("TLS to upstream servers cannot be set up: {0}")]
    Tls(String),
    #[error("{0} needs an IP address")]
    Server(Server),
}

impl Upstreams {
    /// Builds the groups; connects to nothing yet. The platform's roots are only read if some server needs them.
    ///
    /// # Errors
    /// Unreadable `extra_roots`, or a platform without a usable trust store.
    pub fn new(servers: &config::Upstreams, extra_roots: &[PathBuf]) -> Result<Self, UpstreamsError> {
        let all = || servers.public.iter().chain(&servers.vpc).chain(servers.zones.iter().flatten());
        let encrypted = all().any(|server| !matches!(server.transport, Transport::Udp | Transport::Tcp));
        let tls = Arc::new(if encrypted { client_config(extra_roots)? } else { no_roots()? });
        let own = OwnSockets::default();
        let group = |servers: &[Server]| {
            let peer = |server: &Server| {
                Peer::new(server.clone(), &tls, own.clone()).ok_or_else(|| UpstreamsError::Server(server.clone()))
            };
            servers.iter().map(peer).collect::<Result<_, _>>().map(Group::new)
        };
        Ok(Self {
            public: group(&servers.public)?,
            vpc: Arc::new(group(&servers.vpc)?),
            zones: servers.zones.iter().map(|zone| group(zone)).collect::<Result<_, _>>()?,
            own,
        })
    }

    /// The sockets that wait for an upstream now.
    pub fn own_sockets(&self) -> &OwnSockets {
        &self.own
    }

    /// Asks a group; see `Group::ask`.
    ///
    /// # Errors
    /// As `Group::ask`.
    pub async fn ask(&self, upstream: Upstream, question: &Question, deadline: Instant) -> Result<Message, AskError> {
        let group = match upstream {
            Upstream::Public => &self.public,
            Upstream::Vpc => &*self.vpc,
            Upstream::Zone(position) => self.zones.get(position).ok_or(AskError::NoServer)?,
        };
        let vpc = Arc::clone(&self.vpc);
        let bootstrap = move |question| bootstrap(Arc::clone(&vpc), question);
        if let Some(peer) = group.claim_probe() {
            // Its outcome is kept by the peer itself; the client waits for the first choice only.
            let (question, bootstrap) = (question.clone(), bootstrap.clone());
            tokio::spawn(async move {
                if timeout(PROBE, peer.ask(&question, &bootstrap)).await.is_err() {
                    peer.health().failed();
                }
            });
        }
        group.ask(question, &bootstrap, deadline).await
    }

    /// One line per server, for operators: its address, failures in a row, smoothed time to an answer.
    pub fn states(&self) -> Vec<(Upstream, String, u32, Option<Duration>)> {
        let groups = [(Upstream::Public, &self.public), (Upstream::Vpc, &*self.vpc)].into_iter();
        let zones = self.zones.iter().enumerate().map(|(position, zone)| (Upstream::Zone(position), zone));
        groups
            .chain(zones)
            .flat_map(|(upstream, group)| group.peers().iter().map(move |peer| (upstream, peer)))
            .map(|(upstream, peer)| {
                let health = peer.health().clone();
                (upstream, peer.server().to_string(), health.failures(), health.smoothed())
            })
            .collect()
    }
}

/// Looks a server's own name up through the VPC group, which must not have names of its own to look up.
fn bootstrap(vpc: Arc<Group>, question: Question) -> BootstrapAnswer {
    Box::pin(async move {
        let nobody = |_| -> BootstrapAnswer { Box::pin(async { Err(AskError::NoServer) }) };
        vpc.ask(&question, &nobody, Instant::now() + BOOTSTRAP).await
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The platform's roots and the extra ones.
fn client_config(extra_roots: &[PathBuf]) -> Result<rustls::ClientConfig, UpstreamsError> {
    let tls = |error: rustls::Error| UpstreamsError::Tls(error.to_string());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(tls)?;
    if extra_roots.is_empty() {
        return match builder.with_platform_verifier() {
            Ok(builder) => Ok(builder.with_no_client_auth()),
            Err(error) => {
                // Plain servers may be enough; the encrypted ones will refuse to be trusted, one by one.
                tracing::warn!("no roots to trust encrypted upstreams by ({error}): install ca-certificates");
                no_roots()
            }
        };
    }
    let mut roots: Vec<CertificateDer<'static>> = Vec::new();
    for path in extra_roots {
        let unreadable = |reason: String| UpstreamsError::Roots { path: path.clone(), reason };
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unreadable("no certificate in it".to_owned()));
        }
        roots.extend(certificates);
    }
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, provider()).map_err(tls)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Trusts nobody: for planes without an encrypted upstream, and where there is no trust store.
fn no_roots() -> Result<rustls::ClientConfig, UpstreamsError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| UpstreamsError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}
