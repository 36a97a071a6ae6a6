//! A TLS server that stands for an API Gateway entrance: 200 for the Hosts it serves, API Gateway's 403 for all others.
//!
//! `world` runs two, the interface endpoint and the public gateway; integration tests point forwarders at more.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::replies::Replies;

/// Connections served at once on one address; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 32;
/// Patience for a TLS handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// No connection lives longer; a demo has no long calls.
const MAX_LIFE: Duration = Duration::from_secs(60);

/// A running gate. Dropping it ends its tasks and connections.
#[derive(Debug)]
pub struct Gate {
    _tasks: JoinSet<()>,
}

impl Gate {
    /// Serves `hosts` on all of `listeners`. `label` is what the 200 calls this gate.
    ///
    /// # Errors
    /// The replies could not be prepared.
    pub async fn start(
        label: &'static str,
        listeners: Vec<TcpListener>,
        tls: Arc<ServerConfig>,
        hosts: &[&str],
    ) -> io::Result<Self> {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let service = Arc::new(Service { label, hosts, replies: Replies::new().await? });
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept(listener, TlsAcceptor::from(tls.clone()), service.clone()));
        }
        Ok(Self { _tasks: tasks })
    }
}

/// Takes connections until it is dropped, and its connections with it.
async fn accept(listener: TcpListener, tls: TlsAcceptor, service: Arc<Service>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    // The semaphore is never closed, so the loop ends with the task only.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = serve(stream, peer, tls.clone(), service.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    let _ = timeout(MAX_LIFE, connection).await;
                });
            }
            // Out of file descriptors, most likely: trying again at once would only burn the processor.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One connection, from handshake to close.
async fn serve(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, service: Arc<Service>) {
    let stream = match timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
        Err(_) => return tracing::debug!(%peer, "no TLS in time"),
    };
    let answer = service_fn(|request| {
        let reply = service.answer(&request);
        async move { Ok::<_, Infallible>(reply) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        // For the one header that hyper adds by itself, Date; the others keep the case of the template.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

/// What a gate knows.
#[derive(Debug)]
struct Service {
    label: &'static str,
    hosts: BTreeSet<String>,
    replies: Replies,
}

impl Service {
    fn answer(&self, request: &Request<Incoming>) -> Response<http_body_util::Full<bytes::Bytes>> {
        match self.api(request) {
            Some(host) => self.replies.ok(serde_json::json!({
                "message": format!("Hello from {host}"),
                "through": self.label,
                "path": request.uri().path(),
            })
            .to_string()),
            None => self.replies.forbidden(),
        }
    }

    /// The served host that a request is for. As on a real endpoint the TLS name plays no part, and the API id in
    /// `x-apigw-api-id` beats the Host.
    fn api(&self, request: &Request<Incoming>) -> Option<&String> {
        if let Some(id) = request.headers().get("x-apigw-api-id") {
            let id = id.to_str().ok()?;
            return self.hosts.iter().find(|host| host.split('.').next() == Some(id));
        }
        let host = request.headers().get(header::HOST)?.to_str().ok()?.to_ascii_lowercase();
        let host = host.rsplit_once(':').map_or(host.as_str(), |(name, _port)| name);
        self.hosts.get(host.strip_suffix('.').unwrap_or(host))
    }
}
