//! What is refused, never asked upstream, or found to be ourselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::gate::{Gate, TcpClient, ZONE, config, loopback, public, table};
use crate::upstream::{Closed, Upstream};
use crate::wire::{A, Answer, Ask, TXT_TYPE, a, asked_name, code, data, extended_errors, read};
use sidegate::dns::PlaneError;
use sidegate::policy::{Networks, Upstream as Group};

async fn sound() -> Upstream {
    Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire()).await
}

/// The code of the reply over UDP, then over TCP.
async fn codes(gate: &Gate, query: &[u8]) -> [ResponseCode; 2] {
    let mut client = TcpClient::connect(gate.address).await;
    client.send(query).await;
    [code(&read(&gate.udp(query).await)), code(&read(&client.receive().await.unwrap()))]
}

#[tokio::test]
async fn what_is_no_plain_question_never_goes_upstream_on_any_transport() {
    let upstream = sound().await;
    let gate = Gate::start(&[upstream.address]);
    for (opcode, what) in [(1, "IQUERY"), (2, "STATUS"), (4, "NOTIFY"), (5, "UPDATE"), (6, "DSO"), (15, "unknown")] {
        let query = Ask::new("www.example.com", A).flags(opcode << 11).to_wire();
        assert_eq!(codes(&gate, &query).await, [ResponseCode::NotImp; 2], "{what}");
    }
    for (qtype, expected) in [
        (251, ResponseCode::Refused),
        (252, ResponseCode::Refused),
        (249, ResponseCode::NotImp),
        (250, ResponseCode::NotImp),
        (253, ResponseCode::NotImp),
        (41, ResponseCode::FormErr),
    ] {
        let query = Ask::new("example.com", qtype).to_wire();
        assert_eq!(codes(&gate, &query).await, [expected; 2], "type {qtype}");
    }
    let mut two = Ask::new("www.example.com", A).to_wire();
    two[5] = 2;
    two.extend(two[12..].to_vec());
    let mut chaos = Ask::new("version.bind", 16).to_wire();
    *chaos.last_mut().unwrap() = 3;
    let mut update = Ask::new("example.com", 6).flags(5 << 11).to_wire();
    update[9] = 1;
    update.extend(b"\x03new\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01");
    for (query, expected) in
        [(two, ResponseCode::FormErr), (chaos, ResponseCode::Refused), (update, ResponseCode::NotImp)]
    {
        assert_eq!(codes(&gate, &query).await, [expected; 2]);
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(codes(&gate, &Ask::new("www.example.com", A).to_wire()).await, [ResponseCode::NoError; 2]);
}

#[tokio::test]
async fn packets_of_death_get_silence_and_the_next_client_its_answer() {
    let upstream = sound().await;
    let gate = Gate::start(&[upstream.address]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(gate.address).await.unwrap();
    let mut client = TcpClient::connect(gate.address).await;
    let reply = Answer::to(&Ask::new("www.example.com", A).to_wire()).to_wire();
    for packet in (0..12).map(|length| vec![0; length]).chain([vec![0xff; 60_000], vec![0xff; 12], reply]) {
        socket.send(&packet).await.unwrap();
        client.send(&packet).await;
    }
    let ask = Ask::new("www.example.com", A);
    client.send(&ask.to_wire()).await;
    assert_eq!(read(&client.receive().await.unwrap()).metadata.id, ask.id, "the first thing that comes back");
    socket.send(&ask.to_wire()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).await.unwrap();
    assert_eq!(read(&buffer[..length]).metadata.id, ask.id, "the first thing that comes back");
}

#[tokio::test]
async fn clients_that_are_not_listed_get_nothing_but_a_refusal_on_any_transport() {
    let upstream = sound().await;
    let mut strict = config(&[loopback()], public(&[upstream.address]));
    strict.clients = Networks::new(vec!["127.0.0.64/26".parse().unwrap()]);
    let gate = Gate::with(strict, table(Group::Public));
    for name in ["www.example.com".to_owned(), format!("priv1.{ZONE}"), "health.sidegate.invalid".to_owned()] {
        let reply = gate.ask(&Ask::new(&name, A).edns(1232, false)).await;
        assert_eq!((code(&reply), reply.answers.len()), (ResponseCode::Refused, 0));
        assert_eq!(extended_errors(&reply)[0].0, 18);
        let mut client = TcpClient::connect(gate.address).await;
        client.send(&Ask::new(&name, A).to_wire()).await;
        assert_eq!(client.receive().await, None, "the connection is closed");
    }
    assert_eq!(upstream.count(), 0);
    // This host may ask the listener for itself, by the one name and type, and for nothing else.
    let health = gate.ask(&Ask::new("health.sidegate.invalid", TXT_TYPE)).await;
    assert_eq!((code(&health), health.answers.len()), (ResponseCode::NoError, 1));
    let below = gate.ask(&Ask::new("x.health.sidegate.invalid", TXT_TYPE)).await;
    assert_eq!(code(&below), ResponseCode::Refused);
    let listed = UdpSocket::bind("127.0.0.65:0").await.unwrap();
    listed.connect(gate.address).await.unwrap();
    listed.send(&Ask::new("www.example.com", A).to_wire()).await.unwrap();
    let mut buffer = [0; 512];
    let length = listed.recv(&mut buffer).await.unwrap();
    assert_eq!(data(&read(&buffer[..length])), ["192.0.2.1"]);
}

#[tokio::test]
async fn an_upstream_that_is_this_resolver_is_refused_at_bind() {
    for (listen, upstream) in [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.9"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
    ] {
        let (free, error) = loop {
            // A port that is free now, though perhaps not for long: nobody can know the one that port 0 becomes.
            let free = Closed::reserve().await.address.port();
            let address = |ip: &str| SocketAddr::new(ip.trim_matches(['[', ']']).parse().unwrap(), free);
            let config = config(&[address(listen)], public(&[address(upstream)]));
            match Gate::try_with(config, table(Group::Public)).err().expect("refused") {
                PlaneError::Bind { .. } => {}
                error => break (free, error),
            }
        };
        assert!(matches!(error, PlaneError::Loop { .. }), "{error}");
        let words = error.to_string();
        assert!(words.contains(&format!("{upstream}:{free}")) && words.contains("[upstream]"), "{words}");
    }
}

/// Passes packets on to `server` from sockets of its own, over UDP and TCP: a loop that no address gives away.
async fn relay() -> (SocketAddr, tokio::sync::watch::Sender<SocketAddr>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let front = Arc::new(UdpSocket::bind(address).await.unwrap());
    let (sender, server) = tokio::sync::watch::channel(address);
    let target = server.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = front.recv_from(&mut buffer).await {
            let (packet, front, server) = (buffer[..length].to_vec(), Arc::clone(&front), *target.borrow());
            tokio::spawn(async move {
                let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                back.send_to(&packet, server).await.unwrap();
                let mut buffer = [0; 4096];
                let length = back.recv(&mut buffer).await.unwrap();
                front.send_to(&buffer[..length], from).await.unwrap();
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((mut client, _)) = tcp.accept().await {
            let server = *server.borrow();
            tokio::spawn(async move {
                let mut back = TcpStream::connect(server).await.unwrap();
                drop(copy_bidirectional(&mut client, &mut back).await);
            });
        }
    });
    (address, sender)
}

#[tokio::test]
async fn a_loop_that_no_address_gives_away_ends_in_time_with_few_questions() {
    let (relay, server) = relay().await;
    let gate = Gate::start(&[relay]);
    server.send_replace(gate.address);
    let started = Instant::now();
    let replies = futures_util::future::join_all((0..10).map(|number| {
        let ask = Ask::new(&format!("n{number}.example.com"), A).edns(1232, false);
        let gate = &gate;
        async move { gate.ask(&ask).await }
    }))
    .await;
    assert!(started.elapsed() < Duration::from_secs(5), "after {:?}", started.elapsed());
    for reply in replies {
        assert_eq!(code(&reply), ResponseCode::ServFail);
        assert!(!extended_errors(&reply).is_empty());
    }
    // Client and flight have the same deadline, and either may be told first.
    while gate.plane.service().borrow().resolver.in_flight() > 0 {
        assert!(started.elapsed() < Duration::from_secs(5), "it goes on no longer than its client waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
