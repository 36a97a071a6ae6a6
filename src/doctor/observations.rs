//! What was seen, as plain values: answers of resolvers, what the policy says, what each path answered.
//!
//! `examine` fills them, `verdict` judges them, `sidegate doctor` shows them. No I/O here.

use std::net::{IpAddr, SocketAddr};

use super::name::{Form, ZoneName};
use super::reply::Reply;
use crate::policy::HostName;

/// What a resolver says of a name, both families taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has addresses.
    Found {
        /// The names that it is an alias of, one after the other.
        aliases: Vec<HostName>,
        addresses: Vec<IpAddr>,
    },
    /// It exists and has no address.
    NoAddress,
    NoSuchName,
    /// An error of the resolver's, in its words: SERVFAIL with its reason.
    Failed(String),
    /// No answer could be had.
    Silent(String),
}

impl Answer {
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Answer::Found { addresses, .. } => addresses,
            _ => &[],
        }
    }

    pub fn aliases(&self) -> &[HostName] {
        match self {
            Answer::Found { aliases, .. } => aliases,
            _ => &[],
        }
    }

    /// Whether it says something of the name, rather than of the resolver.
    pub fn is_about_the_name(&self) -> bool {
        !matches!(self, Answer::Failed(_) | Answer::Silent(_))
    }
}

/// The view of a program on this host that calls getaddrinfo: hosts file, then the servers of resolv.conf, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// What the hosts file says; it comes before any server.
    pub hosts_file: Vec<IpAddr>,
    /// Every server, all asked. A program goes to the next one where the first is silent; musl asks all at once.
    pub servers: Vec<(SocketAddr, Answer)>,
}

impl System {
    /// What a program gets: the hosts file, else the first server that answers at all (resolv.conf(5)). SERVFAIL sends it
    /// to the next one as well.
    pub fn answer(&self) -> Answer {
        if !self.hosts_file.is_empty() {
            return Answer::Found { aliases: Vec::new(), addresses: self.hosts_file.clone() };
        }
        let mut answers = self.servers.iter().map(|(_, answer)| answer);
        let first = answers.clone().find(|answer| answer.is_about_the_name()).or_else(|| answers.next());
        first.cloned().unwrap_or_else(|| Answer::Silent("resolv.conf names no server".to_owned()))
    }
}

/// Whether the VPC resolver leads the region's names to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateDns {
    On,
    Off,
    /// The VPC resolver does not say, or the name is in no `execute-api` zone.
    Unknown,
}

/// Where a request ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The VPC endpoint.
    Endpoint,
    /// The internet, API Gateway's public side for an API.
    Internet,
    /// An address that is neither: a hosts file, a load balancer, Sidegate's own forwarder.
    Elsewhere,
    /// Nowhere: there is no address.
    Nowhere,
}

impl Place {
    /// As who answers there.
    pub fn who(self) -> &'static str {
        match self {
            Place::Endpoint => "the endpoint",
            Place::Internet => "the internet's side",
            Place::Elsewhere => "an address that is neither the endpoint's nor the internet's",
            Place::Nowhere => "nobody",
        }
    }

    /// One word for it, in JSON too.
    pub fn word(self) -> &'static str {
        match self {
            Place::Endpoint => "endpoint",
            Place::Internet => "internet",
            Place::Elsewhere => "elsewhere",
            Place::Nowhere => "nowhere",
        }
    }
}

/// What Sidegate's configuration says of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub way: Way,
    /// The rule's number and words.
    pub rule: Option<(u8, String)>,
    /// Who says so, where somebody does.
    pub origin: Option<String>,
    /// The endpoint: of the name itself, else of its region.
    pub endpoint: Option<String>,
}

/// Which way the policy sends the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Endpoint,
    Public,
    /// Whatever the VPC's resolver, or the servers of a zone, say.
    Inside,
    NoSuchName,
    /// A required list is missing, in words.
    NotReady(String),
    /// There is no policy: the configuration does not get that far, in words.
    Unknown(String),
}

/// What came of going to one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The addresses, in the order in which they were tried.
    pub addresses: Vec<SocketAddr>,
    /// Those that took no connection, and why.
    pub failed: Vec<(SocketAddr, String)>,
    /// The egress proxy in between, without its credentials.
    pub proxy: Option<String>,
    pub outcome: Outcome,
    /// What a path that no API has was answered in the same stage, where that was tried.
    pub control: Option<Reply>,
}

/// How far a request got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was not sent, and why.
    NotTried(String),
    /// No address answered within the time.
    ConnectTimeout,
    /// Connections are refused, or there is no way to the address.
    Unreachable(String),
    /// The egress proxy did not connect.
    ProxyRefused(String),
    /// The server's certificate is not believed, or is not for the name.
    Certificate(String),
    /// The server wants a certificate of the client's, and does not go on without.
    WantsClientCertificate(String),
    /// The server ends the handshake.
    TlsRefused(String),
    /// TLS stood, and no whole answer came.
    NoAnswer(String),
    Answered(Reply),
}

impl Outcome {
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Outcome::Answered(reply) => Some(reply),
            _ => None,
        }
    }

    /// Whether it says anything of the place.
    pub fn was_tried(&self) -> bool {
        !matches!(self, Outcome::NotTried(_))
    }
}

impl Probe {
    /// Nothing was sent.
    pub fn not_tried(why: impl Into<String>) -> Self {
        let outcome = Outcome::NotTried(why.into());
        Self { addresses: Vec::new(), failed: Vec::new(), proxy: None, outcome, control: None }
    }
}

/// What of the call the judgement depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The first segment of the path.
    pub stage: Option<String>,
    pub has_api_key: bool,
}

/// Everything that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observations {
    pub host: HostName,
    /// What the name is by its form.
    pub name: Option<ZoneName>,
    /// The first alias in an `execute-api` zone that the name, not in one itself, leads to.
    pub alias_in_zone: Option<HostName>,
    pub call: Call,
    pub policy: Policy,
    pub system: System,
    pub vpc: Answer,
    pub public: Answer,
    /// Each DNS listener of the configuration, asked.
    pub sidegate: Vec<(SocketAddr, Answer)>,
    /// The apex of the name's zone, asked of the VPC resolver.
    pub apex: Option<(HostName, Answer)>,
    pub private_dns: PrivateDns,
    /// Where a request goes as things are.
    pub now: Place,
    /// Where it would go with Sidegate, by its configuration.
    pub with_sidegate: Place,
    /// Where the running Sidegate's answer leads, if one runs.
    pub running: Option<Place>,
    pub endpoint: Probe,
    pub internet: Probe,
    /// Only tried where `now` is elsewhere.
    pub elsewhere: Option<Probe>,
}

impl Observations {
    /// The id, if the name is an API's own.
    pub fn api_id(&self) -> Option<String> {
        let is_api = self.name.is_some_and(|name| name.form == Form::Api);
        is_api.then(|| self.host.to_string().split('.').next().map(str::to_owned)).flatten()
    }

    /// What came of going to a place.
    pub fn at(&self, place: Place) -> Option<&Probe> {
        match place {
            Place::Endpoint => Some(&self.endpoint),
            Place::Internet => Some(&self.internet),
            Place::Elsewhere => self.elsewhere.as_ref(),
            Place::Nowhere => None,
        }
    }
}
