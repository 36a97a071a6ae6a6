//! What each change does to the table, and to its generation.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::discovery::compose::nearest_first;
use crate::discovery::config::{SourceConfig, SourceKind};
use crate::discovery::endpoints::LookUp;
use crate::policy::{Addresses, Route, route};

const ZONE: &str = "execute-api.us-east-1.amazonaws.com";

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn config() -> Config {
    Config::of_test(AddressSource::Apex)
}

fn endpoint(addresses: AddressSource) -> EndpointConfig {
    Config::of_test(addresses).endpoints.remove(0)
}

fn is_private(discovery: &Discovery, host: &str) -> bool {
    let table = Arc::clone(&discovery.table().borrow());
    matches!(route(&table, &name(host)).route, Route::Endpoint(_))
}

fn generation(discovery: &Discovery) -> u64 {
    discovery.table().borrow().generation
}

fn found(addresses: &[&str], ttl: u64) -> Addresses {
    let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
    Addresses { fresh_until: Some(Instant::now() + Duration::from_secs(ttl)), ..nearest_first(addresses, &[]) }
}

#[test]
fn ids_are_learned_only_where_nothing_else_is_known() {
    let learns = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        config.learns()
    };
    assert!(learns(|_| {}));
    assert!(!learns(|config| config.private_api_ids = vec!["a1".parse().unwrap()]));
    assert!(!learns(|config| config.endpoints[0].private_api_ids = vec!["a1".parse().unwrap()]));
    let source = |kind| SourceConfig { kind, interval: Duration::from_secs(60), required: false };
    assert!(source(SourceKind::Learned).label() == "learned");
    let mut explicit = config();
    explicit.private_api_ids = vec!["a1".parse().unwrap()];
    explicit.sources = vec![source(SourceKind::Learned)];
    assert!(explicit.learns());
    explicit.sources = vec![source(SourceKind::File { path: "/ids".into() })];
    assert!(!explicit.learns());
}

#[test]
fn a_learned_name_goes_to_the_endpoint_until_public_dns_knows_it() {
    let discovery = Discovery::new(config()).unwrap();
    let host = format!("a1.{ZONE}");
    let before = generation(&discovery);
    discovery.learn(&name(&host));
    assert!(is_private(&discovery, &host));
    let learned = generation(&discovery);
    assert!(learned > before);
    discovery.learn(&name(&host));
    assert_eq!(generation(&discovery), learned, "no news changes nothing");
    discovery.unlearn(&name(&host));
    assert!(!is_private(&discovery, &host));
}

#[tokio::test]
async fn a_learned_name_is_forgotten_when_its_time_is_over() {
    let discovery = Arc::new(Discovery::new(config()).unwrap());
    let host = format!("a1.{ZONE}");
    discovery.state().learned.add(name(&host), Instant::now() - Duration::from_secs(61));
    discovery.publish(|table| table.learned = Arc::new([name(&host)].into()));
    let mut table = discovery.table();
    table.borrow_and_update();
    let expiring = tokio::spawn({
        let discovery = Arc::clone(&discovery);
        async move { discovery.expire_learned().await }
    });
    tokio::time::timeout(Duration::from_secs(10), table.changed()).await.unwrap().unwrap();
    assert!(!is_private(&discovery, &host));
    expiring.abort();
}

#[test]
fn a_ttl_that_starts_anew_is_no_change_but_another_address_is() {
    let discovery = Discovery::new(config()).unwrap();
    let index = EndpointIndex(0);
    discovery.set_addresses(index, found(&["10.0.0.1", "10.0.0.2"], 60));
    let before = generation(&discovery);
    let fresh = found(&["10.0.0.1", "10.0.0.2"], 90);
    discovery.set_addresses(index, fresh.clone());
    assert_eq!(generation(&discovery), before);
    assert_eq!(discovery.table().borrow().endpoints()[0].addresses, fresh);
    discovery.set_addresses(index, found(&["10.0.0.1"], 60));
    assert!(generation(&discovery) > before);
}

#[test]
fn addresses_in_a_network_of_this_host_come_first_then_those_in_its_zone() {
    let all = ["198.51.100.1", "127.0.0.9", "198.51.100.2", "::1"].map(|text| text.parse::<IpAddr>().unwrap());
    let sorted = nearest_first(all.into_iter(), &[]);
    assert_eq!(sorted.v4[0].to_string(), "127.0.0.9");
    assert_eq!((sorted.near_v4, sorted.v4.len(), sorted.near_v6), (1, 3, 1));
    let sorted = nearest_first(all.into_iter(), &[all[2]]);
    assert_eq!(
        sorted.v4.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["127.0.0.9", "198.51.100.2", "198.51.100.1"]
    );
    assert_eq!(sorted.near_v4, 2, "what is in this host's zone is near, and comes after what is in its subnet");
}

