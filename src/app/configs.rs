//! What each part is configured with, from the one configuration and from what is found on the host.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;

use super::Surroundings;
use super::take_over::Place;
use crate::admin;
use crate::config::Config;
use crate::discovery::{self, AddressSource, EndpointConfig, HealthCheck};
use crate::dns;
use crate::dns::upstream::Server;
use crate::inherited::Inherited;
use crate::interfaces;
use crate::policy::Upstream;
use crate::resolv_conf::{self, Text};

pub(super) async fn discovery_config(
    config: &Config,
    surroundings: &Surroundings,
) -> anyhow::Result<discovery::Config> {
    let all_named = !config.endpoints.is_empty() && config.endpoints.iter().all(|e| e.region.is_some());
    let region = match (&config.region, config.endpoints.first().and_then(|endpoint| endpoint.region.clone())) {
        (Some(region), _) => region.clone(),
        // Nothing is left for it to stand for.
        (None, Some(first)) if all_named => first,
        (None, _) => surroundings.metadata.region().await?,
    };
    let default_endpoint = EndpointConfig {
        region: None,
        vpce_id: None,
        addresses: AddressSource::Apex,
        private_api_ids: Vec::new(),
        health: HealthCheck::Off,
        port: 443,
    };
    let endpoints = if config.endpoints.is_empty() { vec![default_endpoint] } else { config.endpoints.clone() };
    let policy = &config.policy;
    let discovery = discovery::Config {
        region,
        dns_suffix: policy.dns_suffix,
        endpoints,
        private_api_ids: policy.private_api_ids.clone(),
        always_public_ids: policy.always_public_ids.clone(),
        always_public_names: policy.always_public_names.clone(),
        private_names: policy.private_names.clone(),
        forward_zones: config.zones.clone(),
        default_upstream: default_upstream(config, surroundings).await,
        whole_vpc: config.dns.whole_vpc,
        sources: config.discovery.clone(),
        state_dir: config.state_dir.clone(),
        state_dir_is_set: config.state_dir_is_set,
        extra_roots: config.forward.extra_roots.clone(),
    };
    if discovery.learns() {
        tracing::info!("private ids are learned: an id that public DNS does not know goes to the endpoint");
    }
    Ok(discovery)
}

/// The DNS plane's own configuration, with the `vpc` servers of this host where none are configured.
pub(super) async fn dns_config(config: &Config, surroundings: &Surroundings) -> dns::Config {
    let mut dns = config.dns.clone();
    if !config.vpc_is_set {
        let text = read(surroundings).await;
        let servers = vpc_servers(&resolv_conf::former_servers(&text), &dns.listen, surroundings.name_server_port);
        if !servers.is_empty() {
            dns.upstreams.vpc = servers;
        }
    }
    dns
}

/// The servers of a resolv.conf as an upstream group, each once, without ourselves.
pub(super) fn vpc_servers(listed: &[IpAddr], listen: &[SocketAddr], port: u16) -> Vec<Server> {
    let own: Vec<IpAddr> = interfaces::networks().into_iter().map(|(address, _)| address).collect();
    let is_us = |address: &SocketAddr| listen.iter().any(|listener| interfaces::reaches(*address, *listener, &own));
    let mut servers: Vec<Server> = Vec::new();
    for address in listed.iter().map(|ip| SocketAddr::new(*ip, port)).filter(|address| !is_us(address)) {
        let server = Server::udp(address);
        // Nobody but us minds if one is listed twice.
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

/// Who asks us in place of the VPC's servers asks for names that only those know, unless the configuration says otherwise.
async fn default_upstream(config: &Config, surroundings: &Surroundings) -> Upstream {
    if config.default_upstream_is_set {
        return config.default_upstream;
    }
    let is_implied = config.take_over || resolv_conf::look(&read(surroundings).await) != Text::Free;
    if is_implied { Upstream::Vpc } else { config.default_upstream }
}

/// The text of resolv.conf, empty where there is none. On a thread that may wait: it may lie on a file system that is gone.
async fn read(surroundings: &Surroundings) -> Vec<u8> {
    let path = surroundings.resolv_conf.clone();
    let read = tokio::task::spawn_blocking(move || resolv_conf::read(&path));
    read.await.map(Result::unwrap_or_default).unwrap_or_default()
}

/// Says what the operator should know of this configuration before it runs.
pub(super) async fn warn_of_gaps(config: &Config, surroundings: &Surroundings) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let default = default_upstream(config, surroundings).await;
    if !config.default_upstream_is_set && config.zones.is_empty() && default == Upstream::Public {
        tracing::info!(
            "names that only the VPC knows go to public DNS: set upstream.default = \"vpc\" if there are any"
        );
    }
}

/// An inherited socket that nobody reads would keep its clients waiting.
pub(super) fn refuse_unused(inherited: &Inherited, config: &Config) -> anyhow::Result<()> {
    let streams = config.forward.listeners().map(|(_, address)| address).chain(config.admin.listen);
    let streams = streams.chain(config.dns.listeners().map(|(_, address)| address));
    Ok(inherited.refuse_unused(&config.dns.listen, &streams.collect::<Vec<_>>())?)
}

/// Which file is to lead to us while we run, or may. One to keep that is not `in_force` yet must be ours to write: that is
/// said before anything changes. Of the one in force whoever keeps it says so, and a reload is about something else.
pub(super) async fn place(
    config: &Config,
    surroundings: &Surroundings,
    in_force: Option<&Place>,
) -> anyhow::Result<Option<Place>> {
    let place = Place::of(config, surroundings);
    if !config.take_over {
        // `sidegate resolv-conf install` has no other port to point at.
        return Ok(place.ok());
    }
    let place = place.context("dns.take_over")?;
    if in_force != Some(&place) {
        place.check().await.context("dns.take_over")?;
    }
    Ok(Some(place))
}

/// Who may ask admin.
pub(super) fn gate(config: &Config) -> admin::Gate {
    admin::Gate { clients: config.clients.clone(), hosts: config.admin.hosts.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_resolv_conf_has_twice_is_asked_once_and_we_ourselves_never() {
        let listed = ["192.0.2.2", "127.0.0.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse().unwrap());
        let servers = vpc_servers(&listed, &["127.0.0.1:53".parse().unwrap()], 53);
        let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["udp://192.0.2.2", "udp://192.0.2.3"]);
    }
}
