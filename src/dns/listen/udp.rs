//! The UDP listener: a thread per worker that answers what it can at once, in batches, and asks for the rest or hands it to
//! the runtime. Nothing it does waits for anybody.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::asking::{Asking, Waiter};
use super::poller::{Poller, Ready};
use super::socket::{Batch, Replies, Socket};
use crate::dns::health::{self, Signs};
use crate::dns::service::Service;
use crate::dns::tally::Transport;
use crate::policy::Table;

/// Batches a worker still answers once it is to end: more than a socket's receive buffer holds, so that nothing that had
/// arrived by then is lost, and a bound for clients that go on asking.
pub(super) const LAST_BATCHES: usize = 128;

/// A worker at work; it ends when this is stopped or dropped.
#[derive(Debug)]
pub(super) struct Worker {
    thread: Option<JoinHandle<()>>,
    /// Tells it to end, once it is woken.
    stop: Arc<AtomicBool>,
    signs: Weak<Signs>,
    /// Wakes it at a reload.
    _reloads: AbortOnDropHandle<()>,
}

/// What a worker needs beside its socket.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub service: watch::Receiver<Arc<Service>>,
    pub waiting: Arc<Semaphore>,
    /// Counts replies still owed, for drain.
    pub tracker: TaskTracker,
    /// Batches still answered once it is to end; none where the next process is handed the same queue.
    pub last_batches: usize,
}

impl Worker {
    /// Starts a thread that serves `socket`; what must wait runs on the runtime this is called from.
    ///
    /// # Errors
    /// The system's, where it gives no thread or no descriptor.
    pub(super) fn start(socket: Arc<Socket>, context: Context) -> io::Result<Self> {
        let (own, stop) = (Arc::new(Signs::new()?), Arc::new(AtomicBool::new(false)));
        let (signs, stopped, runtime) = (Arc::downgrade(&own), Arc::clone(&stop), Handle::current());
        let (mut service, sleeper) = (context.service.clone(), Weak::clone(&signs));
        let reloads = AbortOnDropHandle::new(runtime.spawn(async move {
            while service.changed().await.is_ok() {
                wake(&sleeper);
            }
        }));
        let thread = thread::Builder::new().name("dns-udp".to_owned()).spawn(move || {
            if let Err(error) = serve(&socket, context, &runtime, &own, &stopped) {
                tracing::error!(%error, "a UDP listener has failed: restart to get it back");
            }
        })?;
        Ok(Self { thread: Some(thread), stop, signs, _reloads: reloads })
    }

    /// To tell whether it is alive.
    pub(super) fn vitals(&self) -> health::Worker {
        health::Worker::new(Weak::clone(&self.signs))
    }
}

impl Drop for Worker {
    /// Lets the worker answer what it has read, then ends it.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        wake(&self.signs);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn wake(signs: &Weak<Signs>) {
    if let Some(signs) = signs.upgrade() {
        signs.wake();
    }
}

/// So many queries at once promise that there are more: they are asked for without sleeping first.
const BUSY: usize = 4;

fn serve(socket: &Arc<Socket>, context: Context, runtime: &Handle, signs: &Signs, stop: &AtomicBool) -> io::Result<()> {
    // Questions that start here are asked from the runtime.
    let _entered = runtime.enter();
    let poller = Arc::new(Poller::new()?);
    let mut turn = Turn::new(socket, context, &poller);
    let mut clients_wait = true;
    loop {
        turn.begin();
        let queries = if clients_wait { turn.answer_clients()? } else { 0 };
        let busy = turn.hear_servers()? | (queries >= BUSY);
        turn.end();
        signs.answered(turn.dealt_with);
        clients_wait = busy || sleep(&mut turn, signs)?;
        if stop.load(Ordering::Relaxed) {
            for _ in 0..turn.context.last_batches {
                if turn.answer_clients()? == 0 {
                    break;
                }
            }
            turn.replies.send(socket);
            return Ok(());
        }
    }
}

/// Waits until there is something to do; says whether clients have sent something.
fn sleep(turn: &mut Turn<'_>, signs: &Signs) -> io::Result<bool> {
    let until = turn.asking.next_due().map(|due| due.saturating_duration_since(Instant::now()));
    // Rounded up: what is due would be looked for in vain until then.
    let until = until
        .map(|left| left.as_millis() as i64 + 1)
        .map(|left| Timespec { tv_sec: left / 1000, tv_nsec: left % 1000 * 1_000_000 });
    let sources = [turn.socket.as_fd(), signs.as_fd(), turn.poller.as_fd()];
    let mut ready = sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN));
    // The kernel notes each datagram for whoever is in an epoll set, so clients' socket is in none.
    // What comes to a port when nothing is awaited is read when the port is used again.
    let awaited = if turn.asking.is_idle() { 2 } else { 3 };
    match poll(&mut ready[..awaited], until.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    if !ready[1].revents().is_empty() {
        signs.noticed();
    }
    Ok(!ready[0].revents().is_empty())
}

