//! One request and its answer over a connection to a server, in HTTP/1.1.
//!
//! `forward` calls it. The answer is read while the request is still being sent; afterwards the connection goes back to
//! the pool if both are whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::unconstrained;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::body::Incoming;
use super::fields::{self, ConnectionFields};
use super::framing::{self, Framing};
use super::message::{Body, BodyError, Interim, Request, Response};
use super::pool::{Connection, Ticket};
use super::source::{Source, Writer};
use super::write::{Delimiter, WriteError, put_field, put_fields, request_line, write_message};
use crate::forward::head::{ResponseHead, Version};
use crate::forward::refusal::{Cause, Refusal};

/// The longest wait for an answer, and for its next bytes: beyond what any API Gateway integration may take (15 min).
pub(super) const RESPONSE: Duration = Duration::from_secs(960);
/// Answers before the last one; a server that sends more never ends.
const MAX_INTERIM: usize = 16;

/// What a server answered.
pub(super) enum Answer {
    Response(Response),
    /// The connection now speaks what the client wanted.
    Switched(Switched),
}

/// A connection that has changed its protocol. It is no longer one of the pool's: the bound on clients holds for it.
pub(super) struct Switched {
    pub response: Response,
    /// What it speaks now.
    pub protocol: Bytes,
    pub source: Source,
    pub writer: Writer,
}

/// Sends the request and reads the answer's head; its body is read by whoever gets it.
///
/// # Errors
/// There is no answer. Whether the server acted on the request is unknown.
pub(super) async fn exchange(
    Connection { mut source, writer, ticket }: Connection,
    request: Request,
    interim: &mpsc::Sender<Interim>,
) -> Result<Answer, Refusal> {
    let (method, upgrade) = (request.method.clone(), request.upgrade.clone());
    let mut sending = Sending::start(writer, request).await;
    let head = timeout(RESPONSE, final_head(&mut source, &mut sending, upgrade.is_some(), interim)).await;
    let late = |_| Err(Refusal::new(Cause::ResponseTimeout, "the server did not answer in time"));
    let head = head.unwrap_or_else(late)?;
    let framing = framing::of_response(&method, &head)?;
    let about = ConnectionFields::of(&head.fields);
    let response = Response {
        status: head.status,
        reason: head.reason,
        fields: fields::of_response(head.fields),
        body: Body::empty(),
    };
    if head.status == 101 {
        let Sending::Done(writer) = sending else {
            return Err(bad_answer("it changes the protocol within a request"));
        };
        // Which one is the server's to say: it may have chosen one of several.
        let protocol = about.upgrade.or(upgrade).unwrap_or_default();
        return Ok(Answer::Switched(Switched { response, protocol, source, writer }));
    }
    let reusable = head.version == Version::Http11 && !about.close && framing != Framing::UntilClose;
    let incoming = Incoming::new(source, framing);
    let body = Exchange { incoming, sending, ticket: Some(ticket), reusable };
    Ok(Answer::Response(Response { body: body.into_body(), ..response }))
}

/// The head of the answer, after any number of those that only announce it.
async fn final_head(
    source: &mut Source,
    sending: &mut Sending,
    may_switch: bool,
    interim: &mpsc::Sender<Interim>,
) -> Result<ResponseHead, Refusal> {
    for _ in 0..=MAX_INTERIM {
        let head = next_head(source, sending).await?;
        match head.status {
            101 if !may_switch => return Err(bad_answer("it changes the protocol, which nobody asked it to")),
            100 | 102..=199 => {
                let fields = fields::of_response(head.fields);
                let _ = interim.send(Interim { status: head.status, reason: head.reason, fields }).await;
            }
            _ => return Ok(head),
        }
    }
    Err(bad_answer("it announces it for ever"))
}

async fn next_head(source: &mut Source, sending: &mut Sending) -> Result<ResponseHead, Refusal> {
    loop {
        if let Some(head) = source.take_response_head()? {
            return Ok(head);
        }
        let filled = tokio::select! {
            filled = source.fill() => filled,
            () = sending.broken_off() => return Err(bad_answer("the request ended early")),
        };
        match filled {
            Ok(true) => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(bad_answer(error)),
            Ok(false) | Err(_) => return Err(bad_answer("the connection ended before it")),
        }
    }
}

