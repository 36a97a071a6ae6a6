//! One upstream server at work: asks it over its transport, reads what comes back, keeps its health.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::bootstrap::{Bootstrap, Location};
use super::exchange::{AskError, OwnSockets, has_edns, remove_edns};
use super::group::Sent;
use super::health::Health;
use super::https::Https;
use super::quic::Quic;
use super::server::{Server, Transport};
use super::stream::Stream;
use super::udp;
use crate::dns::message::Message;
use crate::dns::question::Question;
use crate::dns::wire::rcode;
use crate::egress_proxy::{EgressProxy, Host};

/// A server, its connection if it has one, and how well it does.
#[derive(Debug)]
pub struct Peer {
    server: Server,
    link: Link,
    own: OwnSockets,
    health: Mutex<Health>,
}

/// How a listener asks a server by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    /// By datagrams to this address.
    Datagram(SocketAddr),
    /// By a `Line`.
    Line,
}

#[derive(Debug)]
enum Link {
    /// Datagrams, and a stream for what does not fit.
    Udp(SocketAddr, Stream),
    Stream(Stream),
    /// With the place of the server, or of the proxy before it.
    Https(Box<Https>, Location),
    Quic(Quic),
}

impl Peer {
    /// A server to be asked, over HTTPS through `egress` if there is one; connects to nothing yet. `None` if its TLS name
    /// is no name a certificate can carry.
    pub fn new(
        server: Server,
        tls: &Arc<rustls::ClientConfig>,
        egress: Option<&EgressProxy>,
        own: OwnSockets,
    ) -> Option<Self> {
        let name = match (&server.tls_name, &server.host) {
            (Some(name), _) | (None, Host::Name(name)) => name.to_string(),
            (None, Host::Address(ip)) => ip.to_string(),
        };
        let link = match (server.transport, server.address()) {
            (Transport::Udp, Some(address)) => Link::Udp(address, Stream::tcp(address, own.clone())),
            (Transport::Tcp, Some(address)) => Link::Stream(Stream::tcp(address, own.clone())),
            (Transport::Tls, Some(address)) => {
                let name = ServerName::try_from(name).ok()?;
                Link::Stream(Stream::tls(address, name, Arc::clone(tls), own.clone()))
            }
            (Transport::Https, _) => {
                let next = egress.map_or(&server.host, EgressProxy::host);
                Link::Https(
                    Box::new(Https::new(&server, tls, egress.cloned(), own.clone())?),
                    Location::new(next.clone()),
                )
            }
            (Transport::Quic, Some(address)) => Link::Quic(Quic::new(address, &name, Arc::clone(tls))),
            (Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Quic, None) => return None,
        };
        Some(Self { server, link, own, health: Mutex::default() })
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a listener may ask it by itself, if lately it has answered soon and without fail.
    pub fn prompt(&self) -> Option<Prompt> {
        let prompt = match &self.link {
            Link::Udp(address, _) => Prompt::Datagram(*address),
            Link::Stream(_) | Link::Https(..) | Link::Quic(_) => Prompt::Line,
        };
        self.health().is_prompt().then_some(prompt)
    }

    /// Asks, and keeps the outcome. What the server refuses to do is an error like silence; whatever it says about the
    /// name itself, SERVFAIL included, is an answer. Who has sent the query already says so by `sent`.
    pub async fn ask(
        &self,
        question: &Question,
        bootstrap: Bootstrap<'_>,
        sent: Option<Sent>,
    ) -> Result<Message, AskError> {
        let started = sent.as_ref().map_or_else(Instant::now, |sent| sent.at);
        self.health().asked(started.into_std());
        let result = self.ask_with_fallback(question, bootstrap, sent).await;
        match &result {
            // Whether the name or the server is broken is only seen beside what others answer: `group` does.
            Ok(message) if message.rcode == rcode::SERVFAIL => self.health().said_servfail(),
            Ok(_) => self.health().answered(started.elapsed()),
            Err(AskError::Lame(_)) => self.health().refused(),
            Err(error) if error.is_local() => {}
            Err(_) => self.health().failed(),
        }
        result
    }

    /// Servers that do not know EDNS say so without an OPT record (RFC 6891 section 7); they are asked again without.
    async fn ask_with_fallback(
        &self,
        question: &Question,
        bootstrap: Bootstrap<'_>,
        sent: Option<Sent>,
    ) -> Result<Message, AskError> {
        let mut query = question.to_wire(true);
        let mut message = self.ask_once(&mut query, bootstrap, sent).await?;
        if matches!(message.rcode, rcode::FORMERR | rcode::NOTIMP) && !message.edns && has_edns(&query) {
            remove_edns(&mut query);
            message = self.ask_once(&mut query, bootstrap, None).await?;
        }
        match message.rcode {
            rcode::FORMERR => Err(AskError::Lame("FORMERR")),
            rcode::NOTIMP => Err(AskError::Lame("NOTIMP")),
            rcode::REFUSED => Err(AskError::Lame("REFUSED")),
            rcode::BADVERS => Err(AskError::Lame("BADVERS")),
            _ => Ok(message),
        }
    }

    async fn ask_once(
        &self,
        query: &mut Vec<u8>,
        bootstrap: Bootstrap<'_>,
        sent: Option<Sent>,
    ) -> Result<Message, AskError> {
        let received = match sent {
            Some(sent) => sent.received.await.ok().transpose()?,
            None => None,
        };
        let reply = match (&self.link, received) {
            (Link::Udp(address, _), received) => {
                let reply = udp::ask(*address, query, &self.own, received).await?;
                let message = Message::parse(&reply)?;
                if !message.truncated {
                    return Ok(message);
                }
                self.converse(query, bootstrap).await?
            }
            (_, Some(received)) => received,
            (_, None) => self.converse(query, bootstrap).await?,
        };
        let message = Message::parse(&reply)?;
        // A stream carries any length, so a truncated answer there is a broken one.
        if message.truncated { Err(AskError::Malformed) } else { Ok(message) }
    }

    /// Asks over the connection to the server, which is made if there is none, and gives what it says as it stands.
    ///
    /// # Errors
    /// As those of the transport.
    pub async fn converse(&self, query: &mut [u8], bootstrap: Bootstrap<'_>) -> Result<Vec<u8>, AskError> {
        match &self.link {
            Link::Udp(_, stream) | Link::Stream(stream) => stream.ask(query).await,
            Link::Https(https, location) => {
                let addresses =
                    if https.is_connected() { location.last_known() } else { location.addresses(bootstrap).await? };
                https.ask(query, &addresses).await
            }
            Link::Quic(quic) => quic.ask(query).await,
        }
    }
}
