//! Asks a running Sidegate's admin listener: what `sidegate wait` and `sidegate health` do.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::readiness::DRAINING;
use crate::policy::as_seen_from_here;

/// An admin listener answers at once or not at all.
const WITHIN: Duration = Duration::from_millis(1500);
/// A reload may read long lists.
const RELOADED_WITHIN: Duration = Duration::from_secs(10);
/// Its answers are lines.
const MAX_BODY: usize = 64 * 1024;

/// Asks for a path such as `/ready`.
///
/// # Errors
/// Whatever is not 200, in words for an operator.
pub async fn ask(admin: SocketAddr, path: &str) -> Result<String, String> {
    wanted(path, request(admin, Method::GET, path, WITHIN).await?)
}

/// Returns if it is well: alive, and ready or taken out of service. Who drains serves on, and must not be killed for it.
///
/// # Errors
/// As [`ask`].
pub async fn is_well(admin: SocketAddr) -> Result<(), String> {
    ask(admin, "/live").await?;
    match request(admin, Method::GET, "/ready", WITHIN).await? {
        (StatusCode::SERVICE_UNAVAILABLE, body) if body == DRAINING => Ok(()),
        answer => wanted("/ready", answer).map(drop),
    }
}

/// Has it read its configuration again; what it could not take up is in the error.
///
/// # Errors
/// As [`ask`].
pub async fn reload(admin: SocketAddr) -> Result<String, String> {
    wanted("/reload", request(admin, Method::POST, "/reload", RELOADED_WITHIN).await?)
}

/// The body, where the status is 200.
fn wanted(path: &str, answer: (StatusCode, String)) -> Result<String, String> {
    match answer {
        (StatusCode::OK, body) => Ok(body),
        (_, body) => Err(format!("{path}: {body}")),
    }
}

async fn request(
    admin: SocketAddr,
    method: Method,
    path: &str,
    within: Duration,
) -> Result<(StatusCode, String), String> {
    let address = as_seen_from_here(admin);
    match timeout(within, fetch(address, method, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{address}{path}: {error}")),
        Err(_) => Err(format!("{address}{path}: no answer in time")),
    }
}

async fn fetch(
    address: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).trim_end().to_owned()))
}
