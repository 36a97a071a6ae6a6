//! Is a listener alive? One question about a reserved name, over UDP, as any client would ask it.
//!
//! `app` asks for `/live` and for the watchdog, `sidegate health` where admin is off.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
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
/// A worker that sleeps is there sooner.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// Asks a listener for the reserved name. Any reply counts, a refusal too: it shows that the listener answers.
///
/// # Errors
/// In words for an operator.
pub async fn ask(listener: SocketAddr) -> Result<(), String> {
    let address = as_seen_from_here(listener);
    let name = HEALTH_NAME.parse().map_err(|error| format!("{HEALTH_NAME}: {error}"))?;
    let mut query = Question::new(name, rtype::TXT).to_wire(false);
    match timeout(WITHIN, ask_udp(address, &mut query, &OwnSockets::default(), None)).await {
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

/// What a worker shows of itself, and what wakes it where it sleeps. It has the one strong reference.
#[derive(Debug)]
pub struct Signs {
    /// Datagrams it has dealt with.
    answered: AtomicU64,
    /// Times it was woken, and has noticed.
    woken: AtomicU64,
    wake: OwnedFd,
}

impl Signs {
    /// # Errors
    /// The system's, where it gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { answered: AtomicU64::new(0), woken: AtomicU64::new(0), wake })
    }

    /// Has the worker come round, if it has nothing to read. What it reads comes first.
    pub fn wake(&self) {
        // The counter of an eventfd takes far more writes than there are, and each read sets it back.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// The worker was woken.
    pub fn noticed(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        self.woken.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker has dealt with so many datagrams since it began.
    pub fn answered(&self, datagrams: u64) {
        self.answered.store(datagrams, Ordering::Relaxed);
    }
}

impl AsFd for Signs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// One of its workers, from outside.
#[derive(Debug, Clone)]
pub struct Worker(Weak<Signs>);

impl Worker {
    pub fn new(signs: Weak<Signs>) -> Self {
        Self(signs)
    }

    /// Nothing changes about a worker that has ended.
    fn read(&self, sign: impl Fn(&Signs) -> &AtomicU64) -> Option<u64> {
        self.0.upgrade().map(|signs| sign(&signs).load(Ordering::Relaxed))
    }

    fn answered(&self) -> Option<u64> {
        self.read(|signs| &signs.answered)
    }

    fn woken(&self) -> Option<u64> {
        self.read(|signs| &signs.woken)
    }
}

impl Pulse {
    pub fn new(address: SocketAddr, workers: Vec<Worker>) -> Self {
        Self { address, workers }
    }

    /// As [`ask`]; but a listener that dealt with other datagrams meanwhile is alive too. The kernel drops what a full
    /// queue does not hold, our question as well as any client's: a flood must not look like a death.
    ///
    /// Our question reaches one worker. The others are woken: one that neither notices nor reads for a second is stuck, also
    /// while nobody asks it anything.
    ///
    /// # Errors
    /// As [`ask`], and where a worker is stuck.
    pub async fn is_alive(&self) -> Result<(), String> {
        let before: Vec<_> = self.workers.iter().map(Worker::answered).collect();
        let asked = ask(self.address).await;
        let has_moved = self.workers.iter().zip(&before).any(|(worker, before)| worker.answered() != *before);
        if asked.is_err() && !has_moved {
            return asked;
        }
        if self.has_stuck_since(&before).await {
            return Err(format!("{}: a worker does nothing any more", self.address));
        }
        Ok(())
    }

    /// Whether a worker that has dealt with nothing more does not notice either that it is woken, for a second. One that has
    /// ended leaves its clients to the others.
    async fn has_stuck_since(&self, before: &[Option<u64>]) -> bool {
        let deadline = Instant::now() + WITHIN;
        let idle = self.workers.iter().zip(before).filter(|(worker, before)| worker.answered() == **before);
        let mut suspects: Vec<_> = idle.map(|(worker, before)| (worker, *before, worker.woken())).collect();
        suspects.iter().filter_map(|(worker, ..)| worker.0.upgrade()).for_each(|signs| signs.wake());
        let mut look = FIRST_LOOK;
        loop {
            let still = |before, now: Option<u64>| now.is_some() && now == before;
            suspects.retain(|(worker, answered, woken)| {
                still(*answered, worker.answered()) && still(*woken, worker.woken())
            });
            if suspects.is_empty() || Instant::now() >= deadline {
                return !suspects.is_empty();
            }
            sleep(look).await;
            look = LOOK;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;

    use super::*;

    /// Does as a worker does that is only ever woken.
    async fn idle(signs: Arc<Signs>) {
        loop {
            sleep(Duration::from_millis(10)).await;
            signs.noticed();
        }
    }

    fn signs() -> [Arc<Signs>; 2] {
        [(); 2].map(|()| Arc::new(Signs::new().unwrap()))
    }

    fn silent() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    #[tokio::test]
    async fn a_listener_too_busy_for_our_question_is_alive_and_one_that_does_nothing_is_not() {
        let (silent, signs) = (silent(), signs());
        let pulse = Pulse::new(
            silent.local_addr().unwrap(),
            signs.iter().map(|signs| Worker::new(Arc::downgrade(signs))).collect(),
        );
        signs.iter().for_each(|signs| drop(tokio::spawn(idle(Arc::clone(signs)))));
        assert!(pulse.is_alive().await.unwrap_err().contains("does not answer within one second"));
        let (alive, ()) = tokio::join!(pulse.is_alive(), async {
            sleep(Duration::from_millis(10)).await;
            signs[1].answered(32);
        });
        assert_eq!(alive, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_hangs_is_not_hidden_by_another_that_answers_though_nothing_waits_for_it() {
        let (silent, [hangs, busy]) = (silent(), signs());
        let pulse = Pulse::new(
            silent.local_addr().unwrap(),
            [&hangs, &busy].map(|signs| Worker::new(Arc::downgrade(signs))).into(),
        );
        tokio::spawn(async move {
            for datagrams in 1.. {
                sleep(Duration::from_millis(10)).await;
                busy.answered(datagrams);
            }
        });
        assert!(pulse.is_alive().await.unwrap_err().contains("a worker does nothing any more"));
        let (alive, ()) = tokio::join!(pulse.is_alive(), async {
            sleep(WITHIN * 3 / 2).await;
            hangs.noticed();
        });
        assert_eq!(alive, Ok(()), "it slept, and was woken in time");
        drop(hangs);
        assert_eq!(pulse.is_alive().await, Ok(()), "a worker that has ended leaves its clients to the others");
    }
}
