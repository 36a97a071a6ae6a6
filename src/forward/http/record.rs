//! What became of one request: all that the access log says about it, in one place.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::Instant;

use super::body::{Tally, Watched};
use super::message::{Body, BodyError};
use crate::forward::permit::Permit;
use crate::forward::refusal::Cause;
use crate::policy::{HostName, Rule};

/// Is told of every request when it is over.
pub type Report = Arc<dyn Fn(&Record) + Send + Sync>;

/// One request and its answer; reported when dropped.
pub struct Record {
    pub client: SocketAddr,
    /// What the request was for, if that could be read.
    pub host: Option<HostName>,
    /// [`crate::forward::Way::label`]
    pub way: Option<&'static str>,
    pub rule: Option<Rule>,
    /// Where the connection leads that was used.
    pub address: Option<SocketAddr>,
    /// The status that the client was given.
    pub status: Option<u16>,
    /// Why it did not get through.
    pub cause: Option<Cause>,
    pub started: Instant,
    /// Whether the answer was passed on to its end.
    pub complete: bool,
    pub(super) up: Arc<Tally>,
    pub(super) down: Arc<Tally>,
    report: Report,
}

impl Record {
    pub(super) fn new(client: SocketAddr, report: Report) -> Self {
        Self {
            client,
            host: None,
            way: None,
            rule: None,
            address: None,
            status: None,
            cause: None,
            started: Instant::now(),
            complete: false,
            up: Arc::default(),
            down: Arc::default(),
            report,
        }
    }

    pub(super) fn permitted(&mut self, permit: &Permit) {
        (self.way, self.rule) = (Some(permit.way.label()), Some(permit.rule));
    }

    /// Bytes of the request's body that were passed on; with an upgrade, all that followed it.
    pub fn bytes_up(&self) -> u64 {
        self.up.bytes.load(Ordering::Relaxed)
    }

    /// As [`Record::bytes_up`], towards the client.
    pub fn bytes_down(&self) -> u64 {
        self.down.bytes.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("client", &self.client)
            .field("host", &self.host)
            .field("status", &self.status)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        (self.report)(self);
    }
}

/// The body of an answer, and the record that ends with it.
#[derive(Debug)]
pub(super) struct Recorded {
    pub body: Watched<Body>,
    pub record: Record,
    pub ended: bool,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.record.complete = self.ended || self.body.is_end_stream();
    }
}
