//! What holds on every listener alike: the access list, what is refused, what is malformed (CVE-2026-24029: one listener
//! that forgets).

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hyper::Version;
use sidegate::dns::Over;
use sidegate::policy::{Networks, Upstream as Group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use crate::gate::{Gate, PATIENCE, ZONE, frame, table};
use crate::secure::{DotClient, Shown, address};
use crate::upstream::Upstream;
use crate::wire::{A, Answer, Ask, a, asked_name, code, read};

const LISTENERS: [&str; 5] = ["udp", "tcp", "tls", "https/1.1", "https/2"];

/// The reply to a query from an address; `None` where there is none: the connection is closed, or HTTP refuses.
async fn reply(shown: &Shown, gate: &Gate, listener: &str, from: &str, query: &[u8]) -> Option<Vec<u8>> {
    let local = SocketAddr::new(from.parse().unwrap(), 0);
    match listener {
        "udp" => {
            let socket = UdpSocket::bind(local).await.unwrap();
            socket.connect(gate.address).await.unwrap();
            socket.send(query).await.unwrap();
            // What stays silent does not hold up what comes next.
            socket.send(&Ask { id: 4711, ..Ask::new("health.sidegate.invalid", 16) }.to_wire()).await.unwrap();
            let is_query = query.len() >= 12 && query[2] & 0x80 == 0;
            let mut buffer = vec![0; 65_536];
            loop {
                let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
                if read(&buffer[..length]).metadata.id != 4711 {
                    return Some(buffer[..length].to_vec());
                } else if !is_query {
                    return None;
                }
            }
        }
        "tcp" => {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(local).unwrap();
            let mut stream = socket.connect(gate.address).await.unwrap();
            let _ = stream.write_all(&frame(query)).await;
            let _ = stream.shutdown().await;
            let mut all = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap();
            all.get(2..).map(<[u8]>::to_vec)
        }
        "tls" => {
            let mut client = DotClient(shown.connect(from, address(gate, Over::Tls), &["dot"]).await.ok()?);
            client.send(query).await;
            let _ = client.0.shutdown().await;
            client.receive().await
        }
        _ => {
            let version = if listener == "https/2" { Version::HTTP_2 } else { Version::HTTP_11 };
            let mut client = shown.doh_from(from, gate, version).await.ok()?;
            let response = client.send(crate::secure::post(query)).await.ok()?;
            Some(response.body().to_vec()).filter(|_| response.status() == 200)
        }
    }
}

async fn sound() -> Upstream {
    Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire()).await
}

#[tokio::test]
async fn the_access_list_holds_on_every_listener() {
    let (upstream, shown) = (sound().await, Shown::new());
    let mut strict = shown.config(&[upstream.address]);
    strict.clients = Networks::new(vec!["127.0.0.64/26".parse().unwrap()]);
    let gate = Gate::with(strict, table(Group::Public));
    for listener in LISTENERS {
        for (number, name) in ["www.example.com".to_owned(), format!("priv1.{ZONE}")].iter().enumerate() {
            let query = Ask::new(name, A).to_wire();
            let before = upstream.count();
            match reply(&shown, &gate, listener, "127.0.0.1", &query).await {
                Some(reply) => assert_eq!((listener, code(&read(&reply))), ("udp", ResponseCode::Refused)),
                None => assert_ne!(listener, "udp", "a datagram can be told no"),
            }
            assert_eq!(upstream.count(), before, "{listener} {number}");
            let served = reply(&shown, &gate, listener, "127.0.0.65", &query).await.expect("an answer");
            assert_eq!(read(&served).answers.len(), 1, "{listener} {name}");
        }
    }
}

#[tokio::test]
async fn what_is_no_plain_question_never_goes_upstream_on_any_listener() {
    let (upstream, shown) = (sound().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut cases: Vec<(Vec<u8>, Option<ResponseCode>)> = Vec::new();
    for opcode in [1, 2, 4, 5, 6, 15] {
        cases.push((Ask::new("www.example.com", A).flags(opcode << 11).to_wire(), Some(ResponseCode::NotImp)));
    }
    for qtype in [251, 252] {
        cases.push((Ask::new("example.com", qtype).to_wire(), Some(ResponseCode::Refused)));
    }
    let question = Ask::new("www.example.com", A).to_wire();
    let mut two = question.clone();
    two[5] = 2;
    two.extend(question[12..].to_vec());
    let mut answers = question.clone();
    answers[7] = 1;
    answers.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
    let mut trailing = question.clone();
    trailing.extend([7; 9]);
    cases.extend([two, answers, trailing].map(|query| (query, Some(ResponseCode::FormErr))));
    cases.push((Answer::to(&question).to_wire(), None));
    cases.extend([0, 1, 11].map(|length| (vec![0; length], None)));
    for listener in LISTENERS {
        for (query, expected) in &cases {
            let got = reply(&shown, &gate, listener, "127.0.0.1", query).await;
            assert_eq!(got.map(|reply| code(&read(&reply))), *expected, "{listener} {query:?}");
        }
    }
    assert_eq!(upstream.count(), 0);
}
