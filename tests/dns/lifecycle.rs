//! Bind, reload, drain: who gets a port, what a reload changes and what it leaves alone, and that nothing is lost.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::gate::{Gate, PATIENCE, TcpClient, ZONE, ask_udp, config, frame, loopback, public, table, until};
use crate::upstream::{Action, Closed, Upstream};
use crate::wire::{A, Answer, Ask, a, asked_name, code, data, read};
use sidegate::dns::{Config, PlaneError};
use sidegate::policy::{Networks, Upstream as Group};

async fn at(address: &'static str) -> Upstream {
    Upstream::answering(move |query| Answer::to(query).with(&asked_name(query), 60, a(address)).to_wire()).await
}

/// Answers once it is let go.
async fn held(hold: &Arc<AtomicBool>) -> Upstream {
    let hold = Arc::clone(hold);
    Upstream::start(move |asked| {
        let reply = Answer::to(&asked.query).with(&asked_name(&asked.query), 60, a("192.0.2.1")).to_wire();
        let wait = Duration::from_millis(if hold.load(Ordering::SeqCst) { 700 } else { 0 });
        vec![Action::Wait(wait), Action::Reply(reply)]
    })
    .await
}

fn private() -> Ask {
    Ask::new(&format!("priv1.{ZONE}"), A)
}

