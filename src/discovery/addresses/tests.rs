//! What the table has of endpoints' addresses, and when it is published anew.

use std::time::Duration;

use super::*;
use crate::discovery::config::{AddressSource, Config};

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn config(addresses: &[&str], health: HealthCheck) -> Config {
    let mut config = Config::of_test(AddressSource::Static(ips(addresses)));
    config.endpoints[0].health = health;
    config
}

fn answered(discovery: &Discovery) -> Vec<IpAddr> {
    each(&discovery.table().borrow().endpoints()[0].addresses).collect()
}

fn generation(discovery: &Discovery) -> u64 {
    discovery.table().borrow().generation
}

/// Two independent failures at this port, as of probes or of clients.
fn fail(discovery: &Discovery, address: &str, port: u16) {
    for _ in 0..2 {
        let end = AttemptEnd::Failed("refused".to_owned());
        discovery.attempted(SocketAddr::new(address.parse().unwrap(), port), now(), &end);
    }
}

#[test]
fn an_address_that_goes_down_is_out_of_a_new_table_and_nothing_else_makes_one() {
    let discovery = Discovery::new(config(&["10.0.0.1", "10.0.0.2"], HealthCheck::Tcp)).unwrap();
    let before = generation(&discovery);
    let connect = |address: &str| {
        discovery.attempted(SocketAddr::new(address.parse().unwrap(), 443), now(), &AttemptEnd::Connected);
    };
    connect("10.0.0.1");
    fail(&discovery, "10.9.9.9", 443);
    fail(&discovery, "10.0.0.1", 8443);
    assert_eq!(generation(&discovery), before, "another port or address says nothing of the endpoint");
    fail(&discovery, "10.0.0.1", 443);
    let without = generation(&discovery);
    assert!(without > before);
    assert_eq!(answered(&discovery), ips(&["10.0.0.2"]));
    fail(&discovery, "10.0.0.1", 443);
    assert_eq!(generation(&discovery), without);
    connect("10.0.0.1");
    connect("10.0.0.1");
    assert!(generation(&discovery) > without);
    assert_eq!(answered(&discovery), ips(&["10.0.0.1", "10.0.0.2"]));
}

#[test]
fn the_last_address_to_go_down_brings_all_of_them_back() {
    let discovery = Discovery::new(config(&["10.0.0.1", "10.0.0.2"], HealthCheck::Tcp)).unwrap();
    fail(&discovery, "10.0.0.1", 443);
    assert!(!discovery.address_health()[0].is_all_down);
    fail(&discovery, "10.0.0.2", 443);
    assert_eq!(answered(&discovery), ips(&["10.0.0.1", "10.0.0.2"]));
    assert!(discovery.address_health()[0].is_all_down);
    let single = Discovery::new(config(&["10.0.0.1"], HealthCheck::Tcp)).unwrap();
    let before = generation(&single);
    fail(&single, "10.0.0.1", 443);
    assert_eq!(generation(&single), before, "of a single address nothing changes");
}

#[test]
fn dns_changes_the_addresses_and_not_what_is_known_of_those_that_stay() {
    let mut config = Config::of_test(AddressSource::Apex);
    config.endpoints[0].health = HealthCheck::Off;
    let discovery = Discovery::new(config).unwrap();
    let found = |texts: &[&str]| crate::discovery::compose::nearest_first(ips(texts).into_iter(), &[]);
    discovery.set_addresses(EndpointIndex(0), found(&["10.0.0.1", "10.0.0.2"]));
    fail(&discovery, "10.0.0.1", 443);
    discovery.set_addresses(EndpointIndex(0), found(&["10.0.0.1", "10.0.0.3"]));
    assert_eq!(answered(&discovery), ips(&["10.0.0.3"]));
    let fresh_until = Some(now() + Duration::from_secs(60));
    let before = generation(&discovery);
    discovery.set_addresses(EndpointIndex(0), Addresses { fresh_until, ..found(&["10.0.0.1", "10.0.0.3"]) });
    assert_eq!(generation(&discovery), before, "a TTL that starts anew changes no route");
    assert_eq!(discovery.table().borrow().endpoints()[0].addresses.fresh_until, fresh_until);
    discovery.set_addresses(EndpointIndex(0), found(&["10.0.0.3"]));
    discovery.set_addresses(EndpointIndex(0), found(&["10.0.0.1", "10.0.0.3"]));
    assert_eq!(answered(&discovery), ips(&["10.0.0.1", "10.0.0.3"]), "who was gone begins anew");
}

