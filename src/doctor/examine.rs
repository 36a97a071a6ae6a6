//! The examination: asks every resolver, works out which way leads where, and makes the calls. All of it in parallel,
//! and over within 14 s.
//!
//! `app` calls [`examine`] with functions to resolve with. The judgement is [`diagnose`](super::diagnose), without I/O.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture, join_all};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::name::ZoneName;
use super::observations::{Answer, Call, Observations, Outcome, Place, Policy, PrivateDns, Probe, System, Way};
use super::places::{Places, way_of};
use super::probe::{Destination, probe};
use super::reply::Says;
use super::request::Request;
use super::verdict::knows;
use crate::egress_proxy::{EgressProxy, Host};
use crate::policy::{HostName, Networks, Table};

/// Everything, from the first question to the last answer.
const WITHIN: Duration = Duration::from_secs(14);
/// Questions to resolvers. Each of them gives up sooner by itself.
const ASK: Duration = Duration::from_millis(4500);
/// The last request, of a path that no API has.
const CONTROL: Duration = Duration::from_secs(2);

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// One server, as a stub resolver asks it.
    Server(SocketAddr),
    /// The `vpc` group of the configuration, beside every policy and cache.
    Vpc,
    /// The `public` group.
    Public,
}

/// Asks for both families of addresses.
pub type Ask = Arc<dyn Fn(Whom, HostName) -> BoxFuture<'static, Answer> + Send + Sync>;

/// What `app` hands over.
pub struct Surroundings {
    pub ask: Ask,
    /// Servers that programs on this host ask, in order.
    pub system_servers: Vec<SocketAddr>,
    /// What the hosts file says of the name.
    pub hosts_file: Vec<IpAddr>,
    /// Where a running Sidegate answers DNS, by its configuration.
    pub listeners: Vec<SocketAddr>,
    /// Who is trusted.
    pub tls: ClientConfig,
    /// 443 but in labs.
    pub public_port: u16,
    /// Networks that count as the internet although they are not globally routable.
    pub public_networks: Networks,
    /// Stands between us and the internet.
    pub parent_proxy: Option<EgressProxy>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("system_servers", &self.system_servers).finish_non_exhaustive()
    }
}

/// Finds out all there is to find out. `known` gives the policy's table, or why there is none.
pub async fn examine(
    around: &Surroundings,
    request: &Request,
    known: impl Future<Output = Result<Arc<Table>, String>>,
) -> Observations {
    let begun = Instant::now();
    let names = ask_all(around, request, known, begun + ASK).await;
    let (table, why) = match &names.table {
        Ok(table) => (Some(table.as_ref()), String::new()),
        Err(why) => (None, why.clone()),
    };
    let places = Places::new(&names, table, around);
    let policy = match table {
        Some(table) => way_of(table, &request.host, names.alias_in_zone.as_ref(), &names.public),
        None => Policy { way: Way::Unknown(why), rule: None, origin: None, endpoint: None },
    };
    let system = names.system.answer();
    let now = places.of(system.addresses());
    let with_sidegate = match &policy.way {
        Way::Endpoint => Place::Endpoint,
        // A name that goes to the proxy unresolved may well have addresses there.
        Way::Public if around.parent_proxy.is_some() && names.public.addresses().is_empty() => Place::Internet,
        Way::Public => places.of(names.public.addresses()),
        Way::Inside => places.of(names.vpc.addresses()),
        Way::NoSuchName | Way::NotReady(_) | Way::Unknown(_) => Place::Nowhere,
    };
    let answering = names.sidegate.iter().find(|(_, answer)| !matches!(answer, Answer::Silent(_)));
    let running = answering.map(|(_, answer)| places.of(answer.addresses()));

    let calls = Calls { around, request, deadline: begun + WITHIN, with_sidegate };
    let elsewhere = (now == Place::Elsewhere).then(|| {
        calls.make(Place::Elsewhere, places.sockets(system.addresses()), "the resolver gives no such address")
    });
    let internet_addresses = places.internet(&names.public, &system);
    let why_no_internet = match &names.public {
        Answer::NoSuchName => "public DNS does not know the name",
        Answer::Silent(_) | Answer::Failed(_) => "public DNS gives no answer",
        Answer::NoAddress => "it has no address in public DNS",
        Answer::Found { .. } => "public DNS gives no address of the internet's",
    };
    let (endpoint, internet, elsewhere) = tokio::join!(
        calls.make(Place::Endpoint, places.endpoint.clone(), "no endpoint is known"),
        calls.make_outward(internet_addresses, why_no_internet, &names),
        OptionFuture::from(elsewhere),
    );
    let mut seen = Observations {
        host: request.host,
        name: ZoneName::of(&request.host),
        alias_in_zone: names.alias_in_zone,
        call: Call { stage: request.stage().map(str::to_owned), has_api_key: request.has_api_key() },
        policy,
        private_dns: names.private_dns(),
        apex: names.apex,
        system: names.system,
        vpc: names.vpc,
        public: names.public,
        sidegate: names.sidegate,
        now,
        with_sidegate,
        running,
        endpoint,
        internet,
        elsewhere,
    };
    calls.control(&mut seen).await;
    seen
}

/// What resolvers said, and what is known.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) host: HostName,
    pub(super) table: Result<Arc<Table>, String>,
    pub(super) system: System,
    pub(super) vpc: Answer,
    pub(super) public: Answer,
    pub(super) sidegate: Vec<(SocketAddr, Answer)>,
    pub(super) apex: Option<(HostName, Answer)>,
    pub(super) alias_in_zone: Option<HostName>,
}