fn bad_answer(words: impl std::fmt::Display) -> Refusal {
    Refusal::new(Cause::BadResponse, format!("there is no answer of the server's: {words}"))
}

/// A request on its way to the server.
enum Sending {
    /// A task of its own sends the body, so that neither direction waits for the other.
    UnderWay {
        outcome: oneshot::Receiver<Result<Writer, WriteError>>,
        _task: AbortOnDropHandle<()>,
    },
    Done(Writer),
    /// The server takes no more; it may have answered all the same.
    Refused,
    /// The client sends no more.
    BrokenOff,
}

impl Sending {
    async fn start(mut writer: Writer, request: Request) -> Self {
        let delimiter = if request.fields.iter().any(|field| field.is("content-length")) {
            Delimiter::Length
        } else if request.body.is_end_stream() {
            Delimiter::NoBody
        } else {
            Delimiter::Chunks
        };
        let mut head = request_line(&request.method, &request.target);
        put_fields(&mut head, &request.fields);
        if delimiter == Delimiter::Chunks {
            put_field(&mut head, b"Transfer-Encoding", b"chunked");
        }
        if let Some(protocol) = &request.upgrade {
            put_field(&mut head, b"Connection", b"Upgrade");
            put_field(&mut head, b"Upgrade", protocol);
        } else if request.trailers {
            put_field(&mut head, b"TE", b"trailers");
            put_field(&mut head, b"Connection", b"TE");
        }
        if request.body.is_end_stream() {
            let written = write_message(&mut writer, head, request.body, Delimiter::NoBody).await;
            return Self::after(written.map(|()| writer));
        }
        let (tell, outcome) = oneshot::channel();
        let task = tokio::spawn(async move {
            let written = write_message(&mut writer, head, request.body, delimiter).await;
            let _ = tell.send(written.map(|()| writer));
        });
        Self::UnderWay { outcome, _task: AbortOnDropHandle::new(task) }
    }

    fn after(outcome: Result<Writer, WriteError>) -> Self {
        match outcome {
            Ok(writer) => Self::Done(writer),
            Err(WriteError::Io) => Self::Refused,
            Err(WriteError::Body) => Self::BrokenOff,
        }
    }

    /// Ready where the client has broken off; looks no further once the sending is over.
    fn poll_broken_off(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::UnderWay { outcome, .. } = self {
            *self = ready!(outcome.poll_unpin(cx)).map_or(Self::Refused, Self::after);
        }
        if matches!(self, Self::BrokenOff) { Poll::Ready(()) } else { Poll::Pending }
    }

    async fn broken_off(&mut self) {
        std::future::poll_fn(|cx| self.poll_broken_off(cx)).await;
    }
}

/// The body of an answer, and the connection it comes by.
struct Exchange {
    incoming: Incoming,
    sending: Sending,
    /// The connection's, until it is given back.
    ticket: Option<Ticket>,
    /// It can be used again.
    reusable: bool,
}

impl Exchange {
    fn into_body(mut self) -> Body {
        if !self.incoming.is_complete() {
            return Body::new(self);
        }
        self.give_back();
        Body::empty()
    }

    fn give_back(&mut self) {
        // Else a task that has done much already would be told that the request is still being sent.
        let _ = unconstrained(self.sending.broken_off()).now_or_never();
        let sending = std::mem::replace(&mut self.sending, Sending::Refused);
        if let (Some(ticket), Some(source), Sending::Done(writer), true) =
            (self.ticket.take(), self.incoming.take_source(), sending, self.reusable)
        {
            ticket.give_back(source, writer);
        }
    }
}

impl HttpBody for Exchange {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.incoming.is_complete() {
            return Poll::Ready(None);
        }
        if self.sending.poll_broken_off(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::OfRequest)));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if self.incoming.is_complete() {
            self.give_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_complete()
    }
}
