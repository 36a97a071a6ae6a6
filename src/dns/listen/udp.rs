//! The UDP listener: a thread per worker that answers what it can at once, in batches, and hands the rest to the
//! runtime. Nothing it does waits for anybody.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
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

/// A worker at work; it ends when this is stopped or dropped.
#[derive(Debug)]
pub(super) struct Worker {
    thread: Option<JoinHandle<()>>,
    wake: Arc<OwnedFd>,
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
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let runtime = Handle::current();
        let stopped = Arc::clone(&wake);
        let thread = thread::Builder::new().name("dns-udp".to_owned()).spawn(move || {
            if let Err(error) = serve(&Arc::new(socket), context, &runtime, &stopped) {
                tracing::error!(%error, "a UDP listener has failed: restart to get it back");
            }
        })?;
        Ok(Self { thread: Some(thread), wake })
    }
}

impl Drop for Worker {
    /// Lets the worker answer what it has read, then ends it.
    fn drop(&mut self) {
        // The counter of an eventfd takes far more than one write.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &Arc<Socket>, context: Context, runtime: &Handle, stopped: &OwnedFd) -> io::Result<()> {
    // Questions that start here are asked from the runtime.
    let _entered = runtime.enter();
    let Context { mut service, waiting, tracker } = context;
    let mut batch = Batch::new();
    let mut current = Arc::clone(&service.borrow_and_update());
    let mut tables = current.resolver.watch_table();
    let mut table = Arc::clone(&tables.borrow_and_update());
    loop {
        let count = match socket.receive(&mut batch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(&**socket, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
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
