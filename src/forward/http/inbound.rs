//! Clients that speak HTTP/1.1: one request after the other, each answered before the next is read.

use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Body as HttpBody;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::body::{Lent, Loan, Returned};
use super::fields::ConnectionFields;
use super::forward::{Client, Outcome, forward, refused};
use super::framing::{Framing, has_no_body};
use super::message::{Body, Interim, Request, Response};
use super::record::Record;
use super::source::{Source, Writer};
use super::write::{Delimiter, WriteError, put_field, put_fields, status_line, write, write_message};
use super::{request, upgrade};
use crate::forward::head::{Head, Version};
use crate::forward::refusal::{Cause, Refusal};

/// Patience for the first byte on a connection, and for a head from its first byte on.
const HEAD: Duration = Duration::from_secs(10);
/// Patience between requests.
const IDLE: Duration = Duration::from_secs(75);
/// Once nothing new is begun, time for a request that has been sent already: on a new connection, and on one that has
/// had answers.
const LAST_CALL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(50));
/// Bytes of the next requests that are read while one is answered.
const PIPELINED: usize = 16 * 1024;
/// How long an answer has to arrive at a client that still sends: closing at once would take it away.
const LINGER: Duration = Duration::from_secs(2);

/// A request, and what is to be known for its answer.
struct Asked {
    request: Request,
    framing: Framing,
    version: Version,
    /// The client wants no more after it.
    last: bool,
}

/// Serves a connection until its end.
pub(super) async fn serve(connection: (Source, Writer), client: &Client) {
    let (mut next, mut patience) = (Some(connection), Patience { ordinary: HEAD, last_call: LAST_CALL.0 });
    while let Some((mut source, writer)) = next.take() {
        let asked = match next_head(&mut source, patience, &client.connection.listening.drain.begun).await {
            Ok(None) => return,
            Ok(Some(head)) => {
                client.connection.place.has_asked(std::time::Instant::now());
                read(head, &source)
            }
            Err(refusal) => Err(refusal),
        };
        next = match asked {
            Ok(asked) => answer(client, source, writer, asked).await,
            Err(refusal) => {
                let reply = Reply { method: Bytes::new(), version: Version::Http11, keep: false };
                reply.send(refused(&refusal, Record::new(client)), Reading::Over(Some(source)), writer).await
            }
        };
        patience = Patience { ordinary: IDLE, last_call: LAST_CALL.1 };
    }
}

/// How long a client may be silent before its request.
#[derive(Clone, Copy)]
struct Patience {
    ordinary: Duration,
    /// From the stop on.
    last_call: Duration,
}

/// The next head; none where the client has no more, or where nobody waits for more.
async fn next_head(source: &mut Source, patience: Patience, stop: &CancellationToken) -> Result<Option<Head>, Refusal> {
    if source.buffer.is_empty() {
        let first = tokio::select! {
            biased;
            first = timeout(patience.ordinary, source.fill()) => first,
            () = stop.cancelled() => timeout(patience.last_call, source.fill()).await,
        };
        if !matches!(first, Ok(Ok(true))) {
            return Ok(None);
        }
    }
    let whole = async {
        loop {
            if let Some(head) = source.take_head()? {
                return Ok(Some(head));
            }
            if !matches!(source.fill().await, Ok(true)) {
                return Ok(None);
            }
        }
    };
    let slow = |_| Err(Refusal::new(Cause::Slow, "the head of the request did not come within 10 s"));
    timeout(HEAD, whole).await.unwrap_or_else(slow)
}

fn read(head: Head, source: &Source) -> Result<Asked, Refusal> {
    let (version, last) = (head.version, ConnectionFields::of(&head.fields).close);
    let (request, framing) = request::of_head(head)?;
    if request.upgrade.is_some() && !source.buffer.is_empty() {
        return Err(too_early());
    }
    Ok(Asked { request, framing, version, last })
}

fn too_early() -> Refusal {
    Refusal::new(Cause::BadRequest, "bytes of another protocol came before the answer that changes to it")
}

/// Answers one request; gives the connection back if there may be another.
async fn answer(
    client: &Client,
    source: Source,
    mut writer: Writer,
    Asked { mut request, framing, version, last }: Asked,
) -> Option<(Source, Writer)> {
    let (method, changes) = (request.method.clone(), request.upgrade.is_some());
    let mut reading = if matches!(framing, Framing::None | Framing::Length(0)) {
        Reading::Here(source)
    } else {
        let (body, loan) = Lent::new(source, framing);
        request.body = Body::new(body);
        Reading::Lent(loan)
    };
    let (interim, mut announced) = mpsc::channel(16);
    let outcome = {
        let mut forwarding = pin!(forward(client, request, &interim));
        loop {
            tokio::select! {
                biased;
                Some(interim) = announced.recv() => announce(&mut writer, &interim, version).await.ok()?,
                outcome = &mut forwarding => break outcome,
                unasked = reading.unasked(changes) => match unasked {
                    Unasked::Reset => return None,
                    Unasked::Early => break Outcome::Response(refused(&too_early(), Record::new(client))),
                },
            }
        }
    };
    while let Ok(interim) = announced.try_recv() {
        announce(&mut writer, &interim, version).await.ok()?;
    }
    let response = match outcome {
        Outcome::Response(response) => response,
        Outcome::Switched(switched, record) => match reading {
            Reading::Here(source) if source.buffer.is_empty() => {
                upgrade::relay(source, writer, *switched, record, client).await;
                return None;
            }
            _ => refused(&too_early(), record),
        },
    };
    let ending = client.connection.listening.drain.begun.is_cancelled() || !client.is_welcome();
    let keep = version == Version::Http11 && !last && !changes && reading.is_here() && !ending;
    Reply { method, version, keep }.send(response, reading, writer).await
}

