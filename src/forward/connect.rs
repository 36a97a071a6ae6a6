//! The entrance for `HTTPS_PROXY`: HTTP CONNECT (RFC 9110 section 9.3.6), after which the TLS is the client's own.
//!
//! HTTP/1.1 is read here; who begins with the preface of HTTP/2 is handed to `http2`.

mod http2;
mod http2_stream;
mod http2_tunnel;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::access::Record;
use super::alert::Alert;
use super::client_hello::HANDSHAKE;
use super::closing::{TurnedAway, say_and_close};
use super::destination::{Destination, DestinationError};
use super::dial::Dialled;
use super::head::{Head, HeadReader};
use super::permit::Entrance;
use super::refusal::{Cause, Refusal, answer};
use super::service::Connection;
use super::tunnel;

/// The head of a request is whole within this, counted from the start of the connection.
const HEAD: Duration = Duration::from_secs(10);
/// What a client of HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets that most heads fit in, and most ClientHellos behind them.
const USUAL: usize = 2048;
const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What a connection turned out to begin with.
enum Beginning {
    Http1(Head),
    Http2,
}

/// Serves one connection.
pub(super) async fn serve(mut client: TcpStream, connection: Connection) {
    let mut record = Record::new(Entrance::Connect, connection.client);
    let deadline = Instant::now() + HEAD;
    let mut buffer = BytesMut::with_capacity(USUAL);
    let stop = connection.place.close.clone();
    let begun = tokio::select! {
        begun = begin(&mut client, &mut buffer, deadline) => begun,
        () = stop.cancelled() => Err(TurnedAway::silently("stopped").into()),
    };
    let opened = match begun {
        // Few come here, and each connection would have room for it.
        Ok(Beginning::Http2) => return Box::pin(http2::serve(client, buffer.freeze(), connection, deadline)).await,
        Ok(Beginning::Http1(head)) => {
            connection.place.has_asked(std::time::Instant::now());
            tokio::select! {
                opened = open(&client, &head, &connection, &mut record) => opened.map_err(NotOpened::Refused),
                () = stop.cancelled() => Err(TurnedAway::silently("stopped").into()),
            }
        }
        Err(error) => Err(error),
    };
    let (reason, words) = match opened {
        Ok(dialled) => match client.write_all(CONNECTED).await {
            Ok(()) => {
                record.status = Some(200);
                tunnel::run(client, buffer, dialled, &connection, &mut record, &connection.place, Into::into).await
            }
            Err(_) => ("client_reset", None),
        },
        Err(NotOpened::Refused(refusal)) => {
            record.status = Some(refusal.cause.status());
            say_and_close(&mut client, &answer(&refusal)).await;
            (refusal.cause.label(), Some(refusal.words))
        }
        Err(NotOpened::Left(TurnedAway { reason, alert, words })) => {
            if let Some(alert) = alert {
                say_and_close(&mut client, &alert.record()).await;
            }
            (reason, words)
        }
    };
    connection.service().journal.finish(&record, reason, words.as_deref());
}

/// Why there is no tunnel.
enum NotOpened {
    /// The client is told.
    Refused(Refusal),
    /// It does not speak HTTP, or is not there any more.
    Left(TurnedAway),
}

