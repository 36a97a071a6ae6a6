//! One request and its answer over a connection to a server, in HTTP/2.
//!
//! `forward` calls it for what HTTP/2 can carry unchanged ([`carried`]); the rest goes out in HTTP/1.1.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Uri};
use tokio::time::timeout;

use super::fields;
use super::framing;
use super::message::{Body, BodyError, Request, Response};
use super::multiplexed::Http2;
use super::outbound::RESPONSE;
use crate::forward::head::{Field, ResponseHead, Version};
use crate::forward::refusal::{Cause, Refusal};

/// Why there is no answer.
pub(super) enum Unanswered {
    /// Nothing of the request was sent: here is its body.
    Unsent(Body),
    Failed(Refusal),
}

/// The head of a request in HTTP/2, with the names in lower case, if that changes no other byte of it.
pub(super) fn carried(request: &Request, authority: &[u8]) -> Option<hyper::Request<()>> {
    let uri = Uri::builder().scheme("https").authority(authority).path_and_query(&request.target[..]).build().ok()?;
    let unchanged = uri.authority().is_some_and(|carried| carried.as_str().as_bytes() == authority)
        && uri.path_and_query().is_some_and(|carried| carried.as_str().as_bytes() == request.target)
        && request.target.starts_with(b"/");
    if !unchanged || request.upgrade.is_some() {
        return None;
    }
    let mut carried = hyper::Request::new(());
    *carried.uri_mut() = uri;
    *carried.method_mut() = Method::from_bytes(&request.method).ok()?;
    let headers = carried.headers_mut();
    for field in request.fields.iter().filter(|field| !field.is("host")) {
        headers.append(HeaderName::from_bytes(&field.name).ok()?, HeaderValue::from_bytes(&field.value).ok()?);
    }
    if request.trailers {
        headers.insert(hyper::header::TE, HeaderValue::from_static("trailers"));
    }
    Some(carried)
}

/// Sends the request and reads the answer's head.
///
/// # Errors
/// There is no answer.
pub(super) async fn exchange(
    mut connection: Http2,
    head: hyper::Request<()>,
    request: Body,
) -> Result<Response, Unanswered> {
    let method = Bytes::copy_from_slice(head.method().as_str().as_bytes());
    let body = if request.is_end_stream() {
        request
    } else {
        Body::new(Sent { body: request, _user: Arc::clone(&connection.user) })
    };
    let response = match timeout(RESPONSE, connection.sender.try_send_request(head.map(|()| body))).await {
        Ok(Ok(response)) => response,
        Ok(Err(mut unsent)) => {
            return Err(match unsent.take_message() {
                Some(request) => Unanswered::Unsent(request.into_body()),
                None => Unanswered::Failed(failure(unsent.error())),
            });
        }
        Err(_) => {
            let late = Refusal::new(Cause::ResponseTimeout, "the server did not answer in time");
            return Err(Unanswered::Failed(late));
        }
    };
    let (head, body) = response.into_parts();
    let body = if body.is_end_stream() { Body::empty() } else { Body::new(Answered { body, _connection: connection }) };
    let reason = Bytes::from_static(head.status.canonical_reason().unwrap_or_default().as_bytes());
    let (status, fields) = (head.status.as_u16(), fields_of(&head.headers));
    // A client in HTTP/1.1 would go by the length it says.
    let head = ResponseHead { version: Version::Http11, status, reason, fields };
    framing::of_response(&method, &head).map_err(Unanswered::Failed)?;
    Ok(Response { status, reason: head.reason, fields: fields::of_response(head.fields), body })
}

/// The fields of a head in HTTP/2, those of one name together.
pub(super) fn fields_of(headers: &HeaderMap) -> Vec<Field> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| Field {
        name: Bytes::copy_from_slice(name.as_str().as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    headers.iter().map(field).collect()
}

/// Whether a field says that the body is sent when it is asked for.
pub(super) fn expects(field: &Field) -> bool {
    field.is("expect") && field.value.eq_ignore_ascii_case(b"100-continue")
}

fn failure(error: &hyper::Error) -> Refusal {
    let why = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new(Cause::BadResponse, format!("there is no answer of the server's: {error}{why}"))
}

/// The body of an answer; its connection counts it until it is over.
struct Answered {
    body: Incoming,
    _connection: Http2,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(BodyError::Http2)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// The body of a request; its connection counts it until it is over, though the answer may be over before.
struct Sent {
    body: Body,
    _user: Arc<()>,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &'static str) -> Request {
        Request {
            method: Bytes::from_static(b"GET"),
            target: Bytes::from_static(target.as_bytes()),
            fields: vec![
                Field { name: Bytes::from_static(b"Host"), value: Bytes::from_static(b"a.example") },
                Field { name: Bytes::from_static(b"X-B"), value: Bytes::from_static(b"1") },
            ],
            body: Body::empty(),
            upgrade: None,
            trailers: true,
        }
    }

    #[test]
    fn only_what_changes_no_byte_goes_out_in_http2() {
        for target in ["/", "/a%2Fb//c/../d?q=%20&q&&", "/?", "/a?b?c=\u{e4}"] {
            let head = carried(&request(target), b"a.example").unwrap();
            assert_eq!(head.uri().path_and_query().unwrap().as_str(), target);
        }
        for target in ["*", "/a#b", "/a?b#c"] {
            assert!(carried(&request(target), b"a.example").is_none(), "{target}");
        }
        assert!(carried(&request("/"), b"a b").is_none());
        let upgrade = Request { upgrade: Some(Bytes::from_static(b"websocket")), ..request("/") };
        assert!(carried(&upgrade, b"a.example").is_none());
    }

    #[test]
    fn the_host_becomes_the_authority_and_the_rest_stays() {
        let head = carried(&request("/"), b"A.example:8443").unwrap();
        assert_eq!(head.uri().authority().unwrap(), "A.example:8443");
        let names: Vec<_> = head.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-b", "te"]);
    }
}
