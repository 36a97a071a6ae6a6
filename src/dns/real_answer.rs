//! Does a listener resolve names? Asked before resolv.conf is pointed at it, by `dns.take_over` and `resolv-conf install`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::message::Message;
use super::question::Question;
use super::respond::HEALTH_NAME;
use super::upstream::{OwnSockets, ask_udp};
use super::wire::{rcode, rtype};
use crate::policy::as_seen_from_here;

/// Known to every resolver that a VPC may have, and outside all zones of ours. That it does not exist is an answer too.
const ORDINARY_NAME: &str = "amazonaws.com";
/// An answer takes four seconds at most.
const WITHIN: Duration = Duration::from_secs(5);

/// Why names are not resolved there, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotResolving {
    /// Nobody answers, not even for the name that only Sidegate knows.
    #[error("{0}")]
    Nobody(String),
    /// Somebody is there, and it is not enough.
    #[error("{0}")]
    NotEnough(String),
}

/// Returns once Sidegate answers at `listener`, by the name that only it knows, and an ordinary question went through
/// upstream.
///
/// # Errors
/// Why not.
pub async fn ask(listener: SocketAddr) -> Result<(), NotResolving> {
    is_sidegate(listener).await?;
    let asked = exchange(listener, ORDINARY_NAME, rtype::A).await;
    let message = asked.map_err(|error| NotResolving::NotEnough(format!("{error} for {ORDINARY_NAME}")))?;
    let Some(failure) = message.failure() else { return Ok(()) };
    let why = message.extended_errors().first().map(|(_, text)| String::from_utf8_lossy(text).into_owned());
    let why = why.filter(|text| !text.is_empty()).map(|text| format!(" ({text})")).unwrap_or_default();
    Err(NotResolving::NotEnough(format!("{listener} answers {failure} for {ORDINARY_NAME}{why}")))
}

/// Returns if a Sidegate answers at `listener`.
///
/// # Errors
/// Why not.
pub async fn is_sidegate(listener: SocketAddr) -> Result<(), NotResolving> {
    let message = exchange(listener, HEALTH_NAME, rtype::TXT).await?;
    let knows = message.rcode == rcode::NOERROR && message.answer.iter().any(|record| record.rtype == rtype::TXT);
    if knows {
        Ok(())
    } else {
        let rule = format!("who answers on {listener} is no Sidegate, or `clients` refuses this host");
        Err(NotResolving::NotEnough(rule))
    }
}

async fn exchange(listener: SocketAddr, name: &str, kind: u16) -> Result<Message, NotResolving> {
    let address = as_seen_from_here(listener);
    let name = name.parse().map_err(|error| NotResolving::NotEnough(format!("{name}: {error}")))?;
    let mut query = Question::new(name, kind).to_wire(true);
    match timeout(WITHIN, ask_udp(address, &mut query, &OwnSockets::default(), None)).await {
        Ok(Ok(reply)) => Message::parse(&reply)
            .map_err(|_| NotResolving::NotEnough(format!("{listener} answers what is no DNS message"))),
        Ok(Err(error)) => Err(NotResolving::Nobody(format!("{listener} does not answer: {error}"))),
        Err(_) => Err(NotResolving::Nobody(format!("{listener} does not answer within {} s", WITHIN.as_secs()))),
    }
}
