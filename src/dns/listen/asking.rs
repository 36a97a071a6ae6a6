//! Questions that a UDP worker asks by itself, of a server that answers soon: by one datagram from the thread that has the
//! client, or by a line to the task that asks the server over its connection.
//!
//! It is the short way for what is usual: a reply within 300 ms that is the answer. Whatever else comes, or nothing, the
//! question is handed to the resolver, which goes on where this has come to: it knows other servers and stale answers, and
//! what does not fit a datagram. Everything is polled for by `udp`; nothing here waits.

mod due;
mod lines;
mod ports;

use std::hash::BuildHasher;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::due::{Due, Dues};
use self::lines::Lines;
use self::ports::Ports;
use super::poller::Poller;
use super::socket::{LocalAddr, Replies, Socket};
use crate::dns::query::Query;
use crate::dns::question::Question;
use crate::dns::resolver::Resolved;
use crate::dns::service::{Pending, Service};
use crate::dns::upstream::{AskError, First, Peer, Prompt, Sent, Ticket, is_local};
use crate::policy::Upstream;

/// A server that has not answered by then is joined by the next one.
const HAND_OVER_AFTER: Duration = Duration::from_millis(300);
/// By then the resolver, which has four seconds, has given up too: a reply is of no use to anybody.
const FORGET_AFTER: Duration = Duration::from_secs(5);
/// Questions of a worker at most, those included whose replies the resolver waits for.
const MAX_QUESTIONS: usize = 1024;
/// Datagrams read from one port before others have their turn.
const MAX_IN_TURN: usize = 64;
/// More than any answer to a query that offers 1232 octets.
const BUFFER: usize = 4096;

/// A client's query that waits, and what counts against its bounds meanwhile.
#[derive(Debug)]
pub(super) struct Waiter {
    pub pending: Pending,
    pub client: SocketAddr,
    pub local: LocalAddr,
    pub permit: OwnedSemaphorePermit,
    /// A reply is owed, for drain.
    pub owed: TaskTrackerToken,
}

impl Waiter {
    /// Has the resolver answer it, as a task of its own.
    pub(super) fn leave_to_resolver(self, service: &Arc<Service>, socket: &Arc<Socket>) {
        let (service, socket) = (Arc::clone(service), Arc::clone(socket));
        tokio::spawn(async move {
            let mut reply = Vec::new();
            service.finish(&self.pending, &mut reply).await;
            if !reply.is_empty() {
                socket.send_one(&reply, self.client, self.local);
            }
            drop((self.permit, self.owed));
        });
    }
}

/// The questions of one worker under one configuration.
pub(super) struct Asking {
    service: Arc<Service>,
    socket: Arc<Socket>,
    ports: Ports,
    lines: Lines,
    questions: Slab<Asked>,
    by_question: HashTable<usize>,
    hasher: DefaultHashBuilder,
    /// Counts all questions, to know one that has another's place.
    serial: u64,
    to_hand_over: Dues,
    to_forget: Dues,
    buffer: Vec<u8>,
}

struct Asked {
    question: Question,
    /// Of the question and the group.
    hash: u64,
    upstream: Upstream,
    peer: Arc<Peer>,
    by: By,
    at: Instant,
    serial: u64,
    state: State,
}

impl Asked {
    fn is(&self, question: &Question, upstream: Upstream) -> bool {
        self.upstream == upstream && self.question == *question
    }
}

/// By what a question has left.
#[derive(Debug, Clone, Copy)]
enum By {
    Port(usize),
    Line,
}

enum State {
    /// Clients wait for it here.
    Waited(Vec<Waiter>),
    /// The resolver waits for what comes.
    HandedOver(oneshot::Sender<Result<Vec<u8>, AskError>>),
}

