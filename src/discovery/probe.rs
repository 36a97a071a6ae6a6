//! Probes: every address of an endpoint with `health = "tcp"` is connected to, again and again, and left at once.
//!
//! Nothing is sent: an endpoint has no answer to the unauthorised, and a TLS handshake would cost both sides far more
//! than what it tells. `app` runs it beside the other tasks of a [`Discovery`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::health::AttemptEnd;
use super::merge::Discovery;
use crate::interfaces;

/// From one probe of an address to the next: an address that dies is out within 12 s, for one connection every 5 s.
const EVERY: Duration = Duration::from_secs(5);
/// What chance may take off that, so that neither addresses nor a fleet's hosts are in step.
const JITTER: f64 = 0.2;
/// An address has this long to accept: time for one lost SYN, which is sent again after 1 s (RFC 6298 section 2).
const WITHIN: Duration = Duration::from_secs(2);

impl Discovery {
    /// Probes what is to be probed, and brings back what has rested. Never returns.
    pub async fn follow_health(self: Arc<Self>) {
        let mut probes: HashMap<SocketAddr, AbortOnDropHandle<()>> = HashMap::new();
        loop {
            let wanted = self.probed();
            probes.retain(|address, _| wanted.contains(address));
            for address in wanted {
                let probe = || AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self).probe(address)));
                probes.entry(address).or_insert_with(probe);
            }
            let next_return = self.next_return();
            tokio::select! {
                () = self.health_changed.notified() => {}
                () = sleep_until(next_return.unwrap_or_else(std::time::Instant::now).into()),
                    if next_return.is_some() => self.end_rests(),
            }
        }
    }

    async fn probe(self: Arc<Self>, address: SocketAddr) {
        let mut next = Instant::now() + EVERY.mul_f64(rand::random());
        loop {
            sleep_until(next).await;
            let begun = Instant::now();
            next = begun + EVERY.mul_f64(1.0 - JITTER * rand::random::<f64>());
            if let Some(end) = attempt(address).await {
                let counters = &self.counters;
                let counter =
                    if end == AttemptEnd::Connected { &counters.probes_connected } else { &counters.probes_failed };
                counter.fetch_add(1, Ordering::Relaxed);
                self.attempted(address, begun.into_std(), &end);
            }
        }
    }
}

/// Connects and closes; `None` where the failure is this host's and says nothing of the address.
async fn attempt(address: SocketAddr) -> Option<AttemptEnd> {
    match timeout(WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Some(AttemptEnd::Connected),
        Ok(Err(error)) if is_of_the_way(&error, || interfaces::has_source_for(address.ip())) => {
            Some(AttemptEnd::Failed(error.to_string()))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "an endpoint address cannot be probed");
            None
        }
        Err(_) => Some(AttemptEnd::Failed(format!("no connection within {} s", WITHIN.as_secs()))),
    }
}

/// Whether the peer, or what lies in between, has failed, rather than this host for want of descriptors, ports or memory.
/// A family that this host has no address of is no way.
fn is_of_the_way(error: &io::Error, has_source: impl FnOnce() -> bool) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    match error.kind() {
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut => true,
        AddrNotAvailable => !has_source(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
