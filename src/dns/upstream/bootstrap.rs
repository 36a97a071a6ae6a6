//! The addresses of a server that an operator names: looked up through another group, and kept.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::AskError;
use super::server::{Host, Server};
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::dns::wire::rtype;
use crate::policy::HostName;

/// Addresses are kept this long at least, and known ones as long again where looking them up fails.
const MIN_TTL: Duration = Duration::from_secs(5);

/// Where a server with a name gets its address from.
pub type Bootstrap<'a> = &'a (dyn Fn(Question) -> BootstrapAnswer + Send + Sync);
/// See [`Bootstrap`].
pub type BootstrapAnswer = std::pin::Pin<Box<dyn Future<Output = Result<Message, AskError>> + Send>>;

/// Where a server is to be found.
#[derive(Debug)]
pub struct Addresses {
    host: Host,
    port: u16,
    /// What the last look-up that succeeded gave, and until when that holds.
    known: Mutex<(Vec<IpAddr>, Option<Instant>)>,
}

impl Addresses {
    pub fn of(server: &Server) -> Self {
        Self { host: server.host.clone(), port: server.port, known: Mutex::default() }
    }

    /// Every address, to be tried in this order; looks them up if those known are too old.
    pub async fn get(&self, bootstrap: Bootstrap<'_>) -> Result<Vec<SocketAddr>, AskError> {
        let ips = match &self.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => self.of_name(name, bootstrap).await?,
        };
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
    }

    async fn of_name(&self, name: &HostName, bootstrap: Bootstrap<'_>) -> Result<Vec<IpAddr>, AskError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut ips, until) = known().clone();
        if until.is_some_and(|until| Instant::now() < until) {
            return Ok(ips);
        }
        let ttl = match look_up(name, bootstrap).await {
            Ok((found, ttl)) => {
                ips = found;
                ttl.max(MIN_TTL)
            }
            Err(error) if ips.is_empty() => return Err(error),
            Err(_) => MIN_TTL,
        };
        *known() = (ips.clone(), Some(Instant::now() + ttl));
        Ok(ips)
    }
}

/// The addresses of a name, IPv4 before IPv6, and how long they hold.
async fn look_up(name: &HostName, bootstrap: Bootstrap<'_>) -> Result<(Vec<IpAddr>, Duration), AskError> {
    let ask = |qtype| bootstrap(Question::new(*name, qtype));
    let (v4, v6) = futures_util::join!(ask(rtype::A), ask(rtype::AAAA));
    let failed = v4.as_ref().err().map_or_else(|| format!("{name} has no address"), AskError::to_string);
    let messages: Vec<Message> = [v4, v6].into_iter().flatten().collect();
    let ips: Vec<IpAddr> = messages.iter().flat_map(Message::addresses).collect();
    if ips.is_empty() {
        return Err(AskError::Bootstrap(failed));
    }
    let ttl = messages.iter().flat_map(|message| &message.answer).map(|record| record.ttl).min().unwrap_or(0);
    Ok((ips, Duration::from_secs(ttl.into())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::dns::message::Record;
    use crate::dns::wire::CLASS_IN;

    #[tokio::test(start_paused = true)]
    async fn addresses_are_looked_up_when_they_are_too_old_and_kept_where_that_fails() {
        let server: Server = "https://resolver.example/dns-query".parse().unwrap();
        let addresses = Addresses::of(&server);
        let (count, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let bootstrap = |question: Question| -> BootstrapAnswer {
            count.fetch_add(1, Ordering::Relaxed);
            let broken = broken.load(Ordering::Relaxed);
            Box::pin(async move {
                if broken {
                    return Err(AskError::Timeout);
                }
                let data: [Box<[u8]>; 2] = [Box::new([192, 0, 2, 1]), Box::new([192, 0, 2, 2])];
                let record = |rdata| Record { owner: [0].into(), rtype: rtype::A, class: CLASS_IN, ttl: 60, rdata };
                let answer = if question.qtype == rtype::A { data.map(record).into() } else { Vec::new() };
                Ok(Message { answer, ..Message::default() })
            })
        };
        assert!(addresses.get(&bootstrap).await.is_err());
        broken.store(false, Ordering::Relaxed);
        let both = ["192.0.2.1:443".parse().unwrap(), "192.0.2.2:443".parse().unwrap()];
        for _ in 0..3 {
            assert_eq!(addresses.get(&bootstrap).await.unwrap(), both);
        }
        assert_eq!(count.load(Ordering::Relaxed), 4, "A and AAAA, in vain and once more");
        broken.store(true, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..3 {
            assert_eq!(addresses.get(&bootstrap).await.unwrap(), both);
        }
        assert_eq!(count.load(Ordering::Relaxed), 6);
    }
}
