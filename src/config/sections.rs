//! The tables that stand once: top level, `[policy]`, `[upstream]`, `[dns]`, `[forward]`, `[admin]`, `[log]`.
//!
//! `load` calls each in turn. What rules across keys need goes into [`Facts`] on the way.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::document::{Entry, Place};
use super::inputs::REGION_VARIABLES;
use super::read::{Located, Reader, values_of};
use super::rules::{Facts, duplicate_servers};
use super::{LogConfig, LogFormat, LogLevel, Policy, values};
use crate::dns::upstream::Server;
use crate::dns::{Encrypted, Over, ZoneAnswer};
use crate::policy::{ApiId, HostName, Networks, Region, Upstream};
use crate::server_tls::CertificateFiles;
use crate::{admin, forward};

/// The longest `grace` and `linger`: beyond it a supervisor has long killed us.
const LONGEST_SHUTDOWN: &str = "10m";
/// Threads beyond this only fight for the same queue, so a big host does not get more unless asked for.
const MOST_DEFAULT_WORKERS: usize = 4;

pub(super) struct Top {
    pub(super) state_dir: Option<PathBuf>,
    pub(super) state_dir_is_set: bool,
    pub(super) clients: Networks,
    pub(super) grace: Duration,
    pub(super) linger: Duration,
}

pub(super) fn top(reader: &mut Reader<'_>) -> Top {
    let clients = values_of(&reader.list("clients", values::network));
    Top {
        state_dir: reader.path("state_dir").map(|path| path.value),
        state_dir_is_set: reader.is_set("state_dir"),
        clients: if clients.is_empty() { Networks::private() } else { Networks::new(clients) },
        grace: reader.duration("grace", "0s", LONGEST_SHUTDOWN).unwrap_or_default(),
        linger: reader.duration("linger", "0s", LONGEST_SHUTDOWN).unwrap_or_default(),
    }
}

pub(super) struct Suffix {
    pub(super) value: Option<HostName>,
    /// Whether regions need not fit a partition; also when the suffix that was written is no name.
    pub(super) any_region: bool,
}

pub(super) fn dns_suffix(reader: &mut Reader<'_>) -> Suffix {
    let problems = reader.problems.len();
    let value = reader.text("policy.dns_suffix", values::host_name).map(|suffix| suffix.value);
    Suffix { value, any_region: value.is_some() || reader.problems.len() > problems }
}

/// `policy.region`, else the region that AWS tools would take.
pub(super) fn region(reader: &mut Reader<'_>, environment: &[(String, String)], any_region: bool) -> Option<Region> {
    if reader.is_set("policy.region") && !reader.is_empty("policy.region") {
        return reader.text("policy.region", |text| values::region(text, any_region)).map(|region| region.value);
    }
    let given = |wanted: &&str| environment.iter().find(|(name, value)| name == wanted && !value.trim().is_empty());
    let (name, value) = REGION_VARIABLES.iter().find_map(given)?;
    let entry = Entry { text: value.trim().to_owned(), place: Place::Named(name.clone()), secret: false };
    reader.entry(&entry, |text| values::region(text, any_region)).map(|region| region.value)
}

/// An entry of `policy.always_public`.
#[derive(Clone)]
enum Public {
    Id(ApiId),
    Name(Box<HostName>),
}

pub(super) fn policy(reader: &mut Reader<'_>, dns_suffix: Option<HostName>, facts: &mut Facts) -> Policy {
    let private = reader.list("policy.private_api_ids", values::api_id);
    let private_api_ids = values_of(&private);
    facts.private_ids.extend(private);
    let mut policy = Policy { private_api_ids, dns_suffix, ..Policy::default() };

    let public = |text: &str| {
        if text.contains('.') {
            values::host_name(text).map(|name| Public::Name(Box::new(name)))
        } else {
            values::api_id(text).map(Public::Id)
        }
    };
    for Located { value, place, shown } in reader.list("policy.always_public", public) {
        match value {
            Public::Id(id) => {
                policy.always_public_ids.push(id.clone());
                facts.always_public_ids.push(Located { value: id, place, shown });
            }
            Public::Name(name) => policy.always_public_names.push(*name),
        }
    }
    for (name, id) in reader.table("policy.private_names").to_vec() {
        let (name, id) = (reader.entry(&name, values::host_name), reader.entry(&id, values::vpce_id));
        if let (Some(name), Some(id)) = (name, id) {
            policy.private_names.push((name.value, id.value.clone()));
            facts.private_names.push((name, id));
        }
    }
    policy
}

/// `upstream.public` and `upstream.vpc`.
pub(super) fn servers(reader: &mut Reader<'_>, facts: &mut Facts) -> (Vec<Server>, Vec<Server>) {
    let mut group = |path| {
        let servers = reader.list(path, values::server);
        duplicate_servers(path, &servers, reader.problems);
        let plain = values_of(&servers);
        facts.servers.extend(servers);
        plain
    };
    (group("upstream.public"), group("upstream.vpc"))
}

pub(super) struct UpstreamSection {
    pub(super) default: Upstream,
    pub(super) default_is_set: bool,
    pub(super) vpc_is_set: bool,
    pub(super) via_parent: bool,
}

