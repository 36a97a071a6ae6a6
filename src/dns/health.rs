//! Is a listener alive? One question about a reserved name, over UDP, as any client would ask it.
//!
//! `app` asks for `/live` and for the watchdog, `sidegate health` where admin is off.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::{Instant, sleep, timeout};

use super::question::Question;
use super::respond::HEALTH_NAME;
use super::upstream::OwnSockets;
use super::upstream::ask_udp;
use super::wire::rtype;
use crate::policy::as_seen_from_here;

/// A listener that takes longer is not well.
const WITHIN: Duration = Duration::from_secs(1);
/// Time between two looks at a worker that may be stuck.
const LOOK: Duration = Duration::from_millis(50);

/// Asks a listener for the reserved name. Any reply counts, a refusal too: it shows that the listener answers.
///
/// # Errors
/// In words for an operator.
pub async fn ask(listener: SocketAddr) -> Result<(), String> {
    let address = as_seen_from_here(listener);
    let name = HEALTH_NAME.parse().map_err(|error| format!("{HEALTH_NAME}: {error}"))?;
    let mut query = Question::new(name, rtype::TXT).to_wire(false);
    match timeout(WITHIN, ask_udp(address, &mut query, &OwnSockets::default())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{listener} does not answer: {error}")),
        Err(_) => Err(format!("{listener} does not answer within one second")),
    }
}

/// A listener of this process, and what it has dealt with so far.
#[derive(Debug, Clone)]
pub struct Pulse {
    address: SocketAddr,
    workers: Vec<Worker>,
}

/// One of its workers, from outside.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Datagrams it has dealt with.
    answered: Arc<AtomicU64>,
    /// Its socket, for as long as the worker has it.
    queue: Weak<dyn AsFd + Send + Sync>,
}

impl Worker {
    pub fn new<S: AsFd + Send + Sync + 'static>(answered: &Arc<AtomicU64>, queue: &Arc<S>) -> Self {
        let queue = Arc::downgrade(queue);
        Self { answered: Arc::clone(answered), queue }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn has_something_to_read(&self) -> bool {
        let Some(queue) = self.queue.upgrade() else { return false };
        let mut ready = [PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN)];
        poll(&mut ready, Some(&Timespec::default())).is_ok() && ready[0].revents().contains(PollFlags::IN)
    }
}

impl Pulse {
    pub fn new(address: SocketAddr, workers: Vec<Worker>) -> Self {
        Self { address, workers }
    }

    /// As [`ask`]; but a listener that dealt with other datagrams meanwhile is alive too. The kernel drops what a full
    /// queue does not hold, our question as well as any client's: a flood must not look like a death.
    ///
    /// Our question reaches one worker. Another that has something to read, and does not for a second, is found by that.
    ///
    /// # Errors
    /// As [`ask`], and where a worker is stuck.
    pub async fn is_alive(&self) -> Result<(), String> {
        let before: Vec<u64> = self.workers.iter().map(Worker::answered).collect();
        let asked = ask(self.address).await;
        let has_moved = self.workers.iter().zip(&before).any(|(worker, before)| worker.answered() != *before);
        if asked.is_err() && !has_moved {
            return asked;
        }
        if self.has_stuck_since(&before).await {
            return Err(format!("{}: a worker does not read what waits for it", self.address));
        }
        Ok(())
    }

    /// Whether a worker that has dealt with nothing more leaves what waits for it for another second. In a queue that all
    /// share, others take it meanwhile, so one look is not enough.
    async fn has_stuck_since(&self, before: &[u64]) -> bool {
        let deadline = Instant::now() + WITHIN;
        let mut suspects: Vec<_> = self.workers.iter().zip(before).collect();
        loop {
            suspects.retain(|(worker, before)| worker.answered() == **before && worker.has_something_to_read());
            if suspects.is_empty() || Instant::now() >= deadline {
                return !suspects.is_empty();
            }
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn a_listener_too_busy_for_our_question_is_alive_and_one_that_does_nothing_is_not() {
        let silent = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let answered: [Arc<AtomicU64>; 2] = Default::default();
        let idle = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let workers = answered.iter().map(|answered| Worker::new(answered, &idle)).collect();
        let pulse = Pulse::new(silent.local_addr().unwrap(), workers);
        assert!(pulse.is_alive().await.unwrap_err().contains("does not answer within one second"));
        let (alive, ()) = tokio::join!(pulse.is_alive(), async {
            sleep(Duration::from_millis(10)).await;
            answered[1].fetch_add(32, Ordering::Relaxed);
        });
        assert_eq!(alive, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_leaves_what_waits_for_it_is_not_hidden_by_another_that_answers() {
        let queues = [(); 2].map(|()| Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()));
        let answered: [Arc<AtomicU64>; 2] = Default::default();
        let workers = answered.iter().zip(&queues).map(|(answered, queue)| Worker::new(answered, queue)).collect();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let pulse = Pulse::new(silent.local_addr().unwrap(), workers);
        let busy = Arc::clone(&answered[1]);
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(10)).await;
                busy.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ask = |queue: &UdpSocket| silent.send_to(b"query", queue.local_addr().unwrap()).unwrap();
        ask(&queues[1]);
        assert_eq!(pulse.is_alive().await, Ok(()), "it has more to read than it can, but reads");
        ask(&queues[0]);
        assert!(pulse.is_alive().await.unwrap_err().contains("a worker does not read what waits for it"));
        let (alive, ()) = tokio::join!(pulse.is_alive(), async {
            sleep(WITHIN * 3 / 2).await;
            queues[0].recv(&mut [0; 16]).unwrap();
        });
        assert_eq!(alive, Ok(()), "somebody took it in time");
        drop(queues);
        assert_eq!(pulse.is_alive().await, Ok(()), "a worker that has ended leaves its clients to the others");
    }
}
