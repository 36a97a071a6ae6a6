//! Bodies that arrive over HTTP/1.1, and the watch over bodies that arrive any way.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::chunked::{Decoder, Piece};
use super::fields::clean_trailers;
use super::framing::Framing;
use super::message::BodyError;
use super::source::Source;
use crate::forward::refusal::Refusal;

/// The body that comes next on a connection.
#[derive(Debug)]
pub(super) struct Incoming {
    /// None once it was handed back.
    source: Option<Source>,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Decoder),
    UntilClose,
    Nothing,
    Broken,
}

impl Incoming {
    pub(super) fn new(source: Source, framing: Framing) -> Self {
        let rest = match framing {
            Framing::None | Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Decoder::default()),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self { source: Some(source), rest }
    }

    /// Whether it was read to its end.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// The connection, for what follows.
    pub(super) fn take_source(&mut self) -> Option<Source> {
        self.source.take()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        let Some(source) = &mut self.source else { return Poll::Ready(Ok(None)) };
        loop {
            let buffer = &mut source.buffer;
            match &mut self.rest {
                Rest::Nothing => return Poll::Ready(Ok(None)),
                Rest::Broken => return Poll::Ready(Err(BodyError::Cut)),
                Rest::Length(left) if !buffer.is_empty() => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    *left -= length as u64;
                    let data = buffer.split_to(length).freeze();
                    if *left == 0 {
                        self.rest = Rest::Nothing;
                    }
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Rest::UntilClose if !buffer.is_empty() => {
                    return Poll::Ready(Ok(Some(Frame::data(buffer.split().freeze()))));
                }
                Rest::Chunked(decoder) => match decoder.decode(buffer) {
                    Err(malformed) => return Poll::Ready(Err(BodyError::Malformed(malformed.0))),
                    Ok(Piece::Data(data)) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                    Ok(Piece::End(trailers)) => {
                        self.rest = Rest::Nothing;
                        return Poll::Ready(Ok(trailers.map(Frame::trailers)));
                    }
                    Ok(Piece::More) => {}
                },
                Rest::Length(_) | Rest::UntilClose => {}
            }
            if !ready!(source.poll_fill(cx)).map_err(BodyError::Io)? {
                match self.rest {
                    Rest::UntilClose => self.rest = Rest::Nothing,
                    _ => return Poll::Ready(Err(BodyError::Cut)),
                }
            }
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = ready!(self.poll_next(cx));
        if next.is_err() {
            self.rest = Rest::Broken;
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.is_complete()
    }
}

/// The body of a client's request, which hands the connection back: at its end, or where its reader lost interest.
#[derive(Debug)]
pub(super) struct Lent {
    body: Arc<Mutex<Option<Incoming>>>,
    /// None once it was handed back.
    back: Option<oneshot::Sender<Returned>>,
    complete: bool,
}

/// What is held against it. Dropping this closes the connection's reading half, whoever has the body: a task of the
/// other connection may hold it for as long as its server takes nothing.
#[derive(Debug)]
pub(super) struct Loan {
    body: Arc<Mutex<Option<Incoming>>>,
    returned: oneshot::Receiver<Returned>,
}

/// A connection after the body of a request.
#[derive(Debug)]
pub(super) struct Returned {
    pub source: Source,
    /// Whether another request follows here, or the rest of this one.
    pub complete: bool,
}

fn lock(body: &Mutex<Option<Incoming>>) -> MutexGuard<'_, Option<Incoming>> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lent {
    pub(super) fn new(source: Source, framing: Framing) -> (Self, Loan) {
        let (back, returned) = oneshot::channel();
        let incoming = Incoming::new(source, framing);
        let complete = incoming.is_complete();
        let body = Arc::new(Mutex::new(Some(incoming)));
        (Self { body: Arc::clone(&body), back: Some(back), complete }, Loan { body, returned })
    }

    fn hand_back(&mut self) {
        let source = lock(&self.body).take().and_then(|mut body| body.take_source());
        if let (Some(source), Some(back)) = (source, self.back.take()) {
            let _ = back.send(Returned { source, complete: self.complete });
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let called_back = self.back.as_mut().is_none_or(|back| back.poll_closed(cx).is_ready());
        match lock(&self.body).as_mut() {
            Some(body) if !called_back => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                self.complete = body.is_complete();
                Poll::Ready(frame)
            }
            _ if self.complete => Poll::Ready(None),
            _ => Poll::Ready(Some(Err(BodyError::Cut))),
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_body(cx));
        if self.complete || matches!(frame, Some(Err(_))) {
            self.hand_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.complete
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.hand_back();
    }
}

impl Loan {
    /// Ready when the connection is back; nothing where it never will be.
    pub(super) fn poll_returned(&mut self, cx: &mut Context<'_>) -> Poll<Option<Returned>> {
        self.returned.poll_unpin(cx).map(Result::ok)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        drop(lock(&self.body).take());
    }
}

/// A body that is given up when nothing comes for too long, and whose bytes are counted. Every body passes through one,
/// in either direction and whatever it came by: what must not trail it is dropped here.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    patience: Duration,
    later: Duration,
    /// Runs while somebody waits.
    waiting: Option<Pin<Box<Sleep>>>,
    tally: Arc<Tally>,
}

/// What became of a body.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What passed of it, in bytes.
    pub bytes: AtomicU64,
    /// Why there was no more; as its sender is told, if it is a request's.
    pub failure: OnceLock<Refusal>,
}

