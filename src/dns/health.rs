//! Is a listener alive? One question about a reserved name, over UDP, as any client would ask it.
//!
//! `app` asks for `/live` and for the watchdog, `sidegate health` where admin is off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::question::Question;
use super::respond::HEALTH_NAME;
use super::upstream::OwnSockets;
use super::upstream::ask_udp;
use super::wire::rtype;
use crate::policy::as_seen_from_here;

/// A listener that takes longer is not well.
const WITHIN: Duration = Duration::from_secs(1);

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
    /// Datagrams, by worker.
    answered: Vec<Arc<AtomicU64>>,
}

impl Pulse {
    pub fn new(address: SocketAddr, answered: Vec<Arc<AtomicU64>>) -> Self {
        Self { address, answered }
    }

    /// As [`ask`]; but a listener that dealt with other datagrams meanwhile is alive too. The kernel drops what a full
    /// queue does not hold, our question as well as any client's: a flood must not look like a death.
    ///
    /// # Errors
    /// As [`ask`].
    pub async fn is_alive(&self) -> Result<(), String> {
        let before = self.answered();
        let asked = ask(self.address).await;
        if self.answered() == before { asked } else { Ok(()) }
    }

    fn answered(&self) -> u64 {
        self.answered.iter().map(|answered| answered.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn a_listener_too_busy_for_our_question_is_alive_and_one_that_does_nothing_is_not() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let answered: Vec<Arc<AtomicU64>> = vec![Arc::default(), Arc::default()];
        let pulse = Pulse::new(silent.local_addr().unwrap(), answered.clone());
        assert!(pulse.is_alive().await.unwrap_err().contains("does not answer within one second"));
        let (alive, ()) = tokio::join!(pulse.is_alive(), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            answered[1].fetch_add(32, Ordering::Relaxed);
        });
        assert_eq!(alive, Ok(()));
    }
}
