//! What `doctor` is handed: functions that resolve, the policy as a Sidegate that starts now would have it, whom to trust.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Surroundings;
use super::closures::look_up;
use super::configs::{discovery_config, dns_config};
use crate::config::Config;
use crate::discovery::Discovery;
use crate::dns::upstream::{AskError, Server, Upstreams};
use crate::dns::{self, Message, Plane, Question, Resolver};
use crate::doctor::{self, Answer, Observations, Request, Whom};
use crate::policy::{Family, HostName, Table, Upstream, as_seen_from_here};
use crate::{resolv_conf, roots};

/// Endpoints and sources have so long; what they have not said by then is not known.
const KNOWN: Duration = Duration::from_secs(3);
/// One server of resolv.conf has so long: a Sidegate there answers within four seconds, with a reason if with nothing else.
const SERVER: Duration = Duration::from_millis(4300);

/// How programs on this host resolve names.
#[derive(Debug, Clone, Default)]
pub struct SystemResolver {
    /// In the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// The text of the hosts file, which comes first.
    pub hosts: String,
}

impl SystemResolver {
    /// As resolv.conf(5) says: the servers in the file, at most three of them, else one on this host. The hosts file is
    /// the one beside it, so that `/proc/PID/root/etc/resolv.conf` stands for another container.
    pub fn of_file(resolv_conf: &Path) -> Self {
        let text = std::fs::read(resolv_conf).unwrap_or_default();
        let mut servers: Vec<IpAddr> = resolv_conf::name_servers(&text).into_iter().take(3).collect();
        if servers.is_empty() {
            servers.push([127, 0, 0, 1].into());
        }
        let hosts = std::fs::read_to_string(resolv_conf.with_file_name("hosts")).unwrap_or_default();
        Self { servers: servers.into_iter().map(|ip| SocketAddr::new(ip, 53)).collect(), hosts }
    }

    /// As [`SystemResolver::of_file`], for a file that somebody chose: one that is missing is a slip, and no host without
    /// servers.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_chosen_file(resolv_conf: &Path) -> anyhow::Result<Self> {
        resolv_conf::read(resolv_conf).with_context(|| {
            format!("cannot read {}: correct --resolv-conf, or leave it out for this host's own", resolv_conf.display())
        })?;
        Ok(Self::of_file(resolv_conf))
    }

    /// What hosts(5) says of a name.
    fn hosts_of(&self, host: &HostName) -> Vec<IpAddr> {
        let of_line = |line: &str| {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words.any(|word| word.parse::<HostName>().is_ok_and(|name| name == *host)).then_some(address)
        };
        self.hosts.lines().filter_map(of_line).collect()
    }
}

/// Examines one call under a configuration: asks, calls, changes nothing.
///
/// # Errors
/// Upstreams or roots that cannot be set up. What is wrong beyond that is what is looked for.
pub async fn examine(
    config: &Config,
    surroundings: &Surroundings,
    system: &SystemResolver,
    request: &Request,
) -> anyhow::Result<Observations> {
    let quiet = dns_config(config, surroundings).await.quiet();
    let plane = Plane::bind(quiet, watch::Sender::new(Arc::default()).subscribe(), None)?;
    let resolver = Arc::clone(&plane.service().borrow().resolver);
    let around = doctor::Surroundings {
        ask: ask(resolver),
        system_servers: system.servers.clone(),
        hosts_file: system.hosts_of(&request.host),
        listeners: config.dns.listen.iter().copied().map(as_seen_from_here).collect(),
        tls: roots::client_config(&config.forward.extra_roots)?,
        public_port: config.forward.public_port,
        public_networks: config.forward.public_networks.clone(),
        parent_proxy: config.forward.parent_proxy.clone(),
    };
    let known = known(config, surroundings, &plane).map(|known| known.map_err(|error| format!("{error:#}")));
    Ok(doctor::examine(&around, request, known).await)
}

/// As [`super::known()`], but in time: what a slow source or endpoint has not said is missing from the table.
async fn known(config: &Config, surroundings: &Surroundings, plane: &Plane) -> anyhow::Result<Arc<Table>> {
    let discovery = Discovery::new(discovery_config(config, surroundings).await?)?;
    let look_up = look_up(plane.service());
    let tools = discovery.tools(Arc::clone(&look_up))?;
    let both = async { tokio::join!(discovery.look_up_endpoints(&look_up), discovery.read_sources(&tools)) };
    let _ = timeout(KNOWN, both).await;
    let table = Arc::clone(&discovery.table().borrow());
    Ok(table)
}

