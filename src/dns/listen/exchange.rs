//! One exchange of DNS over HTTPS (RFC 8484): the message in a request, the response around a reply.

use std::pin::pin;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use crate::dns::encrypted;
use crate::dns::query::MAX_QUERY;

/// The path of the URI template `https://.../dns-query{?dns}`.
const PATH: &str = "/dns-query";
const MESSAGE: &str = "application/dns-message";
/// Patience for the body of a POST.
const BODY: Duration = Duration::from_secs(5);

/// A request without a message in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoMessage {
    Path,
    Method,
    Parameter,
    MediaType,
    TooLong,
    TooSlow,
    /// What is there is a reply, or too short to be a query.
    NoQuery,
}

impl NoMessage {
    fn words(self) -> (StatusCode, &'static str) {
        match self {
            Self::Path => (StatusCode::NOT_FOUND, "there is /dns-query\n"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n"),
            Self::Parameter => {
                (StatusCode::BAD_REQUEST, "GET takes ?dns= and a message in base64url without padding\n")
            }
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "POST takes application/dns-message\n"),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "a query has 4096 octets at most\n"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the message did not come in time\n"),
            Self::NoQuery => (StatusCode::BAD_REQUEST, "this is no DNS query\n"),
        }
    }
}

/// The message of a request.
///
/// # Errors
/// Why there is none.
pub(super) async fn message<B: Body<Data = Bytes>>(request: Request<B>) -> Result<Bytes, NoMessage> {
    if request.uri().path() != PATH {
        return Err(NoMessage::Path);
    }
    if request.method() == Method::GET {
        let parameters = request.uri().query().unwrap_or_default().split('&');
        let encoded = parameters.filter_map(|parameter| parameter.strip_prefix("dns=")).next();
        let decoded = encoded.and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
        let message = decoded.map(Bytes::from).ok_or(NoMessage::Parameter)?;
        return if message.len() > MAX_QUERY { Err(NoMessage::TooLong) } else { Ok(message) };
    }
    if request.method() != Method::POST {
        return Err(NoMessage::Method);
    }
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(MESSAGE) {
        return Err(NoMessage::MediaType);
    }
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_QUERY as u64) {
        return Err(NoMessage::TooLong);
    }
    timeout(BODY, whole(request.into_body())).await.unwrap_or(Err(NoMessage::TooSlow))
}

/// A body's bytes, copied: a frame of a single octet holds the whole buffer that it was read into.
async fn whole<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, NoMessage> {
    let mut body = pin!(body);
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| NoMessage::NoQuery)?;
        let data = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
        if whole.len() + data.len() > MAX_QUERY {
            return Err(NoMessage::TooLong);
        }
        whole.extend_from_slice(data);
    }
    Ok(whole.into())
}

/// The response around a reply, whatever that says (RFC 8484 section 4.2.1). It may be kept for as long as its records.
pub(super) fn response(reply: Vec<u8>) -> Response<Full<Bytes>> {
    let max_age = format!("max-age={}", encrypted::max_age(&reply));
    let mut response = Response::new(Full::new(Bytes::from(reply)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE));
    if let Ok(max_age) = HeaderValue::from_str(&max_age) {
        response.headers_mut().insert(CACHE_CONTROL, max_age);
    }
    response
}

/// The response to a request without a message.
pub(super) fn refusal(why: NoMessage) -> Response<Full<Bytes>> {
    let (status, words) = why.words();
    let mut response = Response::new(Full::new(Bytes::from_static(words.as_bytes())));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if why == NoMessage::Method {
        fields.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    async fn outcome(method: &str, target: &str, media_type: &str, body: &[u8]) -> Result<Bytes, NoMessage> {
        let request = Request::builder().method(method).uri(target).header(CONTENT_TYPE, media_type);
        message(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await
    }

    #[tokio::test]
    async fn a_message_comes_in_the_query_of_a_get_or_in_the_body_of_a_post() {
        assert_eq!(outcome("GET", "/dns-query?dns=AAEC_w", "", b"").await.unwrap(), [0, 1, 2, 0xff][..]);
        assert_eq!(outcome("GET", "/dns-query?a=b&dns=AAEC_w&c", "", b"").await.unwrap(), [0, 1, 2, 0xff][..]);
        for media_type in [MESSAGE, "Application/DNS-Message ; x=y"] {
            assert_eq!(outcome("POST", "/dns-query", media_type, b"query").await.unwrap(), b"query"[..]);
        }
    }

    #[tokio::test]
    async fn what_is_no_exchange_is_told_why() {
        let long = vec![0; MAX_QUERY + 1];
        let long_get = format!("/dns-query?dns={}", URL_SAFE_NO_PAD.encode(&long));
        for (method, target, media_type, body, why) in [
            ("GET", "/", "", &b""[..], NoMessage::Path),
            ("GET", "/dns-query/", "", b"", NoMessage::Path),
            ("GET", "/dns-query", "", b"", NoMessage::Parameter),
            ("GET", "/dns-query?dns=AAEC_w==", "", b"", NoMessage::Parameter),
            ("GET", "/dns-query?dns=AA+C/w", "", b"", NoMessage::Parameter),
            ("PUT", "/dns-query", MESSAGE, b"query", NoMessage::Method),
            ("HEAD", "/dns-query?dns=AAEC_w", "", b"", NoMessage::Method),
            ("POST", "/dns-query", "", b"query", NoMessage::MediaType),
            ("POST", "/dns-query", "application/json", b"{}", NoMessage::MediaType),
            ("POST", "/dns-query", MESSAGE, &long, NoMessage::TooLong),
            ("GET", &long_get, "", b"", NoMessage::TooLong),
        ] {
            assert_eq!(outcome(method, target, media_type, body).await, Err(why), "{method} {target}");
        }
        assert_eq!(outcome("POST", "/dns-query", MESSAGE, &long[1..]).await.unwrap().len(), MAX_QUERY);
    }

    /// A piece of a body, as it lies in the buffer it was read into.
    struct Piece {
        _buffer: Arc<()>,
    }

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_in_single_octets_does_not_hold_the_buffers_they_lie_in() {
        let buffers = Arc::new(());
        let pieces = stream::iter(0..100).map(|_| {
            assert!(Arc::strong_count(&buffers) <= 2, "one piece at a time");
            Ok::<_, Infallible>(Frame::data(Bytes::from_owner(Piece { _buffer: Arc::clone(&buffers) })))
        });
        let request = Request::post("/dns-query").header(CONTENT_TYPE, MESSAGE);
        assert_eq!(message(request.body(StreamBody::new(pieces)).unwrap()).await.unwrap(), [b'x'; 100][..]);
    }
}
