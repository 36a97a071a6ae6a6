//! The addresses of a server, or of the egress proxy before it, that is known by name: looked up through the `vpc` group when a connection must be made, and
//! not before what is known has run out.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::AskError;
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::dns::wire::rtype;
use crate::egress_proxy::Host;
use crate::policy::HostName;

/// The shortest time between two look-ups, whatever the TTL.
const MIN_TTL: Duration = Duration::from_secs(5);

/// Asks the `vpc` group.
pub type Bootstrap<'a> = &'a (dyn Fn(Question) -> BootstrapAnswer + Send + Sync);
/// See [`Bootstrap`].
pub type BootstrapAnswer = Pin<Box<dyn Future<Output = Result<Message, AskError>> + Send>>;

/// Where one server or proxy is.
#[derive(Debug)]
pub struct Location {
    host: Host,
    /// What the last look-up found, and until when it holds.
    known: Mutex<Option<(Vec<IpAddr>, Instant)>>,
}

impl Location {
    pub fn new(host: Host) -> Self {
        Self { host, known: Mutex::default() }
    }

    /// The addresses to connect to, IPv4 first. If the look-up fails, what was found last.
    ///
    /// # Errors
    /// If nothing was ever found.
    pub async fn addresses(&self, bootstrap: Bootstrap<'_>) -> Result<Vec<IpAddr>, AskError> {
        let name = match &self.host {
            Host::Address(ip) => return Ok(vec![*ip]),
            Host::Name(name) => name,
        };
        let known = self.known();
        if let Some((addresses, until)) = &known
            && Instant::now() < *until
        {
            return Ok(addresses.clone());
        }
        match (look_up(name, bootstrap).await, known) {
            (Ok((addresses, ttl)), _) => {
                let until = Instant::now() + ttl.max(MIN_TTL);
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((addresses.clone(), until));
                Ok(addresses)
            }
            (Err(_), Some((addresses, _))) => Ok(addresses),
            (Err(error), None) => Err(error),
        }
    }

    /// What is known already; for a connection that stands and will hardly have to be made anew.
    pub fn last_known(&self) -> Vec<IpAddr> {
        match &self.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(_) => self.known().map(|(addresses, _)| addresses).unwrap_or_default(),
        }
    }

    fn known(&self) -> Option<(Vec<IpAddr>, Instant)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn look_up(name: &HostName, bootstrap: Bootstrap<'_>) -> Result<(Vec<IpAddr>, Duration), AskError> {
    let failed = |error: &AskError| AskError::Bootstrap(format!("{name}: {error}"));
    let (v4, v6) =
        tokio::join!(bootstrap(Question::new(*name, rtype::A)), bootstrap(Question::new(*name, rtype::AAAA)));
    let mut addresses = Vec::new();
    let mut ttl = u32::MAX;
    for message in [&v4, &v6].into_iter().flatten() {
        addresses.extend(message.addresses());
        ttl = message.answer.iter().map(|record| record.ttl).fold(ttl, u32::min);
    }
    match (addresses.is_empty(), &v4) {
        (false, _) => Ok((addresses, Duration::from_secs(ttl.into()))),
        (true, Err(error)) => Err(failed(error)),
        (true, Ok(_)) => Err(AskError::Bootstrap(format!("{name} has no address"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::dns::message::Record;

    /// Answers A with one address and a TTL of 60 s, `answers` times; then nobody answers.
    fn scripted(answers: usize) -> (impl Fn(Question) -> BootstrapAnswer + Send + Sync, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let bootstrap = move |question: Question| -> BootstrapAnswer {
            if question.qtype == rtype::AAAA {
                return Box::pin(async { Ok(Message::default()) });
            }
            let position = count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                let owner = question.name.wire().into();
                let record = Record { owner, rtype: rtype::A, class: 1, ttl: 60, rdata: [192, 0, 2, 1].into() };
                let answer = Message { answer: vec![record], ..Message::default() };
                if position < answers { Ok(answer) } else { Err(AskError::Timeout) }
            })
        };
        (bootstrap, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_when_its_ttl_is_over_and_the_last_answer_outlives_a_failure() {
        let location = Location::new(Host::Name("dns.example".parse().unwrap()));
        let (bootstrap, asked) = scripted(1);
        let expected: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        for _ in 0..3 {
            assert_eq!(location.addresses(&bootstrap).await.unwrap(), expected);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(location.addresses(&bootstrap).await.unwrap(), expected);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_name_nobody_knows_is_an_error_and_an_address_is_never_looked_up() {
        let (bootstrap, asked) = scripted(0);
        let named = Location::new(Host::Name("dns.example".parse().unwrap()));
        assert!(matches!(named.addresses(&bootstrap).await, Err(AskError::Bootstrap(_))));
        let asked_before = asked.load(Ordering::Relaxed);
        let ip: IpAddr = "192.0.2.9".parse().unwrap();
        assert_eq!(Location::new(Host::Address(ip)).addresses(&bootstrap).await.unwrap(), [ip]);
        assert_eq!(asked.load(Ordering::Relaxed), asked_before);
    }
}
