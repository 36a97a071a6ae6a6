//! Questions that a UDP worker asks by itself: one datagram to a server that answers soon, from the thread that has the client.
//!
//! It is the short way for what is usual: a reply within 300 ms that is the answer. Whatever else comes, or nothing, the
//! question is handed to the resolver, which goes on where this has come to: it knows streams, other servers, stale
//! answers. Everything is polled for by `udp`; nothing here waits.

mod due;

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
use super::poller::Poller;
use super::socket::{LocalAddr, Replies, Socket};
use crate::dns::query::Query;
use crate::dns::question::Question;
use crate::dns::resolver::Resolved;
use crate::dns::service::{Pending, Service};
use crate::dns::upstream::{First, Peer, Port, Sent, is_local};
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
    poller: Arc<Poller>,
    /// The port by which questions leave, for each server that was asked.
    current: Vec<(Arc<Peer>, usize)>,
    ports: Slab<Port>,
    questions: Slab<Asked>,
    by_question: HashTable<usize>,
    hasher: DefaultHashBuilder,
    /// Counts all questions, to know one that has another's place.
    serial: u64,
    to_hand_over: Dues,
    to_forget: Dues,
    buffer: Box<[u8; BUFFER]>,
}

struct Asked {
    question: Question,
    /// Of the question and the group.
    hash: u64,
    upstream: Upstream,
    peer: Arc<Peer>,
    port: usize,
    at: Instant,
    serial: u64,
    state: State,
}

impl Asked {
    fn is(&self, question: &Question, upstream: Upstream) -> bool {
        self.upstream == upstream && self.question == *question
    }
}

enum State {
    /// Clients wait for it here.
    Waited(Vec<Waiter>),
    /// The resolver waits for what comes.
    HandedOver(oneshot::Sender<io::Result<Vec<u8>>>),
}

impl Asking {
    pub(super) fn new(service: Arc<Service>, socket: Arc<Socket>, poller: Arc<Poller>) -> Self {
        Self {
            service,
            socket,
            poller,
            current: Vec::new(),
            ports: Slab::new(),
            questions: Slab::new(),
            by_question: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            serial: 0,
            to_hand_over: Dues::default(),
            to_forget: Dues::default(),
            buffer: Box::new([0; BUFFER]),
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
        let Some((peer, address)) = self.service.resolver.prompt(&question, upstream) else { return Err(waiter) };
        let number = self.questions.vacant_key();
        let Ok(port) = self.send(&peer, address, &question, number, now) else { return Err(waiter) };
        peer.health().asked(now);
        self.serial += 1;
        let (serial, state) = (self.serial, State::Waited(vec![waiter]));
        self.questions.insert(Asked { question, hash, upstream, peer, port, at: now, serial, state });
        self.by_question.insert_unique(hash, number, |&other| self.questions[other].hash);
        self.to_hand_over.push(Due { at: now + HAND_OVER_AFTER, number, serial });
        self.service.resolver.direct().fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a question by the current port of its server, or by a new one.
    fn send(
        &mut self,
        peer: &Arc<Peer>,
        server: SocketAddr,
        question: &Question,
        number: usize,
        now: Instant,
    ) -> io::Result<usize> {
        let port = match self.current_port(peer, now) {
            Some(port) => port,
            None => self.open(peer, server, now)?,
        };
        let sent = self.ports[port].send(question.to_wire(true), number);
        match &sent {
            // Full, or out of memory: that is no news of the server.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_local(error) => {}
            Err(error) => self.fail(port, error),
            Ok(()) => {}
        }
        sent.map(|()| port)
    }

    /// The port by which questions to this server leave, if it takes another.
    fn current_port(&mut self, peer: &Arc<Peer>, now: Instant) -> Option<usize> {
        let at = self.current.iter().position(|(of, _)| Arc::ptr_eq(of, peer))?;
        let (_, port) = self.current[at];
        if self.ports[port].takes_more(now) {
            return Some(port);
        }
        self.current.swap_remove(at);
        self.close_if_idle(port);
        None
    }

    fn open(&mut self, peer: &Arc<Peer>, server: SocketAddr, now: Instant) -> io::Result<usize> {
        let opened = Port::open(server, self.service.resolver.own_sockets(), now)?;
        let port = self.ports.vacant_key();
        self.poller.add(&opened, port as u64)?;
        self.ports.insert(opened);
        self.current.push((Arc::clone(peer), port));
        Ok(port)
    }

    /// Whether no reply is awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.questions.is_empty()
    }

    /// Reads what has come to a port.
    pub(super) fn receive(&mut self, port: usize, replies: &mut Replies, now: Instant) {
        for _ in 0..MAX_IN_TURN {
            let Some(open) = self.ports.get_mut(port) else { return };
            match open.receive(&mut self.buffer[..]) {
                Ok(Some((number, length))) => self.land(number, length, replies, now),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return self.fail(port, &error),
            }
            if self.ports.get(port).is_some_and(Port::is_idle) {
                break;
            }
        }
        if !self.is_current(port) {
            self.close_if_idle(port);
        }
    }

    /// What came for a question is in the buffer.
    fn land(&mut self, number: usize, length: usize, replies: &mut Replies, now: Instant) {
        let Self { questions, service, buffer, .. } = self;
        let received = &buffer[..length];
        let Asked { question, upstream, peer, at, state, .. } = &mut questions[number];
        if let State::Waited(waiters) = state
            && let Some(answer) = service.resolver.take_in_reply(received, question, *upstream)
        {
            peer.health().answered(now.saturating_duration_since(*at));
            let resolved = Resolved::Fresh(answer, 0);
            for Waiter { pending, client, local, .. } in waiters.drain(..) {
                replies.add(&self.socket, client, local, |reply| service.reply(&pending, &resolved, reply));
            }
            self.remove(number);
        } else {
            let received = Ok(received.to_vec());
            self.conclude(number, received);
        }
    }

    /// Leaves a question to the resolver with what came of it.
    fn conclude(&mut self, number: usize, received: io::Result<Vec<u8>>) {
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
        for number in self.ports[port].numbers() {
            let again = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.conclude(number, Err(again));
        }
        self.current.retain(|(_, current)| *current != port);
        self.close_if_idle(port);
    }

    fn remove(&mut self, number: usize) -> Asked {
        let asked = self.questions.remove(number);
        if let Ok(found) = self.by_question.find_entry(asked.hash, |&other| other == number) {
            found.remove();
        }
        if let Some(port) = self.ports.get_mut(asked.port) {
            port.forget(number);
        }
        self.service.resolver.direct().fetch_sub(1, Ordering::Relaxed);
        asked
    }

    fn is_current(&self, port: usize) -> bool {
        self.current.iter().any(|(_, current)| *current == port)
    }

    fn close_if_idle(&mut self, port: usize) {
        if self.ports.get(port).is_some_and(Port::is_idle) {
            self.ports.remove(port);
        }
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
            let port = self.questions[number].port;
            self.remove(number);
            if !self.is_current(port) {
                self.close_if_idle(port);
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
