//! `sidegate check`: what a right configuration means; a wrong one never gets here.

use std::net::SocketAddr;
use std::process::ExitCode;

use super::{complain, counted, say};
use crate::config::Config;
use crate::discovery::{SourceKind, learns};
use crate::dns::Over;
use crate::forward::Entrance;
use crate::policy::Upstream;
use crate::roots;
use crate::server_tls::Certificate;

/// Prints warnings, then every listener and where names come from and go to.
pub(super) fn check(config: &Config) -> ExitCode {
    for warning in &config.warnings {
        complain(format!("warning: {warning}"));
    }
    for unusable in unusable_files(config) {
        complain(format!("warning: {unusable}; without it `sidegate run` does not start"));
    }
    say("The configuration is right.");
    for (what, addresses) in listeners(config) {
        say(format!("  {what:16} {}", listed(addresses)));
    }
    let region = config.region.as_ref().map_or_else(|| "from the metadata services".to_owned(), ToString::to_string);
    say(format!("  {:16} {region}", "region"));
    say(format!("  {:16} {}", "upstream.default", default_upstream(config)));
    let endpoints = config.endpoints.len().max(1);
    let (ids, sources) = (config.policy.private_api_ids.len(), config.discovery.len());
    say(format!("  {:16} {endpoints}", if endpoints == 1 { "endpoint" } else { "endpoints" }));
    say(format!("  {:16} {} listed, {}", "ids", counted(ids, "id"), counted(sources, "source")));
    for source in &config.discovery {
        let label = source.label();
        match source.kind {
            SourceKind::Learned => say(format!("  {:16} {label}", "source")),
            _ => say(format!("  {:16} {label}, every {:?}", "source", source.interval)),
        }
    }
    if config.discovery.is_empty() && learns(&config.policy.private_api_ids, &config.endpoints, &config.discovery) {
        say(format!("  {:16} learned, as nothing lists ids: one that public DNS does not know is private", "source"));
    }
    ExitCode::SUCCESS
}

/// What a start would fail for on this host; it may be there on the host that runs.
fn unusable_files(config: &Config) -> Vec<String> {
    let certificates = config.dns.encrypted.certificate.iter().chain(&config.forward.http_tls).cloned();
    let of_certificate = certificates.filter_map(|files| Certificate::read(files).err().map(|error| error.to_string()));
    let roots = Some(&config.forward.extra_roots).filter(|roots| !roots.is_empty());
    let of_roots = roots.and_then(|roots| roots::client_config(roots).err().map(|error| error.to_string()));
    of_certificate.chain(of_roots).collect()
}

/// By the tables of the configuration, in their order.
fn listeners(config: &Config) -> [(String, &[SocketAddr]); 7] {
    let (dns, forward) = (&config.dns, &config.forward);
    let entrance = |entrance: Entrance| format!("forward.{}", entrance.label());
    let encrypted = |over: Over| over.key().trim_end_matches(".listen").to_owned();
    [
        ("dns".to_owned(), &dns.listen),
        (encrypted(Over::Tls), &dns.encrypted.tls),
        (encrypted(Over::Https), &dns.encrypted.https),
        (entrance(Entrance::Connect), &forward.connect_listen),
        (entrance(Entrance::Sni), &forward.sni_listen),
        (entrance(Entrance::Http), &forward.http_listen),
        ("admin".to_owned(), config.admin.listen.as_slice()),
    ]
}

fn listed(addresses: &[SocketAddr]) -> String {
    match addresses {
        [] => "off".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Where names go that no rule before the last is about.
fn default_upstream(config: &Config) -> &'static str {
    match config.default_upstream {
        _ if !config.default_upstream_is_set && config.take_over => "vpc, as dns.take_over is on",
        Upstream::Public if !config.default_upstream_is_set => "public, or vpc where resolv.conf is taken over",
        Upstream::Vpc => "vpc",
        Upstream::Public | Upstream::Zone(_) => "public",
    }
}
