//! Requests and answers in the one form between the four codecs: HTTP/1.1 and HTTP/2, in and out.
//!
//! Fields keep their bytes and their order; bodies are streams that are read no faster than the other side takes them.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;

use crate::forward::head::Field;
use crate::forward::refusal::{Cause, Refusal};

/// A request, less what concerns the connection it came by.
#[derive(Debug)]
pub(super) struct Request {
    pub method: Bytes,
    /// As in the request line: a path with its query, or `*`.
    pub target: Bytes,
    pub fields: Vec<Field>,
    pub body: Body,
    /// The protocol the client wants to change to.
    pub upgrade: Option<Bytes>,
    /// The client understands trailers.
    pub trailers: bool,
}

/// An answer, less what concerns the connection it came by.
#[derive(Debug)]
pub(super) struct Response {
    pub status: u16,
    pub reason: Bytes,
    pub fields: Vec<Field>,
    pub body: Body,
}

impl Response {
    /// Says why there is no answer of the server's.
    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        let (status, reason, fields, body) = refusal.in_http();
        let field = |(name, value): (&'static str, String)| Field { name: name.into(), value: value.into() };
        Self {
            status,
            reason: reason.into(),
            fields: fields.map(field).into(),
            body: Body::new(http_body_util::Full::new(Bytes::from(body)).map_err(|never| match never {})),
        }
    }
}

/// An answer that is not the last one (RFC 9110 section 15.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interim {
    pub status: u16,
    pub reason: Bytes,
    pub fields: Vec<Field>,
}

/// The body of a message.
///
/// It says nothing about its length: libraries would add a field for it.
#[derive(Debug, Default)]
pub(super) struct Body(Option<UnsyncBoxBody<Bytes, BodyError>>);

impl Body {
    pub(super) fn new(body: impl hyper::body::Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self(Some(UnsyncBoxBody::new(body)))
    }

    pub(super) fn empty() -> Self {
        Self(None)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }
}

/// Why a body ends before its end.
#[derive(Debug)]
pub(super) enum BodyError {
    /// Not one byte came for too long.
    Stalled,
    /// The connection ended within it.
    Cut,
    Malformed(&'static str),
    Io(std::io::Error),
    Http2(hyper::Error),
    /// The request that this answers could not be read to its end.
    OfRequest,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Stalled => f.write_str("nothing came for too long"),
            BodyError::Cut => f.write_str("the connection ended within it"),
            BodyError::Malformed(words) => f.write_str(words),
            BodyError::Io(error) => error.fmt(f),
            BodyError::Http2(error) => error.fmt(f),
            BodyError::OfRequest => f.write_str("the request ended early"),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<hyper::Error> for BodyError {
    fn from(error: hyper::Error) -> Self {
        BodyError::Http2(error)
    }
}

impl From<&BodyError> for Refusal {
    /// What who sent such a body is told.
    fn from(error: &BodyError) -> Self {
        let cause = if matches!(error, BodyError::Stalled) { Cause::Slow } else { Cause::BadRequest };
        Refusal::new(cause, format!("the body could not be read: {error}"))
    }
}