fn ask(resolver: Arc<Resolver>) -> doctor::Ask {
    Arc::new(move |whom, name| {
        let resolver = Arc::clone(&resolver);
        async move {
            let of = |family| one(&resolver, whom, Question::for_addresses(name, family));
            let (v4, v6) = tokio::join!(of(Family::V4), of(Family::V6));
            joined(&name, [v4, v6])
        }
        .boxed()
    })
}

async fn one(resolver: &Resolver, whom: Whom, question: Question) -> Result<Message, AskError> {
    match whom {
        Whom::Vpc => resolver.look_up(&question, Upstream::Vpc).await,
        Whom::Public => resolver.look_up(&question, Upstream::Public).await,
        Whom::Server(address) => {
            let only = dns::Upstreams { public: vec![Server::udp(address)], ..dns::Upstreams::default() };
            // A plain server needs neither roots nor a name looked up.
            let group = Upstreams::new(&only, &[], None).map_err(|_| AskError::NoServer)?;
            group.ask(Upstream::Public, &question, Instant::now() + SERVER, None).await
        }
    }
}

/// One answer of both families: an address of either is one, and what one of them says of the name holds for both.
fn joined(name: &HostName, answers: [Result<Message, AskError>; 2]) -> Answer {
    let (mut addresses, mut aliases) = (Vec::new(), Vec::new());
    let mut worst = None;
    for answer in answers {
        let message = match answer {
            Ok(message) => message,
            Err(AskError::Lame(code)) => {
                worst.get_or_insert(Answer::Failed(format!("answered {code}")));
                continue;
            }
            Err(error) => {
                worst.get_or_insert(Answer::Silent(error.to_string()));
                continue;
            }
        };
        if let Some(code) = message.failure() {
            worst.get_or_insert(Answer::Failed(failure(&message, code)));
        } else if message.rcode == dns::rcode::NXDOMAIN {
            worst = Some(Answer::NoSuchName);
        }
        addresses.extend(message.addresses());
        if aliases.is_empty() {
            let chain = message.chain(name.wire()).into_iter().skip(1);
            aliases.extend(chain.filter_map(|link| HostName::from_wire(link).ok()));
        }
    }
    match worst {
        _ if !addresses.is_empty() => Answer::Found { aliases, addresses },
        Some(worst) => worst,
        None => Answer::NoAddress,
    }
}

/// The code, and the reasons that came with it (RFC 8914).
fn failure(message: &Message, code: &str) -> String {
    let told = message.extended_errors().into_iter().map(|(_, text)| String::from_utf8_lossy(text).into_owned());
    let told: Vec<String> = told.map(|text| text.chars().filter(|c| !c.is_control()).take(200).collect()).collect();
    let told = told.into_iter().filter(|text: &String| !text.is_empty()).collect::<Vec<_>>().join("; ");
    if told.is_empty() { format!("answered {code}") } else { format!("answered {code}: {told}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_read_as_every_program_reads_it() {
        let hosts =
            "10.0.0.1 Api.Example.com api # one\n# 10.0.0.2 api.example.com\n::1 localhost api.example.com.\nx y\n";
        let system = SystemResolver { servers: Vec::new(), hosts: hosts.to_owned() };
        let found = system.hosts_of(&"api.example.com".parse().unwrap());
        assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(system.hosts_of(&"example.com".parse().unwrap()).is_empty());
    }

    #[test]
    fn a_resolv_conf_stands_for_itself_and_the_hosts_file_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        assert_eq!(SystemResolver::of_file(&file).servers, ["127.0.0.1:53".parse().unwrap()], "resolv.conf(5)");
        std::fs::write(&file, "nameserver 10.0.0.2\nnameserver ::1\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n")
            .unwrap();
        std::fs::write(directory.path().join("hosts"), "10.9.9.9 a.b\n").unwrap();
        let system = SystemResolver::of_file(&file);
        assert_eq!(system.servers, ["10.0.0.2:53", "[::1]:53", "10.0.0.3:53"].map(|server| server.parse().unwrap()));
        assert_eq!(system.hosts_of(&"a.b".parse().unwrap()), ["10.9.9.9".parse::<IpAddr>().unwrap()]);
    }
}
