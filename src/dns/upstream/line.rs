//! A line by which a listener's thread asks one server that keeps a connection: questions go in and replies come out, many at
//! a time.
//!
//! One task carries all of them, so that a question costs neither a task nor a wake-up of its own.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::bootstrap::{Bootstrap, BootstrapAnswer};
use super::exchange::AskError;
use super::peer::Peer;
use crate::dns::question::Question;

/// The longest that a reply is waited for: by then the resolver, which may have been handed the question after 300 ms and has
/// four seconds from there, has given up too.
const WITHIN: Duration = Duration::from_millis(4500);

/// What whoever asks knows a question by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub number: usize,
    /// Told apart by this from another question that had the number.
    pub serial: u64,
}

/// What came of a question.
pub type Received = (Ticket, Result<Vec<u8>, AskError>);
type Query = (Ticket, Vec<u8>);

/// Where the replies for one thread are put, whatever line they come by. Its descriptor is readable while there are some.
#[derive(Debug)]
pub struct Inbox {
    received: Mutex<Vec<Received>>,
    bell: OwnedFd,
}

impl Inbox {
    /// # Errors
    /// The system's, where it gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { received: Mutex::default(), bell })
    }

    fn put(&self, new: &mut Vec<Received>) {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.is_empty() {
            // It can only be full of rings that nobody has heard yet.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
        received.append(new);
    }

    /// All that is there.
    pub fn take(&self) -> Vec<Received> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        mem::take(&mut received)
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The line to one server; dropping it gives up what was asked by it.
#[derive(Debug)]
pub struct Line {
    queries: mpsc::UnboundedSender<Vec<Query>>,
    /// Those of this turn.
    next: Vec<Query>,
    _task: AbortOnDropHandle<()>,
}

impl Line {
    /// A line whose replies come to `inbox`; connects to nothing yet. Who asks bounds how many questions are under way.
    pub fn open<B>(peer: Arc<Peer>, bootstrap: B, inbox: Arc<Inbox>) -> Self
    where
        B: Fn(Question) -> BootstrapAnswer + Send + Sync + 'static,
    {
        let (queries, asked) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move { carry(&peer, &bootstrap, asked, &inbox).await });
        Self { queries, next: Vec::new(), _task: AbortOnDropHandle::new(task) }
    }

    /// Whether nobody asks any more what is sent by it: its task ends with it, with the runtime, or by a panic.
    pub fn is_dead(&self) -> bool {
        self.queries.is_closed()
    }

    /// Takes a query for the next [`Line::flush`].
    pub fn ask(&mut self, ticket: Ticket, query: Vec<u8>) {
        self.next.push((ticket, query));
    }

    /// Sends what was asked since the last time.
    pub fn flush(&mut self) {
        if !self.next.is_empty() {
            // Of a dead line they are handed over in time.
            let _ = self.queries.send(mem::take(&mut self.next));
        }
    }
}

async fn carry(peer: &Peer, bootstrap: Bootstrap<'_>, mut asked: mpsc::UnboundedReceiver<Vec<Query>>, inbox: &Inbox) {
    let mut waiting = FuturesUnordered::new();
    let mut received = Vec::new();
    loop {
        tokio::select! {
            queries = asked.recv() => {
                let Some(queries) = queries else { return };
                waiting.extend(queries.into_iter().map(|(ticket, mut query)| async move {
                    let reply = timeout(WITHIN, peer.converse(&mut query, bootstrap)).await;
                    (ticket, reply.unwrap_or(Err(AskError::Timeout)))
                }));
            }
            Some(first) = waiting.next() => {
                received.push(first);
                while let Some(Some(next)) = waiting.next().now_or_never() {
                    received.push(next);
                }
                inbox.put(&mut received);
            }
        }
    }
}