/// What one turn of the loop works with, and what is left of it for the next.
struct Turn<'w> {
    socket: &'w Arc<Socket>,
    poller: &'w Arc<Poller>,
    context: Context,
    in_force: InForce,
    asking: Asking,
    batch: Batch,
    replies: Replies,
    ready: Ready,
    now: Instant,
    /// Datagrams since the start.
    dealt_with: u64,
}

impl<'w> Turn<'w> {
    fn new(socket: &'w Arc<Socket>, context: Context, poller: &'w Arc<Poller>) -> Self {
        let in_force = InForce::of(context.service.clone());
        let asking = Asking::new(Arc::clone(&in_force.service), Arc::clone(socket), Arc::clone(poller));
        let (batch, replies, ready, now) = (Batch::new(), Replies::new(), Ready::new(), Instant::now());
        Self { socket, poller, context, in_force, asking, batch, replies, ready, now, dealt_with: 0 }
    }

    fn begin(&mut self) {
        self.now = Instant::now();
        if self.in_force.renew() {
            let service = Arc::clone(&self.in_force.service);
            self.asking = Asking::new(service, Arc::clone(self.socket), Arc::clone(self.poller));
        }
    }

    /// Answers a batch of what clients have sent, or asks for it. Says how many there were.
    fn answer_clients(&mut self) -> io::Result<usize> {
        let Self { socket, context, in_force, asking, batch, replies, now, .. } = self;
        let count = loop {
            match socket.receive(batch) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                // What the network says about an earlier reply is no trouble of the socket's.
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        };
        let InForce { service, table, .. } = in_force;
        for position in 0..count {
            let (packet, client, local) = batch.datagram(position);
            replies.add(socket, client, local, |reply| {
                let Some(pending) = service.handle(packet, client, table, *now, Transport::Udp, reply) else { return };
                match Arc::clone(&context.waiting).try_acquire_owned() {
                    Ok(permit) => {
                        let owed = context.tracker.token();
                        asking.ask(Waiter { pending, client, local, permit, owed }, *now);
                    }
                    Err(_) => service.shed(&pending, reply),
                }
            });
        }
        self.dealt_with += count as u64;
        Ok(count)
    }

    /// Reads what has come to the ports by which this worker asks. Says whether there was anything.
    fn hear_servers(&mut self) -> io::Result<bool> {
        if self.asking.is_idle() {
            return Ok(false);
        }
        self.poller.ready(&mut self.ready)?;
        for event in &self.ready {
            self.asking.receive(event.data.u64(), &mut self.replies, self.now);
        }
        Ok(!self.ready.is_empty())
    }

    fn end(&mut self) {
        self.asking.attend(self.now);
        self.asking.flush();
        self.replies.send(self.socket);
    }
}

/// What a worker answers by, so that it asks others only whether that has changed.
struct InForce {
    services: watch::Receiver<Arc<Service>>,
    service: Arc<Service>,
    tables: watch::Receiver<Arc<Table>>,
    table: Arc<Table>,
}

impl InForce {
    fn of(mut services: watch::Receiver<Arc<Service>>) -> Self {
        let service = Arc::clone(&services.borrow_and_update());
        let mut tables = service.resolver.watch_table();
        let table = Arc::clone(&tables.borrow_and_update());
        Self { services, service, tables, table }
    }

    /// Whether the configuration is another one now.
    fn renew(&mut self) -> bool {
        if self.services.has_changed().unwrap_or(false) {
            *self = Self::of(self.services.clone());
            return true;
        }
        if self.tables.has_changed().unwrap_or(false) {
            self.table = Arc::clone(&self.tables.borrow_and_update());
        }
        false
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, OutOfMemory,
    };
    matches!(
        error.kind(),
        Interrupted | ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | OutOfMemory
    )
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::dns::resolver::Resolver;
    use crate::dns::upstream::Upstreams;
    use crate::policy::Networks;

    fn service() -> Arc<Service> {
        let (_, tables) = watch::channel(Arc::new(Table::default()));
        let upstreams = Upstreams::new(&crate::dns::Upstreams::default(), &[], None).unwrap();
        let resolver = Arc::new(Resolver::new(tables, upstreams, 1 << 16, None));
        Arc::new(Service {
            resolver,
            clients: Networks::private(),
            forwarder: None,
            tls: None,
            shares: None,
            counters: Arc::default(),
        })
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !is_so() {
            assert!(Instant::now() < deadline, "not within 5 s: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A table of many ids would be held for as long as nobody asks.
    #[tokio::test]
    async fn an_idle_worker_lets_go_of_the_configuration_before_a_reload_and_still_ends() {
        let services = watch::Sender::new(service());
        let waiting = Arc::new(Semaphore::new(1));
        let tracker = TaskTracker::new();
        let context = Context { service: services.subscribe(), waiting, tracker, last_batches: LAST_BATCHES };
        let socket = Arc::new(Socket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap());
        let worker = Worker::start(socket, context).unwrap();
        for _ in 0..3 {
            let before = Arc::downgrade(&services.borrow());
            until("the worker has taken it up", || before.strong_count() == 3).await;
            services.send_replace(service());
            until("it is let go of", || before.strong_count() == 0).await;
        }
        tokio::task::spawn_blocking(move || drop(worker)).await.unwrap();
    }
}