impl Asking {
    pub(super) fn new(service: Arc<Service>, socket: Arc<Socket>, poller: Arc<Poller>) -> Self {
        Self {
            lines: Lines::new(Arc::clone(&poller)),
            ports: Ports::new(poller, service.resolver.own_sockets().clone()),
            service,
            socket,
            questions: Slab::new(),
            by_question: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            serial: 0,
            to_hand_over: Dues::default(),
            to_forget: Dues::default(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Asks for a client, or lets it join whoever asks the same; what cannot be asked this way is left to the resolver.
    pub(super) fn ask(&mut self, waiter: Waiter, now: Instant) {
        if let Err(waiter) = self.try_ask(waiter, now) {
            waiter.leave_to_resolver(&self.service, &self.socket);
        }
    }

    fn try_ask(&mut self, waiter: Waiter, now: Instant) -> Result<(), Waiter> {
        let Ok(query) = Query::parse(waiter.pending.packet()) else { return Err(waiter) };
        let (question, upstream) = (Question::of(&query), waiter.pending.upstream());
        // What a new table has put out of force may hold good under it, too.
        if !question.is_cacheable() || self.service.resolver.renew(&question, upstream) {
            return Err(waiter);
        }
        let hash = self.hasher.hash_one((&question, upstream));
        let is_same = |&other: &usize| self.questions[other].is(&question, upstream);
        if let Some(&number) = self.by_question.find(hash, is_same) {
            let State::Waited(waiters) = &mut self.questions[number].state else { return Err(waiter) };
            self.service.resolver.counters().coalesced.fetch_add(1, Ordering::Relaxed);
            waiters.push(waiter);
            return Ok(());
        }
        if self.questions.len() >= MAX_QUESTIONS {
            return Err(waiter);
        }
        let Some((peer, prompt)) = self.service.resolver.prompt(&question, upstream) else { return Err(waiter) };
        let number = self.questions.vacant_key();
        let serial = self.serial + 1;
        let sent = match prompt {
            Prompt::Datagram(server) => self.send(&peer, server, &question, number, now).map(By::Port),
            Prompt::Line => {
                let (upstreams, ticket) = (self.service.resolver.upstreams(), Ticket { number, serial });
                self.lines.ask(&peer, upstreams, ticket, question.to_wire(true)).map(|()| By::Line)
            }
        };
        let Ok(by) = sent else { return Err(waiter) };
        peer.health().asked(now);
        self.serial = serial;
        let state = State::Waited(vec![waiter]);
        self.questions.insert(Asked { question, hash, upstream, peer, by, at: now, serial, state });
        self.by_question.insert_unique(hash, number, |&other| self.questions[other].hash);
        self.to_hand_over.push(Due { at: now + HAND_OVER_AFTER, number, serial });
        self.service.resolver.direct().fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a question by a port of its server.
    fn send(
        &mut self,
        peer: &Arc<Peer>,
        server: SocketAddr,
        question: &Question,
        number: usize,
        now: Instant,
    ) -> io::Result<usize> {
        let port = self.ports.current(peer, server, now)?;
        let sent = self.ports.send(port, question.to_wire(true), number);
        match &sent {
            // Full, or out of memory: that is no news of the server.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_local(error) => {}
            Err(error) => self.fail(port, error),
            Ok(()) => {}
        }
        sent.map(|()| port)
    }

    /// Whether no reply is awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.questions.is_empty()
    }

    /// Reads what has come to what the poller knows by this number.
    pub(super) fn receive(&mut self, ready: u64, replies: &mut Replies, now: Instant) {
        match ready {
            Lines::READY => self.receive_by_line(replies, now),
            port => self.receive_by_port(port as usize, replies, now),
        }
    }

    fn receive_by_line(&mut self, replies: &mut Replies, now: Instant) {
        for (Ticket { number, serial }, received) in self.lines.received() {
            if self.questions.get(number).is_none_or(|asked| asked.serial != serial) {
                continue;
            }
            match received {
                Ok(reply) if self.land(number, &reply, replies, now) => {}
                received => self.conclude(number, received),
            }
        }
    }

    fn receive_by_port(&mut self, port: usize, replies: &mut Replies, now: Instant) {
        let mut buffer = mem::take(&mut self.buffer);
        for _ in 0..MAX_IN_TURN {
            match self.ports.receive(port, &mut buffer) {
                Ok(Some((number, length))) => {
                    let received = &buffer[..length];
                    if !self.land(number, received, replies, now) {
                        self.conclude(number, Ok(received.to_vec()));
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fail(port, &error);
                    break;
                }
            }
            // What else is there is reported again.
            if self.ports.is_idle(port) {
                break;
            }
        }
        self.buffer = buffer;
        self.ports.close_if_done(port);
    }

    /// Answers those who wait here by what came for their question, if it is the whole answer.
    fn land(&mut self, number: usize, received: &[u8], replies: &mut Replies, now: Instant) -> bool {
        let Self { questions, service, .. } = self;
        let Asked { question, upstream, peer, at, state, .. } = &mut questions[number];
        let State::Waited(waiters) = state else { return false };
        let Some(answer) = service.resolver.take_in_reply(received, question, *upstream) else { return false };
        peer.health().answered(now.saturating_duration_since(*at));
        let resolved = Resolved::Fresh(answer, 0);
        for Waiter { pending, client, local, .. } in waiters.drain(..) {
            replies.add(&self.socket, client, local, |reply| service.reply(&pending, &resolved, reply));
        }
        self.remove(number);
        true
    }

    /// Leaves a question to the resolver with what came of it.
    fn conclude(&mut self, number: usize, received: Result<Vec<u8>, AskError>) {
        self.hand_over(number);
        if let State::HandedOver(resolver) = self.remove(number).state {
            // Nobody may wait for it any more.
            let _ = resolver.send(received);
        }
    }

    /// The resolver goes on with a question, and answers whoever waits for it.
    fn hand_over(&mut self, number: usize) {
        let asked = &mut self.questions[number];
        let State::Waited(waiters) = &mut asked.state else { return };
        let waiters = mem::take(waiters);
        let (resolver, received) = oneshot::channel();
        asked.state = State::HandedOver(resolver);
        let first = First { peer: Arc::clone(&asked.peer), sent: Sent { at: asked.at.into(), received } };
        self.service.resolver.go_on(&asked.question, asked.upstream, first);
        for waiter in waiters {
            waiter.leave_to_resolver(&self.service, &self.socket);
        }
    }

    /// What the network says of a server goes for every question that waits at the port.
    fn fail(&mut self, port: usize, error: &io::Error) {
        for number in self.ports.fail(port) {
            let again = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.conclude(number, Err(again.into()));
        }
        self.ports.close_if_done(port);
    }

    fn remove(&mut self, number: usize) -> Asked {
        let asked = self.questions.remove(number);
        if let Ok(found) = self.by_question.find_entry(asked.hash, |&other| other == number) {
            found.remove();
        }
        if let By::Port(port) = asked.by {
            self.ports.forget(port, number);
        }
        self.service.resolver.direct().fetch_sub(1, Ordering::Relaxed);
        asked
    }

    /// Sends by lines what this turn has asked.
    pub(super) fn flush(&mut self) {
        self.lines.flush();
    }

    /// Hands over what has waited for too long, and forgets what nobody waits for any more.
    pub(super) fn attend(&mut self, now: Instant) {
        while let Some(Due { number, serial, .. }) = self.to_hand_over.next(&self.questions, now) {
            let asked = &self.questions[number];
            asked.peer.health().slow(now.saturating_duration_since(asked.at));
            self.to_forget.push(Due { at: asked.at + FORGET_AFTER, number, serial });
            self.hand_over(number);
        }
        while let Some(Due { number, .. }) = self.to_forget.next(&self.questions, now) {
            if let By::Port(port) = self.remove(number).by {
                self.ports.close_if_done(port);
            }
        }
    }

    /// When [`Asking::attend`] has something to do next.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        let dues = [&mut self.to_hand_over, &mut self.to_forget];
        dues.into_iter().filter_map(|due| due.first(&self.questions)).min()
    }
}

impl Drop for Asking {
    /// Under another configuration, or at the end, the resolver asks again what was under way.
    fn drop(&mut self) {
        let numbers: Vec<usize> = self.questions.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.hand_over(number);
            self.remove(number);
        }
    }
}