#[tokio::test]
async fn a_reply_leaves_from_the_address_that_was_asked() {
    let upstream = at("192.0.2.1").await;
    let gate = Gate::with(config(&[([0, 0, 0, 0], 0).into()], public(&[upstream.address])), table(Group::Public));
    for asked in ["127.0.0.5", "127.0.0.1"] {
        // The client's socket is connected, so a reply from anywhere else would not reach it.
        let asked = SocketAddr::new(asked.parse().unwrap(), gate.address.port());
        assert_eq!(data(&read(&ask_udp(asked, &private().to_wire()).await)), ["10.0.0.1"]);
        let forwarded = Ask::new(&format!("at-{}.example.com", asked.ip()), A).to_wire();
        assert_eq!(data(&read(&ask_udp(asked, &forwarded).await)), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn ipv6_is_served_as_ipv4_is() {
    let upstream = at("192.0.2.1").await;
    let both = config(&["[::1]:0".parse().unwrap(), loopback()], public(&[upstream.address]));
    let gate = Gate::with(both, table(Group::Public));
    for address in gate.plane.addresses() {
        assert_eq!(data(&read(&ask_udp(address, &Ask::new("www.example.com", A).to_wire()).await)), ["192.0.2.1"]);
        let mut client = TcpClient::connect(address).await;
        client.send(&private().to_wire()).await;
        assert_eq!(data(&read(&client.receive().await.unwrap())), ["10.0.0.1"]);
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_address_and_key_also_when_a_second_of_us_has_it() {
    for workers in [1, 2] {
        let mut ours = config(&[loopback()], public(&[]));
        ours.workers = NonZeroUsize::new(workers).unwrap();
        let first = Gate::with(ours.clone(), table(Group::Public));
        ours.listen = vec![first.address];
        for second in [1, 2] {
            ours.workers = NonZeroUsize::new(second).unwrap();
            let error = Gate::try_with(ours.clone(), table(Group::Public)).err().expect("refused");
            assert!(matches!(error, PlaneError::Bind { .. }));
            let words = error.to_string();
            assert!(words.starts_with(&format!("dns.listen: cannot bind {}: another process", first.address)));
        }
        assert_eq!(data(&first.ask(&private()).await), ["10.0.0.1"], "the first goes on");
    }
    let others = UdpSocket::bind(loopback()).await.unwrap();
    for workers in [1, 2] {
        let mut ours = config(&[others.local_addr().unwrap()], public(&[]));
        ours.workers = NonZeroUsize::new(workers).unwrap();
        assert!(Gate::try_with(ours, table(Group::Public)).is_err(), "UDP alone is taken");
    }
}

#[tokio::test]
async fn an_address_that_our_own_listener_keeps_us_from_takes_a_restart_and_says_so() {
    let mut gate = Gate::start(&[]);
    let wider = SocketAddr::new([0, 0, 0, 0].into(), gate.address.port());
    let mut over_tls = config(&[], public(&[]));
    over_tls.encrypted.tls = vec![gate.address];
    for (config, key, asked) in [
        (config(&[wider], public(&[])), "dns.listen", wider),
        (config(&[loopback(), wider], public(&[])), "dns.listen", wider),
        (over_tls, "dns.tls.listen", gate.address),
    ] {
        let words = gate.reload(config).await.unwrap_err().to_string();
        let why = format!("this address overlaps {} of this process: restart for this change", gate.address);
        assert_eq!(words, format!("{key}: cannot bind {asked}: {why}"));
    }
    assert_eq!(data(&gate.ask(&private()).await), ["10.0.0.1"]);
}

#[tokio::test]
async fn several_workers_share_one_port() {
    let upstream = at("192.0.2.1").await;
    let mut many = config(&[loopback()], public(&[upstream.address]));
    many.workers = NonZeroUsize::new(4).unwrap();
    let gate = Gate::with(many, table(Group::Public));
    let asks: Vec<Ask> = (0..64).map(|number| Ask::new(&format!("n{number}.example.com"), A)).collect();
    for reply in futures_util::future::join_all(asks.iter().map(|ask| gate.ask(ask))).await {
        assert_eq!(data(&reply), ["192.0.2.1"]);
    }
}

async fn reloaded(gate: &mut Gate, config: Config) {
    gate.reload(config).await.unwrap();
}

#[tokio::test]
async fn a_reload_changes_clients_and_upstreams_for_connections_that_are_open_too() {
    let (first, second) = (at("192.0.2.1").await, at("192.0.2.2").await);
    let mut gate = Gate::start(&[first.address]);
    let mut client = TcpClient::connect(gate.address).await;
    let mut tcp = async |name: &str| {
        client.send(&Ask::new(name, A).to_wire()).await;
        read(&client.receive().await.unwrap())
    };
    assert_eq!(data(&tcp("www.example.com").await), ["192.0.2.1"]);

    reloaded(&mut gate, config(&[loopback()], public(&[second.address]))).await;
    assert_eq!(data(&gate.ask(&Ask::new("www.example.com", A)).await), ["192.0.2.2"], "another server, another cache");
    assert_eq!(data(&tcp("www.example.com").await), ["192.0.2.2"]);

    let mut strict = config(&[loopback()], public(&[second.address]));
    strict.clients = Networks::new(Vec::new());
    reloaded(&mut gate, strict).await;
    assert_eq!(code(&gate.ask(&private()).await), ResponseCode::Refused);
    assert_eq!(code(&tcp("www.example.com").await), ResponseCode::Refused);

    reloaded(&mut gate, config(&[loopback()], public(&[second.address]))).await;
    assert_eq!(data(&gate.ask(&Ask::new("www.example.com", A)).await), ["192.0.2.2"]);
    assert_eq!(second.count(), 1, "the same servers keep their cache");
}

#[tokio::test]
async fn a_reload_opens_and_closes_listeners_and_leaves_the_others_alone() {
    let upstream = at("192.0.2.1").await;
    let servers = || public(&[upstream.address]);
    let mut gate = Gate::start(&[upstream.address]);
    let first = gate.address;
    let other: SocketAddr = "127.0.0.2:0".parse().unwrap();

    reloaded(&mut gate, config(&[loopback(), other], servers())).await;
    let [kept, added] = gate.plane.addresses()[..] else { panic!("two listeners") };
    assert_eq!(kept, first);
    for address in [kept, added] {
        assert_eq!(data(&read(&ask_udp(address, &private().to_wire()).await)), ["10.0.0.1"]);
    }

    // On the same IP address as one that goes.
    let fixed = loop {
        let free = Closed::reserve().await.address;
        if gate.reload(config(&[free, other], servers())).await.is_ok() {
            break free;
        }
    };
    let mut addresses = gate.plane.addresses();
    addresses.sort();
    let mut expected = [fixed, added];
    expected.sort();
    assert_eq!(addresses, expected);
    for address in expected {
        assert_eq!(data(&read(&ask_udp(address, &private().to_wire()).await)), ["10.0.0.1"]);
    }
    until("the first is closed", || async { tokio::net::TcpStream::connect(first).await.is_err() }).await;

    reloaded(&mut gate, config(&[], servers())).await;
    assert!(gate.plane.addresses().is_empty());
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let (upstream, taken) = (at("192.0.2.1").await, tokio::net::TcpListener::bind(loopback()).await.unwrap());
    let mut gate = Gate::start(&[upstream.address]);
    gate.ask(&Ask::new("www.example.com", A)).await;
    let strict = |listen: &[SocketAddr], servers| Config {
        clients: Networks::new(Vec::new()),
        ..config(listen, public(servers))
    };
    let mut no_roots = strict(&["127.0.0.3:0".parse().unwrap()], &[]);
    no_roots.upstreams.public = vec!["tls://127.0.0.1#dns.example".parse().unwrap()];
    no_roots.extra_roots = vec!["/nowhere/roots.pem".into()];
    for (bad, word) in [
        (strict(&["127.0.0.4:0".parse().unwrap(), taken.local_addr().unwrap()], &[]), "dns.listen"),
        (strict(&[loopback()], &[gate.address]), "[upstream]"),
        (no_roots, "/nowhere/roots.pem"),
    ] {
        let error = gate.reload(bad).await.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(gate.plane.addresses(), [gate.address]);
        assert_eq!(data(&gate.ask(&private()).await), ["10.0.0.1"]);
        assert_eq!(data(&gate.ask(&Ask::new("www.example.com", A)).await), ["192.0.2.1"]);
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_sends_every_answer_that_is_still_owed_and_then_the_port_is_free() {
    let hold = Arc::new(AtomicBool::new(true));
    let upstream = held(&hold).await;
    let gate = Gate::start(&[upstream.address]);
    let address = gate.address;
    let mut owed = JoinSet::new();
    for number in 0..20 {
        let query = Ask::new(&format!("u{number}.example.com"), A).to_wire();
        owed.spawn(async move { read(&ask_udp(address, &query).await).answers.len() });
    }
    let mut client = TcpClient::connect(address).await;
    let names = (0..20).map(|number| format!("t{number}.example.com"));
    let bytes: Vec<u8> = names.flat_map(|name| frame(&Ask::new(&name, A).to_wire())).collect();
    tokio::io::AsyncWriteExt::write_all(&mut client.0, &bytes).await.unwrap();
    until("all are under way", || async { upstream.count() == 40 }).await;
    assert!(gate.plane.drain(PATIENCE).await);
    while let Some(answers) = owed.join_next().await {
        assert_eq!(answers.unwrap(), 1);
    }
    for _ in 0..20 {
        assert_eq!(read(&client.receive().await.expect("an answer")).answers.len(), 1);
    }
    assert_eq!(client.receive().await, None);
    until("the port is free", || async {
        Gate::try_with(config(&[address], public(&[])), table(Group::Public)).is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_answers_what_a_connection_had_sent_even_if_it_was_not_read_yet() {
    let upstream = held(&Arc::new(AtomicBool::new(true))).await;
    let gate = Gate::start(&[upstream.address]);
    let mut client = TcpClient::connect(gate.address).await;
    // More than one connection may have under way: the rest waits to be read.
    let names = (0..200).map(|number| format!("t{number}.example.com"));
    let bytes: Vec<u8> = names.flat_map(|name| frame(&Ask::new(&name, A).to_wire())).collect();
    tokio::io::AsyncWriteExt::write_all(&mut client.0, &bytes).await.unwrap();
    until("as many as may be are under way", || async { upstream.count() >= 64 }).await;
    let draining = tokio::spawn(gate.plane.drain(PATIENCE));
    let mut answers = 0;
    while let Some(reply) = client.receive().await {
        answers += read(&reply).answers.len();
    }
    assert_eq!(answers, 200);
    assert!(draining.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_even_while_clients_go_on_asking() {
    let upstream = at("192.0.2.1").await;
    let gate = Gate::start(&[upstream.address]);
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let floods: Vec<_> = (0..2)
        .map(|_| {
            let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), gate.address);
            std::thread::spawn(move || {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let query = private().to_wire();
                while !stop.load(Ordering::Relaxed) {
                    sent.fetch_add(usize::from(socket.send_to(&query, address).is_ok()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("the listener has more to do than it can", || async { sent.load(Ordering::Relaxed) > 20_000 }).await;
    let drained = tokio::time::timeout(PATIENCE, tokio::spawn(gate.plane.drain(PATIENCE))).await;
    stop.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert!(drained.expect("an end to it").unwrap());
}

/// The kernel drops what a full queue does not hold, and our own question is as good as any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_does_not_make_a_listener_look_dead() {
    let upstream = at("192.0.2.1").await;
    let gate = Gate::start(&[upstream.address]);
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let (stop, sent, address) = (Arc::clone(&stop), Arc::clone(&sent), gate.address);
            std::thread::spawn(move || {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let query = private().to_wire();
                while !stop.load(Ordering::Relaxed) {
                    sent.fetch_add(usize::from(socket.send_to(&query, address).is_ok()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("the listener has more to do than it can", || async { sent.load(Ordering::Relaxed) > 20_000 }).await;
    let mut alive = Vec::new();
    for _ in 0..5 {
        alive.push(gate.plane.pulses()[0].is_alive().await);
    }
    stop.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert_eq!(alive, vec![Ok(()); 5]);
}