impl Names {
    fn private_dns(&self) -> PrivateDns {
        use crate::policy::is_globally_routable;
        match &self.apex {
            Some((_, Answer::Found { addresses, .. })) if addresses.iter().any(|ip| !is_globally_routable(*ip)) => {
                PrivateDns::On
            }
            Some((_, answer)) if answer.is_about_the_name() => PrivateDns::Off,
            _ => PrivateDns::Unknown,
        }
    }
}

async fn ask_all(
    around: &Surroundings,
    request: &Request,
    known: impl Future<Output = Result<Arc<Table>, String>>,
    deadline: Instant,
) -> Names {
    let ask = |whom, name| async move {
        let answer = timeout_at(deadline, (around.ask)(whom, name)).await;
        answer.unwrap_or_else(|_| Answer::Silent("no answer in time".to_owned()))
    };
    let each = |servers: &[SocketAddr]| {
        let asked = servers.iter().map(|server| {
            let (ask, server) = (&ask, *server);
            async move { (server, ask(Whom::Server(server), request.host).await) }
        });
        join_all(asked.collect::<Vec<_>>())
    };
    let own_apex = ZoneName::of(&request.host).map(|name| name.apex);
    let apex_of_own = OptionFuture::from(own_apex.map(|apex| ask(Whom::Vpc, apex)));
    let ((vpc, public, apex_answer), servers, sidegate, known) = tokio::join!(
        async { tokio::join!(ask(Whom::Vpc, request.host), ask(Whom::Public, request.host), apex_of_own) },
        each(&around.system_servers),
        each(&around.listeners),
        timeout_at(deadline, known),
    );
    let mut apex = own_apex.zip(apex_answer);
    let in_zone = |name: &&HostName| ZoneName::of(name).is_some();
    let alias_in_zone =
        own_apex.is_none().then(|| vpc.aliases().iter().chain(public.aliases()).find(in_zone).copied()).flatten();
    if let Some(name) = alias_in_zone.as_ref().and_then(ZoneName::of) {
        apex = Some((name.apex, ask(Whom::Vpc, name.apex).await));
    }
    let table = known.unwrap_or_else(|_| Err("what is known could not be found out in time".to_owned()));
    let system = System { hosts_file: around.hosts_file.clone(), servers };
    Names { host: request.host, table, system, vpc, public, sidegate, apex, alias_in_zone }
}

/// The calls of one examination.
struct Calls<'a> {
    around: &'a Surroundings,
    request: &'a Request,
    deadline: Instant,
    /// Where the policy sends the name: the only place for a request that says who sends it.
    with_sidegate: Place,
}

impl Calls<'_> {
    async fn make(&self, place: Place, addresses: Vec<SocketAddr>, if_none: &str) -> Probe {
        self.go(place, Destination { addresses, proxy: None }, if_none).await
    }

    /// To the internet: through the egress proxy, where there is one.
    async fn make_outward(&self, addresses: Vec<SocketAddr>, if_none: &str, names: &Names) -> Probe {
        let Some(proxy) = &self.around.parent_proxy else {
            return self.make(Place::Internet, addresses, if_none).await;
        };
        if names.public == Answer::NoSuchName {
            return Probe::not_tried(if_none);
        }
        let addresses = match proxy.host() {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => (self.around.ask)(Whom::Vpc, *name).await.addresses().to_vec(),
        };
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, proxy.port())).collect();
        let destination = Destination { addresses, proxy: Some((proxy.clone(), self.around.public_port)) };
        self.go(Place::Internet, destination, "the name of forward.parent_proxy has no address").await
    }

    async fn go(&self, place: Place, destination: Destination, if_none: &str) -> Probe {
        if destination.addresses.is_empty() {
            return Probe::not_tried(if_none);
        }
        let is_meant = place == self.with_sidegate;
        if !is_meant && !self.request.may_be_sent_everywhere() {
            return Probe::not_tried("a call with headers or a method of its own goes only where the policy sends it");
        }
        // What may be meant for a private API does not leave with its query.
        let bare = (place == Place::Internet && !is_meant).then(|| self.request.without_query());
        probe(&destination, bare.as_ref().unwrap_or(self.request), &self.around.tls, self.deadline).await
    }

    /// Where `Forbidden` came, a path that no API has tells whether the stage stands. Not where Sidegate would lead to a
    /// place that serves the call: that says enough.
    async fn control(&self, seen: &mut Observations) {
        let Some(control) = self.request.control() else { return };
        if seen.at(seen.with_sidegate).is_some_and(knows) {
            return;
        }
        let deadline = self.deadline.min(Instant::now() + CONTROL);
        let (endpoint, internet) = (&mut seen.endpoint, &mut seen.internet);
        let asked = [endpoint, internet].into_iter().chain(&mut seen.elsewhere).map(|called| {
            let control = &control;
            async move {
                let forbidden = called.outcome.reply().is_some_and(|reply| reply.says() == Says::Forbidden);
                if !forbidden {
                    return;
                }
                let port = self.around.public_port;
                let proxy = called.proxy.is_some().then(|| self.around.parent_proxy.clone()).flatten();
                let proxy = proxy.map(|proxy| (proxy, port));
                let destination = Destination { addresses: called.addresses.clone(), proxy };
                let again = probe(&destination, control, &self.around.tls, deadline).await;
                if let Outcome::Answered(reply) = again.outcome {
                    called.control = Some(reply);
                }
            }
        });
        join_all(asked).await;
    }
}