impl<B> Watched<B> {
    pub(super) fn new(body: B, patience: Duration, tally: Arc<Tally>) -> Self {
        Self { body, patience, later: patience, waiting: None, tally }
    }

    /// With other patience for the first bytes.
    pub(super) fn first(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn failed(&self, error: BodyError) -> BodyError {
        let _ = self.tally.failure.set(Refusal::from(&error));
        error
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Watched<B>
where
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            this.patience = this.later;
            let mut frame = frame.transpose().map_err(|error| this.failed(error.into()))?;
            if let Some(trailers) = frame.as_mut().and_then(Frame::trailers_mut) {
                clean_trailers(trailers);
            }
            if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
                this.tally.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(Ok));
        }
        let until = Instant::now() + this.patience;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err(this.failed(BodyError::Stalled))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::AsyncWriteExt;

    use super::super::source::halves;
    use super::*;

    async fn returned(mut loan: Loan) -> Option<Returned> {
        std::future::poll_fn(|cx| loan.poll_returned(cx)).await
    }

    async fn read(framing: Framing, bytes: &[u8]) -> (Result<Bytes, BodyError>, Option<Returned>) {
        let (mut far, near) = tokio::io::duplex(64);
        let (body, loan) = Lent::new(halves(near).0, framing);
        let send = async {
            far.write_all(bytes).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let (collected, ()) = tokio::join!(body.collect(), send);
        (collected.map(http_body_util::Collected::to_bytes), returned(loan).await)
    }

    #[tokio::test]
    async fn a_connection_comes_back_after_a_body_with_what_follows_it() {
        for (framing, bytes) in [(Framing::Length(5), "helloGET"), (Framing::Chunked, "5\r\nhello\r\n0\r\n\r\nGET")] {
            let (body, returned) = read(framing, bytes.as_bytes()).await;
            assert_eq!(body.unwrap(), "hello");
            let mut returned = returned.unwrap();
            while returned.source.fill().await.unwrap() {}
            assert!(returned.complete && returned.source.buffer == "GET");
        }
        assert_eq!(read(Framing::UntilClose, b"hello").await.0.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_body_cut_short_is_never_a_whole_one() {
        for (framing, bytes) in [
            (Framing::Length(6), "hello"),
            (Framing::Chunked, "5\r\nhello"),
            (Framing::Chunked, "5\r\nhello\r\n"),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n"),
        ] {
            let (body, returned) = read(framing, bytes.as_bytes()).await;
            assert!(matches!(body, Err(BodyError::Cut)) && !returned.unwrap().complete, "{bytes}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_loses_interest_hands_the_connection_back_as_it_is() {
        let (_far, near) = tokio::io::duplex(64);
        let (body, loan) = Lent::new(halves(near).0, Framing::Length(1));
        drop(body);
        assert!(!returned(loan).await.unwrap().complete);
    }

    #[tokio::test]
    async fn a_body_ends_with_its_connection_whether_somebody_reads_it_or_not() {
        let (mut far, near) = tokio::io::duplex(64);
        let (source, writer) = halves(near);
        let (mut body, loan) = Lent::new(source, Framing::Length(9));
        let reading = tokio::spawn(async move { (body.frame().await, body.frame().await, body) });
        tokio::task::yield_now().await;
        drop((loan, writer));
        assert!(far.write_all(b"x").await.is_err(), "the body still holds the connection");
        let (first, second, _body) = reading.await.unwrap();
        assert!(matches!((first, second), (Some(Err(BodyError::Cut)), Some(Err(BodyError::Cut)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up_and_one_that_drips_is_not() {
        let (mut far, near) = tokio::io::duplex(64);
        let tally = Arc::new(Tally::default());
        let limit = Duration::from_secs(60);
        let mut body = Watched::new(Incoming::new(halves(near).0, Framing::Length(9)), limit, Arc::clone(&tally));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(40)).await;
            far.write_all(b"x").await.unwrap();
            assert!(body.frame().await.unwrap().is_ok());
        }
        let before = Instant::now();
        assert!(matches!(body.frame().await, Some(Err(BodyError::Stalled))));
        assert_eq!((before.elapsed().as_secs(), tally.bytes.load(Ordering::Relaxed)), (60, 3));
    }
}
