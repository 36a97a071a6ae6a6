//! The UDP listener: a thread per worker that answers what it can at once, in batches, and hands the rest to the
//! runtime. Nothing it does waits for anybody.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::socket::{BATCH, Batch, LocalAddr, Socket};
use crate::dns::health::{self, Signs};
use crate::dns::service::{Pending, Service};
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

fn serve(socket: &Arc<Socket>, context: Context, runtime: &Handle, signs: &Signs, stop: &AtomicBool) -> io::Result<()> {
    // Questions that start here are asked from the runtime.
    let _entered = runtime.enter();
    let Context { service, waiting, tracker, last_batches } = context;
    let mut batch = Batch::new();
    let mut in_force = InForce::of(service);
    let (mut batches_left, mut dealt_with) = (last_batches, 0);
    loop {
        if stop.load(Ordering::Relaxed) {
            let Some(left) = batches_left.checked_sub(1) else { return Ok(()) };
            batches_left = left;
        }
        let count = match socket.receive(&mut batch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(&**socket, PollFlags::IN), PollFd::new(signs, PollFlags::IN)];
                match poll(&mut ready, None) {
                    Ok(_) if !ready[1].revents().is_empty() => {
                        // In this order, so that no request to end is taken for a reload.
                        signs.noticed();
                        if stop.load(Ordering::Relaxed) {
                            return Ok(());
                        }
                        in_force.renew();
                        continue;
                    }
                    Ok(_) | Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            // What the network says about an earlier reply is no trouble of the socket's.
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error),
        };
        in_force.renew();
        let InForce { service, table, .. } = &in_force;
        let now = Instant::now();
        for position in 0..count {
            let (packet, client, local, out) = batch.datagram(position);
            let Some(pending) = service.handle(packet, client, table, now, Transport::Udp, out) else { continue };
            match Arc::clone(&waiting).try_acquire_owned() {
                Ok(permit) => {
                    let reply = reply_later(Arc::clone(service), pending, Arc::clone(socket), client, local);
                    tracker.spawn_on(
                        async move {
                            reply.await;
                            drop(permit);
                        },
                        runtime,
                    );
                }
                Err(_) => service.shed(&pending, out),
            }
        }
        socket.send_batch(&batch, count.min(BATCH));
        dealt_with += count as u64;
        signs.answered(dealt_with);
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

    fn renew(&mut self) {
        if self.services.has_changed().unwrap_or(false) {
            *self = Self::of(self.services.clone());
        } else if self.tables.has_changed().unwrap_or(false) {
            self.table = Arc::clone(&self.tables.borrow_and_update());
        }
    }
}

async fn reply_later(
    service: Arc<Service>,
    pending: Pending,
    socket: Arc<Socket>,
    client: SocketAddr,
    local: LocalAddr,
) {
    let mut reply = Vec::new();
    service.finish(&pending, &mut reply).await;
    if !reply.is_empty() {
        socket.send_one(&reply, client, local);
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
            until("the worker has taken it up", || before.strong_count() == 2).await;
            services.send_replace(service());
            until("it is let go of", || before.strong_count() == 0).await;
        }
        tokio::task::spawn_blocking(move || drop(worker)).await.unwrap();
    }
}
