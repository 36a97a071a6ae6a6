//! Clients that speak HTTP/2, over TLS: hyper reads and writes it; here it is bounded, and made into the neutral form.

mod activity;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use self::activity::{Activity, Expected, Moving, Verdict};
use super::fields::is_of_the_connection;
use super::forward::{Client, Outcome, forward, refused};
use super::framing::{self, has_no_body};
use super::message::{Body, Request, Response};
use super::outbound_h2::{expects, fields_of};
use super::record::Record;
use crate::forward::head::{Field, MAX_FIELDS, Version};
use crate::forward::refusal::{Cause, Refusal};

/// Requests at a time on one connection.
const STREAMS: u32 = 100;
/// The largest head of a request.
const HEADER_LIST: u32 = 32 * 1024;
/// Bytes of a request that a client may send ahead of the server that takes it.
const STREAM_WINDOW: u32 = 64 * 1024;
/// As [`STREAM_WINDOW`], of all requests on a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait for the client.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that are taken back before we have seen them (CVE-2023-44487).
const RESETS: usize = 20;
/// Streams that we had to reset because of what the client did.
const ERRORS: usize = 128;
/// With requests under way, a silent client is asked this often whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(10);
/// How often a connection is looked at that may have nothing to do.
const TICK: Duration = Duration::from_secs(5);

/// Serves a connection until its end.
pub(super) async fn serve(stream: TlsStream<TcpStream>, client: Arc<Client>) {
    let activity = Arc::new(Activity::new(client.connection.listening.drain.begun.child_token()));
    let service = service_fn(|request| {
        client.connection.place.has_asked(std::time::Instant::now());
        let (client, activity) = (Arc::clone(&client), Arc::clone(&activity));
        activity.moved();
        async move { Ok::<_, Infallible>(answer(&client, request, activity).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(ERRORS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let (mut ticks, mut ending) = (tokio::time::interval(TICK), false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(client = %client.connection.client, %error, "a client's HTTP/2 ended");
                }
                return;
            }
            () = activity.flooded.cancelled() => {
                return tracing::debug!(client = %client.connection.client, "a client takes back what it asks for");
            }
            () = activity.last.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => match activity.verdict() {
                Verdict::Stalled => return,
                Verdict::Idle if ending => return,
                Verdict::Idle => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::Busy => {}
            },
        }
    }
}

async fn answer(
    client: &Client,
    request: hyper::Request<Incoming>,
    activity: Arc<Activity>,
) -> hyper::Response<Moving<Body>> {
    let method = Bytes::copy_from_slice(request.method().as_str().as_bytes());
    // Nobody listens: answers before the last one have no way through hyper.
    let interim = mpsc::channel(1).0;
    let mut expected = Expected::new(&activity);
    let response = match neutral(request, &activity) {
        Ok(request) => match forward(client, request, &interim).await {
            Outcome::Response(response) => response,
            Outcome::Switched(_, record) => refused(&no_upgrade(), record),
        },
        Err(refusal) => refused(&refusal, Record::new(client)),
    };
    expected.answered = true;
    if !client.is_welcome() {
        activity.last.cancel();
    }
    let mut answer = hyper::Response::new(());
    *answer.status_mut() = hyper::StatusCode::from_u16(response.status).unwrap_or(hyper::StatusCode::BAD_GATEWAY);
    for field in &response.fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&field.name), HeaderValue::from_bytes(&field.value)) {
            answer.headers_mut().append(name, value);
        }
    }
    let Response { body, status, .. } = response;
    let body = if has_no_body(&method, status) { Body::empty() } else { body };
    answer.map(|()| Moving::new(body, &activity))
}

fn no_upgrade() -> Refusal {
    Refusal::new(Cause::BadResponse, "the server changes the protocol, which nobody asked it to")
}

/// The request in the form that all codecs share.
fn neutral(request: hyper::Request<Incoming>, activity: &Arc<Activity>) -> Result<Request, Refusal> {
    let (head, body) = request.into_parts();
    let refuse = |words| Err(Refusal::new(Cause::BadRequest, words));
    if head.method == hyper::Method::CONNECT {
        return Err(Refusal::new(
            Cause::NotSupported,
            "CONNECT is served at forward.connect, over HTTP/1.1 or cleartext HTTP/2",
        ));
    }
    let mut hosts = head.headers.get_all(hyper::header::HOST).iter();
    let authority = head.uri.authority().map(|authority| Bytes::copy_from_slice(authority.as_str().as_bytes()));
    let host = match (authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return refuse("the request has Host twice"),
        (Some(authority), Some(host), None) if !authority.eq_ignore_ascii_case(host.as_bytes()) => {
            return refuse(":authority and Host name two servers");
        }
        (Some(authority), _, None) => authority,
        (None, Some(host), None) => Bytes::copy_from_slice(host.as_bytes()),
        (None, None, None) => return refuse("the request has no :authority"),
    };
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let is_path = target.starts_with('/') || (target == "*" && head.method == hyper::Method::OPTIONS);
    if !is_path {
        return refuse(":path is a path, like /stage/resource");
    }
    if head.headers.len() > MAX_FIELDS {
        return Err(Refusal::new(Cause::TooLong, format!("the request has more than {MAX_FIELDS} fields")));
    }
    let received = fields_of(&head.headers);
    // Its end is certain here, but not for a server that is told so in HTTP/1.1.
    framing::of_request(&received, Version::Http11)?;
    let trailers = head.headers.contains_key(hyper::header::TE);
    let passed = |field: &Field| !field.is("host") && !is_of_the_connection(field) && !expects(field);
    let mut fields = vec![Field { name: Bytes::from_static(b"Host"), value: host }];
    fields.extend(join_cookies(received).into_iter().filter(passed));
    Ok(Request {
        method: Bytes::copy_from_slice(head.method.as_str().as_bytes()),
        target: Bytes::copy_from_slice(target.as_bytes()),
        fields,
        body: if body.is_end_stream() { Body::empty() } else { Body::new(Moving::new(body, activity)) },
        upgrade: None,
        trailers,
    })
}

/// HTTP/2 may cut Cookie into several fields, which HTTP/1.1 has one of (RFC 9113 section 8.2.3).
fn join_cookies(fields: Vec<Field>) -> Vec<Field> {
    let mut joined: Vec<Field> = Vec::with_capacity(fields.len());
    for field in fields {
        match joined.iter_mut().find(|earlier| earlier.is("cookie")) {
            Some(cookie) if field.is("cookie") => {
                let mut value = BytesMut::from(&cookie.value[..]);
                value.put_slice(b"; ");
                value.put_slice(&field.value);
                cookie.value = value.freeze();
            }
            _ => joined.push(field),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_that_http2_has_cut_are_one_field_again() {
        let field = |name: &'static str, value: &'static str| Field { name: name.into(), value: value.into() };
        let cut = vec![field("cookie", "a=1"), field("x", "1"), field("cookie", "b=2"), field("x", "2")];
        assert_eq!(join_cookies(cut), [field("cookie", "a=1; b=2"), field("x", "1"), field("x", "2")]);
    }
}