impl From<Refusal> for NotOpened {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TurnedAway> for NotOpened {
    fn from(turned: TurnedAway) -> Self {
        Self::Left(turned)
    }
}

async fn begin(client: &mut TcpStream, buffer: &mut BytesMut, deadline: Instant) -> Result<Beginning, NotOpened> {
    let read = async {
        let mut reader = HeadReader::default();
        loop {
            match client.read_buf(buffer).await {
                Ok(0) => return Err(TurnedAway::silently("client_left").into()),
                Ok(_) => {}
                Err(_) => return Err(TurnedAway::silently("client_reset").into()),
            }
            if buffer.first() == Some(&HANDSHAKE) {
                let words = "the client speaks TLS to the proxy itself: write http://, not https://, in HTTPS_PROXY";
                let (reason, alert) = ("tls_to_proxy", Some(Alert::UNEXPECTED_MESSAGE));
                return Err(TurnedAway { reason, alert, words: Some(words.to_owned()) }.into());
            }
            let length = buffer.len().min(PREFACE.len());
            if buffer.get(..length) == PREFACE.get(..length) {
                if length == PREFACE.len() {
                    return Ok(Beginning::Http2);
                }
            } else if let Some(head) = reader.take(buffer)? {
                return Ok(Beginning::Http1(head));
            }
        }
    };
    timeout_at(deadline, read).await.unwrap_or_else(|_| {
        Err(Refusal::new(Cause::Slow, format!("no whole request came within {} s", HEAD.as_secs())).into())
    })
}

async fn open(
    client: &TcpStream,
    head: &Head,
    connection: &Connection,
    record: &mut Record,
) -> Result<Dialled, Refusal> {
    let destination = requested(head)?;
    let service = connection.service();
    service.router.dialer.refuse_ourselves(client, connection.client)?;
    service.router.connect(Entrance::Connect, destination, record).await
}

/// Where a request wants to go.
///
/// # Errors
/// Anything but a CONNECT without a body, to one name, whichever of its two places one looks at.
pub fn requested(head: &Head) -> Result<Destination, Refusal> {
    if head.method != "CONNECT" {
        return Err(not_connect(&head.target));
    }
    // Neither means anything here, and whoever reads it otherwise would take the tunnel's first bytes for a body.
    if head.values("content-length").next().is_some() || head.values("transfer-encoding").next().is_some() {
        return Err(Refusal::new(
            Cause::BadRequest,
            "CONNECT has no body: leave Content-Length and Transfer-Encoding out",
        ));
    }
    let host = head.single("host")?.map(|host| text(host)).transpose()?;
    target(text(&head.target)?, host)
}

/// The destination, if the two places that name it agree; a Host may leave the port out.
fn target(authority: &str, host: Option<&str>) -> Result<Destination, Refusal> {
    let destination = Destination::of_connect(authority).map_err(|error| unreadable(authority, &error))?;
    if let Some(host) = host.filter(|host| *host != authority) {
        let other = Destination::of_host_header(host, destination.port).map_err(|error| unreadable(host, &error))?;
        if other.host != destination.host {
            let words = format!("CONNECT names {}, Host names {}", destination.host, other.host);
            return Err(Refusal::new(Cause::Mismatch, words));
        }
    }
    Ok(destination)
}

fn unreadable(authority: &str, error: &DestinationError) -> Refusal {
    let cause = if *error == DestinationError::Address { Cause::AddressLiteral } else { Cause::BadRequest };
    Refusal::new(cause, format!("{}: {error}", authority.escape_default()))
}

fn text(value: &Bytes) -> Result<&str, Refusal> {
    std::str::from_utf8(value).map_err(|_| Refusal::new(Cause::BadRequest, "a host name is ASCII"))
}

/// What to do instead, for who takes this entrance for a web server or for a proxy of plain HTTP.
fn not_connect(target: &[u8]) -> Refusal {
    let words = if target.to_ascii_lowercase().starts_with(b"http://") {
        "this proxy tunnels TLS only: call the API by https://, or send plain HTTP to a forward.http listener"
    } else {
        "this is a proxy for HTTPS, by CONNECT: set HTTPS_PROXY to this address and call the API by its own https:// URL"
    };
    Refusal::new(Cause::NotSupported, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_and_host_must_name_the_same() {
        let cause = |authority, host| target(authority, host).map_err(|refusal| refusal.cause).map(|d| d.to_string());
        let good = Ok("api.example.com:443".to_owned());
        for host in [None, Some("api.example.com:443"), Some("API.example.com"), Some("api.example.com.:80")] {
            assert_eq!(cause("api.example.com:443", host), good, "{host:?}");
        }
        assert_eq!(cause("api.example.com:443", Some("other.example.com:443")), Err(Cause::Mismatch));
        assert_eq!(cause("api.example.com:443", Some("127.0.0.1:3128")), Err(Cause::AddressLiteral));
        assert_eq!(cause("169.254.169.254:443", None), Err(Cause::AddressLiteral));
        assert_eq!(cause("https://api.example.com", None), Err(Cause::BadRequest));
    }

    #[test]
    fn plain_http_is_told_what_to_do_instead() {
        assert!(not_connect(b"HTTP://api.example.com/").words.contains("by https://"));
        assert!(not_connect(b"/health").words.contains("HTTPS_PROXY"));
    }
}
