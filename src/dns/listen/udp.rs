//! The UDP listener: a thread per worker that answers what it can at once, in batches, and hands the rest to the
//! runtime. Nothing it does waits for anybody.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::socket::{BATCH, Batch, LocalAddr, Socket};
use crate::dns::reply::ReplyLimit;
use crate::dns::service::{Pending, Service};

/// Queries that may wait for an upstream at a time, over all UDP workers of a listener.
pub(super) const MAX_WAITING: usize = 8192;

/// Batches a worker still answers once it is to end: more than a socket's receive buffer holds, so that nothing that had
/// arrived by then is lost, and a bound for clients that go on asking.
const LAST_BATCHES: usize = 128;

/// A worker at work; it ends when this is stopped or dropped.
#[derive(Debug)]
pub(super) struct Worker {
    thread: Option<JoinHandle<()>>,
    stop: Arc<Stop>,
}

/// Tells a worker to end: the flag while it is busy, the descriptor while it sleeps.
#[derive(Debug)]
struct Stop {
    requested: AtomicBool,
    wake: OwnedFd,
}

/// What a worker needs beside its socket.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub service: watch::Receiver<Arc<Service>>,
    pub waiting: Arc<Semaphore>,
    /// Counts replies still owed, for drain.
    pub tracker: TaskTracker,
}

impl Worker {
    /// Starts a thread that serves `socket`; what must wait runs on the runtime this is called from.
    ///
    /// # Errors
    /// The system's, where it gives no thread or no descriptor.
    pub(super) fn start(socket: Socket, context: Context) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop = Arc::new(Stop { requested: AtomicBool::new(false), wake });
        let runtime = Handle::current();
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("dns-udp".to_owned()).spawn(move || {
            if let Err(error) = serve(&Arc::new(socket), context, &runtime, &stopped) {
                tracing::error!(%error, "a UDP listener has failed: restart to get it back");
            }
        })?;
        Ok(Self { thread: Some(thread), stop })
    }
}

impl Drop for Worker {
    /// Lets the worker answer what it has read, then ends it.
    fn drop(&mut self) {
        self.stop.requested.store(true, Ordering::Relaxed);
        // The counter of an eventfd takes far more than one write.
        let _ = rustix::io::write(&self.stop.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &Arc<Socket>, context: Context, runtime: &Handle, stop: &Stop) -> io::Result<()> {
    // Questions that start here are asked from the runtime.
    let _entered = runtime.enter();
    let Context { mut service, waiting, tracker } = context;
    let mut batch = Batch::new();
    let mut current = Arc::clone(&service.borrow_and_update());
    let mut tables = current.resolver.watch_table();
    let mut table = Arc::clone(&tables.borrow_and_update());
    let mut last_batches = 0;
    while last_batches < LAST_BATCHES {
        last_batches += usize::from(stop.requested.load(Ordering::Relaxed));
        let count = match socket.receive(&mut batch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(&**socket, PollFlags::IN), PollFd::new(&stop.wake, PollFlags::IN)];
                match poll(&mut ready, None) {
                    Ok(_) if !ready[1].revents().is_empty() => return Ok(()),
                    Ok(_) | Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            // What the network says about an earlier reply is no trouble of the socket's.
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error),
        };
        if service.has_changed().unwrap_or(false) {
            current = Arc::clone(&service.borrow_and_update());
            tables = current.resolver.watch_table();
            table = Arc::clone(&tables.borrow_and_update());
        } else if tables.has_changed().unwrap_or(false) {
            table = Arc::clone(&tables.borrow_and_update());
        }
        let now = Instant::now();
        for position in 0..count {
            let (packet, client, local, out) = batch.datagram(position);
            let limit = if client.ip().is_loopback() { ReplyLimit::LoopbackUdp } else { ReplyLimit::Udp };
            let Some(pending) = current.handle(packet, client, &table, now, limit, out) else { continue };
            match Arc::clone(&waiting).try_acquire_owned() {
                Ok(permit) => {
                    let reply = reply_later(Arc::clone(&current), pending, Arc::clone(socket), client, local);
                    tracker.spawn_on(
                        async move {
                            reply.await;
                            drop(permit);
                        },
                        runtime,
                    );
                }
                Err(_) => current.shed(&pending, out),
            }
        }
        socket.send_batch(&batch, count.min(BATCH));
    }
    Ok(())
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
