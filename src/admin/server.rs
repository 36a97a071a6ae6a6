//! The admin listener: `/startup`, `/ready`, `/live`.
//!
//! Who asks must be in `clients`, and must name a host that is an IP literal, localhost or in `admin.hosts`, so that no
//! web page can reach it by a name of its own (DNS rebinding).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::readiness::{Readiness, State};
use crate::policy::{HostName, Networks};

/// Connections served at a time; beyond that the oldest goes, so that a probe is never kept waiting.
const MAX_CONNECTIONS: usize = 64;
/// A request head must be there within this.
const HEAD: Duration = Duration::from_secs(5);
/// A connection lives no longer.
const CONNECTION: Duration = Duration::from_secs(30);
/// A request head is no larger, in octets.
const MAX_HEAD: usize = 16 * 1024;

/// Asks every listener of the resolver whether it is alive; the error is in words for an operator.
pub type Liveness = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The listener, bound.
pub struct Server {
    listener: TcpListener,
    shared: Shared,
}

/// Who may ask; a reload replaces it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    pub clients: Networks,
    /// Names that a Host header may carry beside IP literals and localhost.
    pub hosts: Vec<HostName>,
}

#[derive(Clone)]
struct Shared {
    gate: watch::Receiver<Gate>,
    readiness: Readiness,
    liveness: Liveness,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the address; serves nothing yet.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(
        address: SocketAddr,
        gate: watch::Receiver<Gate>,
        readiness: Readiness,
        liveness: Liveness,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, shared: Shared { gate, readiness, liveness } })
    }

    /// The address bound, with the port the system chose.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// Where the runtime cannot take the socket over.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, client)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if !self.shared.gate.borrow().clients.contains(client.ip()) {
                continue;
            }
            open.retain(|connection| !connection.is_finished());
            if open.len() >= MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let shared = self.shared.clone();
            let connection = tokio::spawn(async move {
                // How a connection ends concerns nobody but its client.
                let _ = timeout(CONNECTION, connection(stream, &shared)).await;
            });
            open.push_back(connection.abort_handle());
        }
    }
}

async fn connection(stream: TcpStream, shared: &Shared) -> hyper::Result<()> {
    let service =
        service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(shared.answer(&request).await) });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Shared {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.gate.borrow().admits_host(request) {
            return text(StatusCode::FORBIDDEN, "this Host is not known here: add it to admin.hosts\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        match request.uri().path() {
            "/startup" if self.readiness.is_bound() => text(StatusCode::OK, "started\n"),
            "/startup" => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            "/ready" => match self.readiness.state() {
                State::Ready => text(StatusCode::OK, "ready\n"),
                State::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
                State::Pending(pending) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("pending: {}\n", pending.join(", ")))
                }
            },
            "/live" => match (self.liveness)().await {
                Ok(()) => text(StatusCode::OK, "alive\n"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /startup, /ready and /live\n"),
        }
    }
}

impl Gate {
    fn admits_host(&self, request: &Request<Incoming>) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let Ok(authority) = host.to_str().unwrap_or_default().parse::<hyper::http::uri::Authority>() else {
            return false;
        };
        let host = authority.host().trim_matches(['[', ']']);
        host.parse::<IpAddr>().is_ok()
            || host.parse().is_ok_and(|name: HostName| name.to_string() == "localhost" || self.hosts.contains(&name))
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
