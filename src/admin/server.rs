//! The admin listener: `/startup`, `/ready`, `/live` and `/metrics` for every client; the page, what it shows, `POST /reload`,
//! `POST /drain` and `POST /quitquitquit` for this host only.
//!
//! [`Gate`] says who may ask what.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

use super::gate::Gate;
use super::readiness::{DRAINING, Readiness, State};
use super::{page, route_query};
use crate::policy::HostName;

/// Connections served at a time; beyond that the oldest goes, so that a probe is never kept waiting.
const MAX_CONNECTIONS: usize = 64;
/// A request head must be there within this.
const HEAD: Duration = Duration::from_secs(5);
/// A connection lives no longer.
const CONNECTION: Duration = Duration::from_secs(30);
/// A request head is no larger, in octets.
const MAX_HEAD: usize = 16 * 1024;

const JSON: &str = "application/json";

/// Ends the process, as SIGTERM does.
const QUIT: &str = "/quitquitquit";
/// What is asked for by POST, and by nothing else.
const CHANGES: [&str; 3] = ["/reload", "/drain", QUIT];
/// What whoever asks for anything else is told.
const PATHS: &str = "there are /, /startup, /ready, /live, /metrics, /status, /decisions, /route?name=NAME and \
                     POST /reload, /drain, /quitquitquit\n";

/// Asks every listener of the resolver whether it is alive; the error is in words for an operator.
pub type Liveness = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Reads the configuration again and changes to it.
pub type Reload = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), NotReloaded>> + Send>> + Send + Sync>;

/// Why everything is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// The configuration is wrong or cannot be changed to; all that is to be corrected.
    #[error("{0}")]
    Refused(String),
    /// Not looked at: ask again later.
    #[error("{0}")]
    NotNow(&'static str),
}

/// What is told and done; `app` knows how.
#[derive(Clone)]
pub struct Answers {
    pub readiness: Readiness,
    pub liveness: Liveness,
    /// All that is known, as JSON.
    pub status: Arc<dyn Fn() -> String + Send + Sync>,
    /// Which way a name goes and why, as JSON.
    pub route: Arc<dyn Fn(&HostName) -> String + Send + Sync>,
    /// The last decisions, as JSON. Asking has more of them kept.
    pub decisions: Arc<dyn Fn() -> String + Send + Sync>,
    /// All that is counted, in the Prometheus text format 0.0.4.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub reload: Reload,
    /// Cancelled once `POST /quitquitquit` has been answered.
    pub quit: CancellationToken,
}

/// The listener, bound.
pub struct Server {
    listener: TcpListener,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    gate: watch::Receiver<Gate>,
    answers: Answers,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("readiness", &self.readiness).finish_non_exhaustive()
    }
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
    pub fn bind(address: SocketAddr, gate: watch::Receiver<Gate>, answers: Answers) -> io::Result<Self> {
        Self::on(TcpListener::bind(address)?, gate, answers)
    }

    /// As [`Server::bind`], with a socket that listens already.
    ///
    /// # Errors
    /// The system's.
    pub fn on(listener: TcpListener, gate: watch::Receiver<Gate>, answers: Answers) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, shared: Shared { gate, answers } })
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
            if !self.shared.gate.borrow().admits_client(client) {
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
                let _ = timeout(CONNECTION, connection(stream, client, &shared)).await;
            });
            open.push_back(connection.abort_handle());
        }
    }
}

async fn connection(stream: TcpStream, client: SocketAddr, shared: &Shared) -> hyper::Result<()> {
    // Goes with the connection, however that ends: after the answer was sent, or when it cannot be any more.
    let quit = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let quit = &quit;
        async move {
            let answer = shared.answer(&request, client).await;
            if request.uri().path() == QUIT && answer.status() == StatusCode::OK {
                *quit.lock().unwrap_or_else(PoisonError::into_inner) = Some(shared.answers.quit.clone().drop_guard());
            }
            Ok::<_, Infallible>(answer)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Shared {
    async fn answer(&self, request: &Request<Incoming>, client: SocketAddr) -> Response<Full<Bytes>> {
        let Answers { readiness, liveness, status, route, decisions, metrics, reload, quit: _ } = &self.answers;
        if let Err(why) = self.gate.borrow().admits(request, client) {
            return text(StatusCode::FORBIDDEN, format!("{why}\n"));
        }
        let path = request.uri().path();
        let allowed = if CHANGES.contains(&path) { &[Method::POST][..] } else { &[Method::GET, Method::HEAD] };
        if !allowed.contains(request.method()) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, format!("{} only\n", allowed[0]));
            refusal.headers_mut().insert(
                header::ALLOW,
                header::HeaderValue::from_static(match allowed {
                    [Method::POST] => "POST",
                    _ => "GET, HEAD",
                }),
            );
            return refusal;
        }
        match path {
            "/startup" if readiness.is_bound() => text(StatusCode::OK, "started\n"),
            "/startup" => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            "/ready" => match readiness.state() {
                State::Ready => text(StatusCode::OK, "ready\n"),
                State::Draining => text(StatusCode::SERVICE_UNAVAILABLE, format!("{DRAINING}\n")),
                State::Pending(pending) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("pending: {}\n", pending.join(", ")))
                }
            },
            "/live" => match liveness().await {
                Ok(()) => text(StatusCode::OK, "alive\n"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            "/" => page::response(),
            "/status" => answer(StatusCode::OK, JSON, status()),
            "/decisions" => answer(StatusCode::OK, JSON, decisions()),
            "/route" => match route_query::name(request.uri().query()) {
                Ok(name) => answer(StatusCode::OK, JSON, route(&name)),
                Err(why) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
            },
            "/metrics" => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics()),
            "/reload" => match reload().await {
                Ok(()) => text(StatusCode::OK, "reloaded\n"),
                Err(refusal) => {
                    let status = match refusal {
                        NotReloaded::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
                        NotReloaded::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
                    };
                    text(status, format!("{refusal}\n"))
                }
            },
            "/drain" => {
                readiness.drain();
                text(StatusCode::OK, "draining: /ready says no, all is served\n")
            }
            QUIT => {
                readiness.drain();
                text(StatusCode::OK, "ending\n")
            }
            _ => text(StatusCode::NOT_FOUND, PATHS),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

/// Nothing is kept by whoever asked, taken for another type, or shown within another site's page: names that strangers
/// chose are in it.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
