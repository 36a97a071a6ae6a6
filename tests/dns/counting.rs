//! Each query is counted once, over every transport, by the way it went and the code it was answered with.

use std::time::Duration;

use hyper::Version;
use sidegate::dns::{Found, Transport, Way};
use socket2::SockRef;
use tokio_util::task::AbortOnDropHandle;

use crate::gate::{Gate, PATIENCE, TcpClient, ZONE, config, loopback, public, table, until};
use crate::secure::Shown;
use crate::upstream::Upstream;
use crate::wire::{A, Answer, Ask, TXT_TYPE, a};
use sidegate::policy::{Networks, Upstream as Group};

type Line = (Transport, Way, Found, &'static str, u64);

/// What was counted, once so many queries are.
async fn counted(gate: &Gate, queries: u64) -> Vec<Line> {
    let totals = || gate.plane.service().borrow().counters.answered.totals();
    let is_whole = async {
        // A reply may be read before its query is counted.
        while totals().iter().map(|total| total.count).sum::<u64>() < queries {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_whole).await.unwrap();
    let line = |total: sidegate::dns::Total| (total.transport, total.way, total.found, total.rcode, total.count);
    totals().into_iter().map(line).collect()
}

#[tokio::test]
async fn every_query_is_counted_once_by_its_route_and_code() {
    let upstream = Upstream::answering(|query| {
        let answer = Answer::to(query);
        if query.windows(7).any(|part| part == b"\x06absent") {
            return answer.rcode(3).soa("example.com", 60).to_wire();
        }
        answer.with("www.example.com", 60, a("192.0.2.7")).to_wire()
    })
    .await;
    let shown = Shown::new();
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let private = format!("priv1.{ZONE}");
    for _ in 0..3 {
        gate.ask(&Ask::new(&private, A)).await;
        gate.ask_tcp(&Ask::new(&private, A)).await;
    }
    for _ in 0..4 {
        gate.ask(&Ask::new("www.example.com", A)).await;
    }
    gate.ask_tcp(&Ask::new("absent.example.com", A)).await;
    gate.ask(&Ask::new(&format!("x.{private}"), A)).await;
    gate.ask(&Ask::new("health.sidegate.invalid", TXT_TYPE)).await;
    let (mut over_tls, query) = (shown.dot(&gate).await, Ask::new(&private, A).to_wire());
    over_tls.send(&query).await;
    over_tls.receive().await.unwrap();
    for version in [Version::HTTP_11, Version::HTTP_2] {
        shown.doh(&gate, version).await.post(&query).await;
    }
    // Two questions in one message.
    let mut malformed = Ask::new("www.example.com", A).to_wire();
    malformed[5] = 2;
    gate.udp(&malformed).await;
    assert_eq!(
        counted(&gate, 17).await,
        [
            (Transport::Udp, Way::Endpoint, Found::Here, "NOERROR", 3),
            (Transport::Udp, Way::Nonexistent, Found::Here, "NXDOMAIN", 1),
            (Transport::Udp, Way::Public, Found::Cached, "NOERROR", 3),
            (Transport::Udp, Way::Public, Found::Asked, "NOERROR", 1),
            (Transport::Udp, Way::Health, Found::Here, "NOERROR", 1),
            (Transport::Udp, Way::Invalid, Found::Here, "FORMERR", 1),
            (Transport::Tcp, Way::Endpoint, Found::Here, "NOERROR", 3),
            (Transport::Tcp, Way::Public, Found::Asked, "NXDOMAIN", 1),
            (Transport::Tls, Way::Endpoint, Found::Here, "NOERROR", 1),
            (Transport::Https, Way::Endpoint, Found::Here, "NOERROR", 2),
        ]
    );
}

#[tokio::test]
async fn counts_go_on_over_a_reload() {
    let upstream =
        Upstream::answering(|query| Answer::to(query).with("www.example.com", 60, a("192.0.2.7")).to_wire()).await;
    let mut gate = Gate::start(&[upstream.address]);
    gate.ask(&Ask::new("www.example.com", A)).await;
    // Other upstreams: an empty cache.
    gate.reload(config(&[loopback()], public(&[upstream.address, loopback_port(9)]))).await.unwrap();
    gate.ask(&Ask::new("www.example.com", A)).await;
    assert_eq!(counted(&gate, 2).await, [(Transport::Udp, Way::Public, Found::Asked, "NOERROR", 2)]);
}

#[tokio::test]
async fn clients_that_may_not_ask_are_counted_apart() {
    let mut config = config(&[loopback()], public(&[]));
    config.clients = Networks::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let gate = Gate::with(config, table(Group::Public));
    gate.ask(&Ask::new(&format!("priv1.{ZONE}"), A)).await;
    assert_eq!(counted(&gate, 1).await, [(Transport::Udp, Way::Refused, Found::Here, "REFUSED", 1)]);
}

fn loopback_port(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Each kind of connection, with a query of its own that waits for an upstream.
async fn waiting_connections(shown: &Shown, gate: &Gate) -> Vec<Box<dyn std::any::Any>> {
    let query = |name: &str| Ask::new(&format!("{name}.example.com"), A).to_wire();
    let mut tcp = TcpClient::connect(gate.address).await;
    tcp.send(&query("tcp")).await;
    let mut dot = shown.dot(gate).await;
    dot.send(&query("tls")).await;
    // Closed as by a process that ends while it is owed something.
    for stream in [&tcp.0, dot.0.get_ref().0] {
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut all: Vec<Box<dyn std::any::Any>> = vec![Box::new(tcp), Box::new(dot)];
    for (name, version) in [("http1", Version::HTTP_11), ("http2", Version::HTTP_2)] {
        let (mut client, query) = (shown.doh(gate, version).await, query(name));
        let task = tokio::spawn(async move { drop(client.post(&query).await) });
        all.push(Box::new(AbortOnDropHandle::new(task)));
    }
    all
}

#[tokio::test]
async fn a_query_ends_with_its_connection_and_is_in_no_count() {
    let (upstream, shown) = (Upstream::silent().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let clients = waiting_connections(&shown, &gate).await;
    let service = gate.plane.service().borrow().clone();
    until("all four wait", || async { service.resolver.in_flight() == 4 }).await;
    drop(clients);
    until("all four are gone", || async { service.counters.connections.open() == 0 }).await;
    until("what they asked is over", || async { service.resolver.in_flight() == 0 }).await;
    gate.ask(&Ask::new(&format!("priv1.{ZONE}"), A)).await;
    assert_eq!(counted(&gate, 1).await, [(Transport::Udp, Way::Endpoint, Found::Here, "NOERROR", 1)]);
}
