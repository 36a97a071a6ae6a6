//! What API Gateway answers, header for header: the 403 for a name that a gate does not serve, and a 200 in its manner.
//!
//! `gate` makes one [`Replies`] at start and takes every reply from it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;

use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The reply to a Host that a gate does not serve, byte for byte but for the two ids.
const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\n\
    Server: Server\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 23\r\n\
    x-amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\n\
    x-amzn-ErrorType: ForbiddenException\r\n\
    x-amz-apigw-id: AAAAAAAAAAAAAAA=\r\n\
    \r\n\
    {\"message\":\"Forbidden\"}";
const FORBIDDEN_BODY: &str = "{\"message\":\"Forbidden\"}";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const GATEWAY_ID: HeaderName = HeaderName::from_static("x-amz-apigw-id");

/// The heads of replies, in the spelling of the real service.
#[derive(Debug)]
pub(super) struct Replies {
    forbidden: Response<()>,
}

impl Replies {
    /// Reads the template with hyper's own client. A reply made from what it read keeps the case of every header name,
    /// which hyper remembers beside the headers and gives no other way to set.
    ///
    /// # Errors
    /// Never in practice: the template is a constant, and a test reads it.
    pub(super) async fn new() -> io::Result<Self> {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(near))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        let reply = sender.send_request(Request::new(Empty::<Bytes>::new()));
        let template = async {
            // Hyper takes a reply that comes before its request for an error.
            far.read_u8().await?;
            far.write_all(FORBIDDEN).await
        };
        let (reply, sent) = tokio::join!(reply, template);
        sent?;
        Ok(Self { forbidden: reply.map_err(io::Error::other)?.map(drop) })
    }

    /// The 403 of a gate that does not know the Host.
    pub(super) fn forbidden(&self) -> Response<Full<Bytes>> {
        self.reply(FORBIDDEN_BODY.to_owned())
    }

    /// A 200 with a JSON text, in the same manner.
    pub(super) fn ok(&self, json: String) -> Response<Full<Bytes>> {
        let mut reply = self.reply(json);
        *reply.status_mut() = StatusCode::OK;
        reply.headers_mut().remove(ERROR_TYPE);
        reply
    }

    fn reply(&self, body: String) -> Response<Full<Bytes>> {
        let mut reply = self.forbidden.clone().map(|()| Full::new(Bytes::new()));
        let headers = reply.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(REQUEST_ID, fresh(&request_id(random(), random())));
        headers.insert(GATEWAY_ID, fresh(&gateway_id(random(), random())));
        *reply.body_mut() = Full::new(Bytes::from(body));
        reply
    }
}

/// An id as a header value; ids are hexadecimal or base64, so the fallback is never used.
fn fresh(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""))
}

/// A random UUID, version 4.
fn request_id(high: u64, low: u64) -> String {
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0x0fff);
    let (d, e) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{a:08x}-{b:04x}-4{c:03x}-{d:04x}-{e:012x}")
}

/// Eleven random bytes in base64, the shape of `x-amz-apigw-id`.
fn gateway_id(high: u64, low: u64) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u128::from(high) << 64 | u128::from(low);
    // 88 bits are fourteen sextets and four bits more, which the last character holds at its upper end.
    let sextets = (0..15).map(|at| (bits >> (6 * at)) as usize & if at == 14 { 0x3c } else { 0x3f });
    sextets.map(|sextet| char::from(ALPHABET[sextet])).chain(['=']).collect()
}

/// A number that differs from call to call. Ids here need not be unpredictable, so the standard library's keys will do.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_template_is_read_as_it_stands() {
        let reply = Replies::new().await.unwrap().forbidden();
        assert_eq!(reply.status(), StatusCode::FORBIDDEN);
        let names: Vec<&str> = reply.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(
            names,
            ["server", "content-type", "content-length", "x-amzn-requestid", "x-amzn-errortype", "x-amz-apigw-id"]
        );
        assert!(FORBIDDEN.ends_with(FORBIDDEN_BODY.as_bytes()));
    }

    #[test]
    fn ids_have_the_shape_of_api_gateways_own() {
        assert_eq!(request_id(u64::MAX, u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(request_id(0, 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(gateway_id(0, 0), "AAAAAAAAAAAAAAA=");
        assert_eq!(gateway_id(u64::MAX, u64::MAX), "//////////////8=");
    }

    #[tokio::test]
    async fn every_reply_has_ids_of_its_own() {
        let replies = Replies::new().await.unwrap();
        let id = || replies.forbidden().headers()[REQUEST_ID].clone();
        assert_ne!(id(), id());
    }
}
