//! DNS over TLS: what TCP gives, encrypted.

use std::time::Duration;

use sidegate::dns::Over;
use sidegate::policy::Upstream as Group;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gate::{Gate, PATIENCE, ZONE, frame, table, until};
use crate::secure::{Shown, address};
use crate::upstream::{Action, Upstream};
use crate::wire::{A, Answer, Ask, a, asked_name, data, options, read};

/// Answers at once, and names that begin with `slow` later.
async fn upstream() -> Upstream {
    Upstream::start(|asked| {
        let name = asked_name(&asked.query);
        let reply = Answer::to(&asked.query).with(&name, 60, a("192.0.2.1")).to_wire();
        let wait = Duration::from_millis(if name.starts_with("slow") { 500 } else { 0 });
        vec![Action::Wait(wait), Action::Reply(reply)]
    })
    .await
}

fn private() -> Ask {
    Ask::new(&format!("priv1.{ZONE}"), A)
}

#[tokio::test]
async fn queries_are_pipelined_and_answers_leave_as_they_are_ready() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut client = shown.dot(&gate).await;
    let asks = [Ask::new("slow.example.com", A), Ask::new("fast.example.com", A), private()];
    let bytes: Vec<u8> = asks.iter().flat_map(|ask| frame(&ask.to_wire())).collect();
    client.0.write_all(&bytes).await.unwrap();
    client.0.flush().await.unwrap();
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(read(&client.receive().await.unwrap()).metadata.id);
    }
    assert_eq!(order[2], asks[0].id, "the slow one comes last");
    assert!(order[..2].contains(&asks[1].id) && order[..2].contains(&asks[2].id));
}

#[tokio::test]
async fn hundreds_of_queries_in_one_write_are_all_answered_once_also_to_who_has_closed_its_side() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut client = shown.dot(&gate).await;
    let bytes = (0..300).flat_map(|number| {
        let name = if number % 3 == 0 { format!("priv1.{ZONE}") } else { format!("n{number}.example.com") };
        frame(&Ask { id: number, ..Ask::new(&name, A) }.to_wire())
    });
    client.0.write_all(&bytes.collect::<Vec<u8>>()).await.unwrap();
    client.0.shutdown().await.unwrap();
    let mut ids = Vec::new();
    while let Some(reply) = client.receive().await {
        ids.push(read(&reply).metadata.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<u16>>());
}

#[tokio::test]
async fn a_padded_query_has_a_padded_reply_and_another_has_not() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut client = shown.dot(&gate).await;
    for ask in [private(), Ask::new("www.example.com", A), Ask::new("www.example.com", A)] {
        client.send(&ask.clone().edns(1232, false).option(12, &[0; 31]).to_wire()).await;
        let reply = client.receive().await.unwrap();
        assert_eq!(reply.len() % 468, 0);
        assert!(options(&read(&reply)).iter().any(|(code, _)| *code == 12) && !read(&reply).answers.is_empty());
        client.send(&ask.edns(1232, false).to_wire()).await;
        assert!(client.receive().await.unwrap().len() < 468);
    }
    let over_udp = gate.udp(&private().edns(1232, false).option(12, &[0; 31]).to_wire()).await;
    assert!(over_udp.len() < 468, "in the clear it would hide nothing");
}

#[tokio::test]
async fn who_speaks_no_tls_or_another_protocol_over_it_is_not_served() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let to = address(&gate, Over::Tls);
    assert!(shown.connect("127.0.0.1", to, &["h2", "http/1.1"]).await.is_err());
    assert!(shown.connect("127.0.0.1", to, &[]).await.is_ok(), "ALPN is not required (RFC 7858)");
    let mut plain = TcpStream::connect(to).await.unwrap();
    plain.write_all(&frame(&private().to_wire())).await.unwrap();
    let mut said = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut said)).await.expect("an end to it");
    assert!(!said.windows(4).any(|window| window == [10, 0, 0, 1]));
    let counters =
        || gate.plane.service().borrow().counters.handshakes_failed.load(std::sync::atomic::Ordering::Relaxed);
    until("both are counted", || async { counters() == 2 }).await;
    let mut client = shown.dot(&gate).await;
    client.send(&private().to_wire()).await;
    assert_eq!(data(&read(&client.receive().await.unwrap())), ["10.0.0.1"], "the next is served");
}

#[tokio::test]
async fn who_connects_and_leaves_without_a_word_is_no_failed_handshake() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let service = gate.plane.service().borrow().clone();
    let failed = || service.counters.handshakes_failed.load(std::sync::atomic::Ordering::Relaxed);
    for over in [Over::Tls, Over::Https] {
        // Closed, and reset, as health checks do.
        for (linger, said, counted) in [(None, &b""[..], 0), (Some(Duration::ZERO), b"", 0), (None, b"\x16", 1)] {
            let before = failed();
            let mut stream = TcpStream::connect(address(&gate, over)).await.unwrap();
            until("it is admitted", || async { service.counters.connections.open() == 1 }).await;
            stream.write_all(said).await.unwrap();
            SockRef::from(&stream).set_linger(linger).unwrap();
            drop(stream);
            until("it is gone", || async { service.counters.connections.open() == 0 }).await;
            assert_eq!(failed() - before, counted, "{over:?} {linger:?} {said:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_answers_all_that_was_asked() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut client = shown.dot(&gate).await;
    // More than one connection may have under way: the rest waits to be read.
    let bytes = (0..200).flat_map(|number| frame(&Ask::new(&format!("slow{number}.example.com"), A).to_wire()));
    client.0.write_all(&bytes.collect::<Vec<u8>>()).await.unwrap();
    client.0.flush().await.unwrap();
    until("as many as may be are under way", || async { upstream.count() >= 64 }).await;
    let draining = tokio::spawn(gate.plane.drain(PATIENCE));
    let mut answers = 0;
    while let Some(reply) = client.receive().await {
        answers += read(&reply).answers.len();
    }
    assert_eq!(answers, 200);
    assert!(draining.await.unwrap());
}

#[tokio::test]
async fn hundreds_of_idle_connections_keep_nobody_else_out() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut idle = Vec::new();
    // More than there may be; none of them begins a handshake.
    for _ in 0..1100 {
        idle.push(TcpStream::connect(address(&gate, Over::Tls)).await.unwrap());
    }
    let mut client = shown.dot(&gate).await;
    client.send(&private().to_wire()).await;
    assert_eq!(data(&read(&client.receive().await.unwrap())), ["10.0.0.1"]);
    let evicted = gate.plane.service().borrow().counters.evicted.load(std::sync::atomic::Ordering::Relaxed);
    assert!(evicted > 0);
}