/// HTTP/1.0 knows of no such answers.
async fn announce(writer: &mut Writer, interim: &Interim, version: Version) -> Result<(), WriteError> {
    if version == Version::Http10 {
        return Ok(());
    }
    let mut head = status_line(interim.status, &interim.reason);
    put_fields(&mut head, &interim.fields);
    head.extend_from_slice(b"\r\n");
    write(writer, &mut head).await
}

/// How an answer is told.
struct Reply {
    method: Bytes,
    version: Version,
    /// Another request may follow.
    keep: bool,
}

impl Reply {
    async fn send(self, response: Response, mut reading: Reading, mut writer: Writer) -> Option<(Source, Writer)> {
        let (head, delimiter) = self.head(&response);
        let written = tokio::select! {
            biased;
            written = write_message(&mut writer, head, response.body, delimiter) => written,
            _ = reading.unasked(false) => return None,
        };
        match (written, reading) {
            (Ok(()), Reading::Here(source)) if self.keep && delimiter != Delimiter::Close => Some((source, writer)),
            (Ok(()), reading) => {
                let _ = timeout(LINGER, async {
                    let _ = writer.shutdown().await;
                    if let Some(mut source) = reading.source().await {
                        source.drain().await;
                    }
                })
                .await;
                None
            }
            (Err(_), _) if delimiter == Delimiter::Close => {
                writer.break_off();
                None
            }
            (Err(_), _) => None,
        }
    }

    fn head(&self, response: &Response) -> (BytesMut, Delimiter) {
        let mut head = status_line(response.status, &response.reason);
        put_fields(&mut head, &response.fields);
        let delimiter = if has_no_body(&self.method, response.status) {
            Delimiter::NoBody
        } else if response.fields.iter().any(|field| field.is("content-length")) {
            Delimiter::Length
        } else if response.body.is_end_stream() {
            put_field(&mut head, b"Content-Length", b"0");
            Delimiter::Length
        } else if self.version == Version::Http11 {
            put_field(&mut head, b"Transfer-Encoding", b"chunked");
            Delimiter::Chunks
        } else {
            Delimiter::Close
        };
        if !self.keep {
            put_field(&mut head, b"Connection", b"close");
        }
        (head, delimiter)
    }
}

/// What a client may do while its request is answered, beside waiting.
enum Unasked {
    Reset,
    /// It speaks the new protocol already.
    Early,
}

/// Where the reading half of a client's connection is while its request is answered.
enum Reading {
    /// Here: the request was read to its end.
    Here(Source),
    /// With the body of the request.
    Lent(Loan),
    /// Where the next request would begin is not known.
    Over(Option<Source>),
}

impl Reading {
    /// Ready where the client has reset the connection. One that has only stopped sending still gets its answer.
    /// Its next requests are for later, unless its protocol changes now.
    fn poll_unasked(&mut self, cx: &mut Context<'_>, changes: bool) -> Poll<Unasked> {
        loop {
            match self {
                Self::Lent(loan) => {
                    *self = match ready!(loan.poll_returned(cx)) {
                        Some(Returned { source, complete: true }) => Self::Here(source),
                        Some(Returned { source, complete: false }) => Self::Over(Some(source)),
                        None => Self::Over(None),
                    };
                }
                Self::Here(source) if changes && !source.buffer.is_empty() => return Poll::Ready(Unasked::Early),
                Self::Here(source) if source.buffer.len() < PIPELINED => match ready!(source.poll_fill(cx)) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(_) => return Poll::Ready(Unasked::Reset),
                },
                Self::Here(_) | Self::Over(_) => return Poll::Pending,
            }
        }
    }

    async fn unasked(&mut self, changes: bool) -> Unasked {
        std::future::poll_fn(|cx| self.poll_unasked(cx, changes)).await
    }

    fn is_here(&mut self) -> bool {
        let _ = self.poll_unasked(&mut Context::from_waker(Waker::noop()), false);
        matches!(self, Self::Here(_))
    }

    /// The connection, once the body's reader has let go of it.
    async fn source(self) -> Option<Source> {
        match self {
            Self::Here(source) => Some(source),
            Self::Lent(mut loan) => std::future::poll_fn(|cx| loan.poll_returned(cx)).await.map(|back| back.source),
            Self::Over(source) => source,
        }
    }
}

#[cfg(test)]
mod tests;