#[test]
fn a_reload_keeps_the_health_of_what_stays() {
    let discovery = Discovery::new(config(&["10.0.0.1", "10.0.0.2"], HealthCheck::Tcp)).unwrap();
    fail(&discovery, "10.0.0.1", 443);
    let next = discovery.successor(config(&["10.0.0.1", "10.0.0.3"], HealthCheck::Tcp)).unwrap();
    assert_eq!(answered(&next), ips(&["10.0.0.3"]));
    let mut elsewhere = config(&["10.0.0.1", "10.0.0.2"], HealthCheck::Tcp);
    elsewhere.endpoints[0].port = 8443;
    assert_eq!(answered(&discovery.successor(elsewhere).unwrap()).len(), 2, "another port is another service");
    let unprobed = discovery.successor(config(&["10.0.0.1", "10.0.0.2"], HealthCheck::Off)).unwrap();
    assert_eq!(answered(&unprobed).len(), 2, "nobody would bring it back");
}

/// What `act` warns of that begins like this.
fn warnings(beginning: &str, act: impl FnOnce()) -> usize {
    #[derive(Clone, Default)]
    struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let format = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
    tracing::subscriber::with_default(format.with_writer(move || writer.clone()).finish(), act);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().filter(|line| line.trim().starts_with(&format!("WARN {beginning}"))).count()
}

#[test]
fn that_no_address_is_up_is_said_once_also_over_a_reload() {
    const NONE_UP: &str = "no address of";
    let both = || config(&["10.0.0.1", "10.0.0.2"], HealthCheck::Tcp);
    let discovery = Discovery::new(both()).unwrap();
    assert_eq!(warnings(NONE_UP, || fail(&discovery, "10.0.0.1", 443)), 0);
    assert_eq!(warnings(NONE_UP, || fail(&discovery, "10.0.0.2", 443)), 1);
    let mut next = None;
    let again = warnings(NONE_UP, || {
        let successor = discovery.successor(both()).unwrap();
        fail(&successor, "10.0.0.1", 443);
        next = Some(successor);
    });
    assert_eq!(again, 0, "it was said before the reload");
    let next = next.unwrap();
    for _ in 0..2 {
        let end = AttemptEnd::Connected;
        next.attempted(SocketAddr::new("10.0.0.2".parse().unwrap(), 443), now(), &end);
    }
    assert_eq!(warnings(NONE_UP, || fail(&next, "10.0.0.2", 443)), 1, "one was up in between");
}

#[test]
fn a_reload_that_takes_the_last_address_that_was_up_says_so() {
    let discovery = Discovery::new(config(&["10.0.0.1", "10.0.0.2"], HealthCheck::Tcp)).unwrap();
    fail(&discovery, "10.0.0.1", 443);
    let reload = || drop(discovery.successor(config(&["10.0.0.1"], HealthCheck::Tcp)).unwrap());
    assert_eq!(warnings("no address of", reload), 1);
}

#[test]
fn a_reload_keeps_addresses_from_dns_also_those_that_are_down() {
    let discovery = Discovery::new(Config::of_test(AddressSource::Apex)).unwrap();
    let found = crate::discovery::compose::nearest_first(ips(&["10.0.0.1", "10.0.0.2"]).into_iter(), &[]);
    discovery.set_addresses(EndpointIndex(0), found);
    fail(&discovery, "10.0.0.1", 443);
    let next = discovery.successor(Config::of_test(AddressSource::Apex)).unwrap();
    assert_eq!(answered(&next), ips(&["10.0.0.2"]));
    assert_eq!(next.address_health()[0].addresses.len(), 2);
}

#[test]
fn an_operator_sees_every_address_with_its_standing() {
    let discovery = Discovery::new(config(&["198.51.100.1", "127.0.0.9", "2001:db8::1"], HealthCheck::Tcp)).unwrap();
    fail(&discovery, "198.51.100.1", 443);
    let health = discovery.address_health().remove(0);
    assert_eq!((health.label.as_str(), health.port, health.check), ("vpce-0123456789abcdef0", 443, HealthCheck::Tcp));
    let seen: Vec<_> =
        health.addresses.iter().map(|one| (one.address.to_string(), one.is_near, one.standing)).collect();
    let expected = [
        ("127.0.0.9", true, Standing::Up),
        ("198.51.100.1", false, Standing::Down),
        ("2001:db8::1", false, Standing::Up),
    ];
    assert_eq!(seen, expected.map(|(address, near, standing)| (address.to_owned(), near, standing)));
    assert_eq!(health.addresses[1].last_error.as_deref(), Some("refused"));
    assert!(health.addresses[1].since > health.addresses[0].since);
}
