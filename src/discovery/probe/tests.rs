//! Real listeners on loopback, under a clock that jumps to the next probe.

use tokio::net::TcpListener;

use super::*;
use crate::discovery::addresses::now;
use crate::discovery::config::{AddressSource, Config, HealthCheck};
use crate::discovery::health::each;
use crate::policy::{Addresses, EndpointIndex};

/// A listener on each of two addresses, at one port.
async fn two_listeners() -> (TcpListener, TcpListener, u16) {
    loop {
        let one = TcpListener::bind("127.0.0.11:0").await.unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("127.0.0.12", port)).await {
            return (one, two, port);
        }
    }
}

fn discovery(health: HealthCheck, port: u16) -> Arc<Discovery> {
    let addresses = ["127.0.0.11", "127.0.0.12"].map(|text| text.parse().unwrap()).to_vec();
    let mut config = Config::of_test(AddressSource::Static(addresses));
    (config.endpoints[0].health, config.endpoints[0].port) = (health, port);
    Arc::new(Discovery::new(config).unwrap())
}

/// Waits until the table has so many addresses; gives the seconds that took.
async fn until(discovery: &Discovery, number: usize) -> f64 {
    let (begun, mut table) = (Instant::now(), discovery.table());
    let has = |table: &Arc<crate::policy::Table>| each(&table.endpoints()[0].addresses).count() == number;
    timeout(Duration::from_secs(120), table.wait_for(has)).await.expect("the table changes").unwrap();
    begun.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_dead_address_is_out_within_12_seconds_and_back_once_it_listens_again() {
    let (one, _two, port) = two_listeners().await;
    let discovery = discovery(HealthCheck::Tcp, port);
    let probing = tokio::spawn(Arc::clone(&discovery).follow_health());
    drop(one);
    assert!(until(&discovery, 1).await <= 12.0);
    assert_eq!(discovery.table().borrow().endpoints()[0].addresses.v4[0].to_string(), "127.0.0.12");
    let error = discovery.address_health()[0].addresses[0].last_error.clone().unwrap();
    assert!(error.contains("refused"), "{error}");
    let _one = TcpListener::bind(("127.0.0.11", port)).await.unwrap();
    assert!(until(&discovery, 2).await <= 12.0);
    probing.abort();
}

#[tokio::test(start_paused = true)]
async fn probes_of_an_address_come_every_five_seconds_at_most_and_are_left_at_once() {
    let (one, _two, port) = two_listeners().await;
    let probing = tokio::spawn(discovery(HealthCheck::Tcp, port).follow_health());
    let mut times = Vec::new();
    for _ in 0..10 {
        let (mut stream, _) = one.accept().await.unwrap();
        times.push(Instant::now());
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await.unwrap();
        assert_eq!(read, 0, "it says nothing and goes");
    }
    probing.abort();
    let waits: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    assert!(waits.iter().all(|wait| (3.9..5.1).contains(wait)), "{waits:?}");
    assert!(waits.windows(2).any(|pair| (pair[0] - pair[1]).abs() > 0.01), "in step: {waits:?}");
}

#[tokio::test(start_paused = true)]
async fn where_health_is_off_nobody_is_connected_to_and_what_clients_took_out_comes_back_after_its_rest() {
    let (one, two, port) = two_listeners().await;
    let discovery = discovery(HealthCheck::Off, port);
    let probing = tokio::spawn(Arc::clone(&discovery).follow_health());
    let quiet = async {
        tokio::select! { _ = one.accept() => (), _ = two.accept() => () }
    };
    assert!(timeout(Duration::from_secs(60), quiet).await.is_err());
    for _ in 0..2 {
        let end = AttemptEnd::Failed("refused".to_owned());
        discovery.attempted(one.local_addr().unwrap(), now(), &end);
    }
    assert_eq!(discovery.table().borrow().endpoints()[0].addresses.v4.len(), 1);
    assert_eq!(until(&discovery, 2).await.round(), 30.0);
    probing.abort();
}

#[tokio::test(start_paused = true)]
async fn addresses_that_come_are_probed_and_those_that_go_no_longer() {
    let (one, two, port) = two_listeners().await;
    let discovery = discovery(HealthCheck::Tcp, port);
    let probing = tokio::spawn(Arc::clone(&discovery).follow_health());
    let (stream, _) = one.accept().await.unwrap();
    drop(stream);
    let only_two = Addresses { v4: vec![[127, 0, 0, 12].into()], ..Addresses::default() };
    discovery.set_addresses(EndpointIndex(0), only_two);
    two.accept().await.unwrap();
    // One that was under way may still be in the queue.
    let _ = timeout(Duration::from_millis(1), one.accept()).await;
    assert!(timeout(Duration::from_secs(60), one.accept()).await.is_err());
    let both = Addresses { v4: vec![[127, 0, 0, 11].into(), [127, 0, 0, 12].into()], ..Addresses::default() };
    discovery.set_addresses(EndpointIndex(0), both);
    assert!(timeout(Duration::from_secs(6), one.accept()).await.is_ok());
    probing.abort();
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_fails_within_two_seconds() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        queue.push(stream);
    }
    let begun = Instant::now();
    assert_eq!(attempt(address).await, Some(AttemptEnd::Failed("no connection within 2 s".to_owned())));
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[test]
fn what_this_host_lacks_says_nothing_of_an_address() {
    let counts = |code| is_of_the_way(&io::Error::from_raw_os_error(code), || true);
    assert!([libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ETIMEDOUT].into_iter().all(counts));
    assert!(![libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::EPERM].into_iter().any(counts));
}

/// With IPv6 off, every IPv6 address would be up for ever, and all that is answered once the others are down.
#[test]
fn a_family_that_this_host_does_not_have_counts_against_its_addresses() {
    let counts = |code, has_source| is_of_the_way(&io::Error::from_raw_os_error(code), || has_source);
    assert!(counts(libc::EADDRNOTAVAIL, false));
    assert!(!counts(libc::EADDRNOTAVAIL, true), "no port was left");
    assert!(!counts(libc::EMFILE, false));
}