#[test]
fn a_reload_keeps_addresses_of_endpoints_that_stay_and_forgets_what_was_learned() {
    let discovery = Discovery::new(config()).unwrap();
    discovery.set_addresses(EndpointIndex(0), found(&["10.0.0.1"], 60));
    discovery.learn(&name(&format!("a1.{ZONE}")));
    let before = generation(&discovery);
    let mut next = config();
    next.endpoints.insert(0, endpoint(AddressSource::Static(vec!["10.9.9.9".parse().unwrap()])));
    let discovery = discovery.successor(next).unwrap();
    let table = Arc::clone(&discovery.table().borrow());
    assert_eq!(table.endpoints()[0].addresses.v4[0].to_string(), "10.9.9.9");
    assert_eq!(table.endpoints()[1].addresses.v4[0].to_string(), "10.0.0.1");
    assert!(table.learned.is_empty());
    assert!(generation(&discovery) > before);
}

#[test]
fn an_id_of_one_endpoint_counts_in_its_region_only() {
    let mut config = config();
    config.endpoints[0].private_api_ids = vec!["bound1".parse().unwrap()];
    let other =
        EndpointConfig { region: Some("eu-west-1".parse().unwrap()), vpce_id: None, ..endpoint(AddressSource::Apex) };
    config.endpoints.push(other);
    let discovery = Discovery::new(config).unwrap();
    assert!(is_private(&discovery, &format!("bound1.{ZONE}")));
    assert!(!is_private(&discovery, "bound1.execute-api.eu-west-1.amazonaws.com"));
}

#[test]
fn a_reload_to_another_region_takes_no_addresses_along() {
    let discovery = Discovery::new(config()).unwrap();
    discovery.set_addresses(EndpointIndex(0), found(&["10.0.0.1"], 60));
    let discovery = discovery.successor(Config { region: "eu-west-1".parse().unwrap(), ..config() }).unwrap();
    assert!(discovery.table().borrow().endpoints()[0].addresses.is_empty());
}

/// Required sources of these kinds.
fn with_sources(kinds: impl IntoIterator<Item = SourceKind>) -> Config {
    let source = |kind| SourceConfig { kind, interval: Duration::from_secs(60), required: true };
    Config { sources: kinds.into_iter().map(source).collect(), ..config() }
}

fn url(text: &str) -> SourceKind {
    SourceKind::Url { url: text.to_owned(), headers: Vec::new() }
}

async fn read_once(discovery: &Discovery) {
    let look_up: LookUp = Arc::new(|_, _| Box::pin(async { Err("nobody to ask".to_owned()) }));
    discovery.read_sources(&discovery.tools(look_up).unwrap()).await;
}

/// A list in a file, and a discovery that has read it.
async fn of_file(text: &str) -> (tempfile::TempDir, Config, Discovery) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    std::fs::write(&path, text).unwrap();
    let config = with_sources([SourceKind::File { path }]);
    let discovery = Discovery::new(config.clone()).unwrap();
    read_once(&discovery).await;
    (folder, config, discovery)
}

#[tokio::test]
async fn sources_whose_names_differ_in_what_is_not_shown_are_told_apart_and_awaited_one_by_one() {
    let both = ["http://127.0.0.1:1/ids?account=1", "http://127.0.0.1:1/ids?account=2"].map(url);
    let discovery = Arc::new(Discovery::new(with_sources(both)).unwrap());
    let labels: Vec<_> = discovery.sources().into_iter().map(|source| source.label).collect();
    assert_eq!(labels, ["url http://127.0.0.1:1/ids", "url http://127.0.0.1:1/ids (2)"]);
    let mut awaited = discovery.awaited_lists();
    let (_folder, _, known) = of_file("a1").await;
    discovery.sources[0].catch_up(&known.sources[0]);
    discovery.merge_lists_now().await;
    let second = Box::pin(awaited.remove(1).1);
    let first = Box::pin(awaited.remove(0).1);
    first.await;
    assert!(futures_util::FutureExt::now_or_never(second).is_none(), "it has given nothing yet");
    assert_eq!(&*discovery.table().borrow().not_ready.clone().unwrap().source, labels[1]);
}

#[tokio::test]
async fn what_is_read_while_a_reload_is_under_way_is_known_after_it() {
    let (folder, config, before) = of_file("a1").await;
    let after = before.successor(config).unwrap();
    std::fs::write(folder.path().join("ids"), "a1\nb1\n").unwrap();
    read_once(&before).await;
    after.catch_up(&before).await;
    assert!(is_private(&after, &format!("b1.{ZONE}")));
}

#[tokio::test]
async fn a_change_of_ids_is_a_new_generation_and_the_same_list_is_not() {
    let (folder, _, discovery) = of_file("a1").await;
    let first = generation(&discovery);
    read_once(&discovery).await;
    assert_eq!(generation(&discovery), first);
    std::fs::write(folder.path().join("ids"), "a1\nb1\n").unwrap();
    read_once(&discovery).await;
    assert!(generation(&discovery) > first, "chains through b1 are void");
}
