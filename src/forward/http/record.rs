//! What becomes of one request, in one place: its record goes to the journal when its answer is over, however it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};

use super::body::{Tally, Watched};
use super::forward::Client;
use super::message::{Body, BodyError};
use super::share::Share;
use crate::forward::access::{self, Journal};
use crate::forward::permit::Entrance;
use crate::forward::refusal::Refusal;

/// One request and its answer; in the journal when dropped.
pub(super) struct Record {
    /// What the access log says.
    pub access: access::Record,
    /// What of the request's body was passed on; with an upgrade, all that followed it.
    pub up: Arc<Tally>,
    /// The same towards the client.
    pub down: Arc<Tally>,
    /// How it ended, if that is known better than by its bodies.
    ending: Option<(&'static str, Option<String>)>,
    /// The answer was passed on to its end.
    complete: bool,
    journal: Arc<Journal>,
}

impl Record {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            access: access::Record::new(Entrance::Http, client.connection.client),
            up: Arc::default(),
            down: Arc::default(),
            ending: None,
            complete: false,
            journal: Arc::clone(&client.connection.service().journal),
        }
    }

    /// It got no answer of the server's.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.ending = Some((refusal.cause.label(), Some(refusal.words.clone())));
    }

    /// It ended for this reason, one of a bounded set.
    pub(super) fn ended(&mut self, reason: &'static str) {
        self.ending = Some((reason, None));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.access.up = self.up.bytes.load(Ordering::Relaxed);
        self.access.down = self.down.bytes.load(Ordering::Relaxed);
        let by_its_bodies = match self.down.failure.get() {
            _ if self.complete => ("finished", None),
            Some(failure) => ("upstream_reset", Some(failure.words.clone())),
            None => ("client_reset", None),
        };
        let (reason, words) = self.ending.take().unwrap_or(by_its_bodies);
        self.journal.finish(&self.access, reason, words.as_deref());
    }
}

/// The body of an answer, and the record that ends with it.
pub(super) struct Recorded {
    body: Watched<Body>,
    record: Record,
    /// Its place among the requests of its client.
    _share: Option<Share>,
    ended: bool,
}

impl Recorded {
    pub(super) fn new(body: Watched<Body>, record: Record, share: Option<Share>) -> Self {
        Self { body, record, _share: share, ended: false }
    }
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