pub(super) fn upstream(reader: &mut Reader<'_>, facts: &mut Facts) -> UpstreamSection {
    let words = [("public", Upstream::Public), ("vpc", Upstream::Vpc)];
    let via_parent = reader.boolean("upstream.via_parent");
    facts.via_parent = via_parent;
    UpstreamSection {
        default: reader.required_text("upstream.default", |text| values::one_of(text, &words)).unwrap_or_default(),
        default_is_set: reader.is_set("upstream.default"),
        vpc_is_set: reader.is_set("upstream.vpc"),
        via_parent,
    }
}

pub(super) struct DnsSection {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) workers: NonZeroUsize,
    pub(super) answer: ZoneAnswer,
    pub(super) take_over: bool,
    pub(super) encrypted: Encrypted,
    pub(super) whole_vpc: bool,
}

/// `sni` is what `forward.sni` listens on: with `answer = "forwarder"`, names resolve to where that is reached.
pub(super) fn dns(reader: &mut Reader<'_>, sni: &[SocketAddr], facts: &mut Facts) -> DnsSection {
    let listed = values_of(&reader.list("dns.forwarder_addresses", values::address));
    facts.has_forwarder_addresses = !listed.is_empty();
    let on_443 = sni.iter().filter(|listener| listener.port() == 443).map(SocketAddr::ip);
    let forwarder = if listed.is_empty() { on_443.collect() } else { listed };
    let by_forwarder =
        reader.required_text("dns.answer", |text| values::one_of(text, &[("endpoint", false), ("forwarder", true)]));
    facts.dns_tls = (reader.path("dns.tls_certificate"), reader.path("dns.tls_key"));
    let encrypted = Encrypted {
        tls: listeners(reader, facts, Over::Tls.key()),
        https: listeners(reader, facts, Over::Https.key()),
        certificate: certificate_files(&facts.dns_tls, "dns.tls_certificate and tls_key"),
    };
    let workers = reader.integer("dns.workers", (1, 256), "write the number of cores it may use").map(usize::from);
    DnsSection {
        listen: listeners(reader, facts, "dns.listen"),
        workers: workers.and_then(NonZeroUsize::new).unwrap_or_else(default_workers),
        answer: if by_forwarder == Some(true) { ZoneAnswer::Forwarder(forwarder) } else { ZoneAnswer::Endpoint },
        take_over: reader.boolean("dns.take_over"),
        encrypted,
        whole_vpc: reader.boolean("dns.whole_vpc"),
    }
}

/// Both files, or none; `rules` says so where only one is named.
fn certificate_files(
    (certificate, key): &(Option<Located<PathBuf>>, Option<Located<PathBuf>>),
    named_by: &'static str,
) -> Option<CertificateFiles> {
    let (certificate, key) = (certificate.as_ref()?.value.clone(), key.as_ref()?.value.clone());
    Some(CertificateFiles { certificate, key, named_by })
}

fn default_workers() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(MOST_DEFAULT_WORKERS).map_or(cores, |most| cores.min(most))
}

fn listeners(reader: &mut Reader<'_>, facts: &mut Facts, path: &'static str) -> Vec<SocketAddr> {
    let listeners = reader.list(path, values::listener);
    let plain = values_of(&listeners);
    facts.listeners.extend(listeners.into_iter().map(|listener| (path, listener)));
    plain
}

pub(super) fn forward(reader: &mut Reader<'_>, clients: Networks, facts: &mut Facts) -> forward::Config {
    let others = [("direct", forward::Others::Direct), ("refuse", forward::Others::Refuse)];
    facts.tls = (reader.path("forward.http.tls_certificate"), reader.path("forward.http.tls_key"));
    let http_tls = certificate_files(&facts.tls, "forward.http.tls_certificate and tls_key");
    let parent_proxy = reader.text("forward.parent_proxy", values::proxy);
    facts.parent_proxy.clone_from(&parent_proxy);
    forward::Config {
        connect_listen: listeners(reader, facts, "forward.connect.listen"),
        sni_listen: listeners(reader, facts, "forward.sni.listen"),
        http_listen: listeners(reader, facts, "forward.http.listen"),
        http_tls,
        others: reader.text("forward.others", |text| values::one_of(text, &others)).map(|others| others.value),
        allow: values_of(&reader.list("forward.allow", values::destination)),
        clients,
        public_networks: Networks::new(values_of(&reader.list("forward.public_networks", values::network))),
        public_port: reader.port("forward.public_port").unwrap_or(443),
        extra_roots: values_of(&reader.list("forward.extra_roots", values::path)),
        parent_proxy: parent_proxy.map(|proxy| proxy.value),
    }
}

pub(super) fn admin(reader: &mut Reader<'_>, facts: &mut Facts) -> admin::Config {
    let listen = reader.text("admin.listen", values::listener);
    let plain = listen.as_ref().map(|listen| listen.value);
    facts.listeners.extend(listen.map(|listen| ("admin.listen", listen)));
    admin::Config { listen: plain, hosts: values_of(&reader.list("admin.hosts", values::host_name)) }
}

pub(super) fn log(reader: &mut Reader<'_>) -> LogConfig {
    let levels = [
        ("info", LogLevel::Info),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogConfig {
        level: reader.required_text("log.level", |text| values::one_of(text, &levels)).unwrap_or(LogLevel::Info),
        format: reader.required_text("log.format", |text| values::one_of(text, &formats)).unwrap_or(LogFormat::Text),
        access: reader.boolean("log.access"),
    }
}
