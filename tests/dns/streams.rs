//! TCP: queries may be pipelined and split at will, answers leave as they are ready.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::gate::{Gate, TcpClient, ZONE, frame};
use crate::upstream::{Action, Upstream};
use crate::wire::{A, Answer, Ask, a, asked_name, data, read};

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

fn asks(names: &[&str]) -> Vec<Ask> {
    names.iter().map(|name| Ask::new(name, A)).collect()
}

fn private() -> String {
    format!("priv1.{ZONE}")
}

/// The ids of the next replies, in the order they come.
async fn ids(client: &mut TcpClient, count: usize) -> Vec<u16> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let reply = read(&client.receive().await.expect("another answer"));
        assert_eq!(reply.answers.len(), 1);
        ids.push(reply.metadata.id);
    }
    ids
}

#[tokio::test]
async fn what_can_be_answered_at_once_does_not_wait_for_what_cannot() {
    let upstream = upstream().await;
    let gate = Gate::start(&[upstream.address]);
    let asks = asks(&["slow.example.com", "fast.example.com", &private()]);
    let mut client = TcpClient::connect(gate.address).await;
    for ask in &asks {
        client.send(&ask.to_wire()).await;
    }
    let order = ids(&mut client, 3).await;
    assert_eq!(order[2], asks[0].id, "the slow one comes last");
    assert!(order[..2].contains(&asks[1].id) && order[..2].contains(&asks[2].id));
}

#[tokio::test]
async fn it_does_not_matter_where_a_stream_is_split() {
    let upstream = upstream().await;
    let gate = Gate::start(&[upstream.address]);
    let asks = asks(&[&private(), "fast.example.com", &private()]);
    let bytes: Vec<u8> = asks.iter().flat_map(|ask| frame(&ask.to_wire())).collect();
    let mut client = TcpClient::connect(gate.address).await;
    for byte in &bytes {
        client.0.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut order = ids(&mut client, 3).await;
    order.sort_unstable();
    let mut expected: Vec<u16> = asks.iter().map(|ask| ask.id).collect();
    expected.sort_unstable();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn many_queries_in_one_write_are_all_answered_once() {
    let upstream = upstream().await;
    let gate = Gate::start(&[upstream.address]);
    let names: Vec<String> = (0..300)
        .map(|number| match number % 3 {
            0 => private(),
            1 => format!("slow{number}.example.com"),
            _ => format!("fast{number}.example.com"),
        })
        .collect();
    let mut asks: Vec<Ask> = names.iter().map(|name| Ask::new(name, A)).collect();
    asks.iter_mut().zip(0..).for_each(|(ask, id)| ask.id = id);
    let mut client = TcpClient::connect(gate.address).await;
    let bytes: Vec<u8> = asks.iter().flat_map(|ask| frame(&ask.to_wire())).collect();
    client.0.write_all(&bytes).await.unwrap();
    let mut answered = ids(&mut client, 300).await;
    answered.sort_unstable();
    assert_eq!(answered, (0..300).collect::<Vec<u16>>());
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_still_gets_its_answers_and_then_the_end() {
    let upstream = upstream().await;
    let gate = Gate::start(&[upstream.address]);
    for unfinished in [&b""[..], b"\x00", b"\x00\x40half a query"] {
        let mut client = TcpClient::connect(gate.address).await;
        let slow = format!("slow{}.example.com", unfinished.len());
        for name in [slow.as_str(), &private(), "fast.example.com"] {
            client.send(&Ask::new(name, A).to_wire()).await;
        }
        client.0.write_all(unfinished).await.unwrap();
        client.0.shutdown().await.unwrap();
        assert_eq!(ids(&mut client, 3).await.len(), 3, "before {unfinished:?}");
        assert_eq!(client.receive().await, None);
    }
}

#[tokio::test]
async fn an_empty_message_and_one_of_the_longest_do_no_harm() {
    let upstream = upstream().await;
    let gate = Gate::start(&[upstream.address]);
    let mut client = TcpClient::connect(gate.address).await;
    client.send(&[]).await;
    client.send(&vec![0xff; 65_535]).await;
    let ask = Ask::new("fast.example.com", A);
    client.send(&ask.to_wire()).await;
    assert_eq!(ids(&mut client, 1).await, [ask.id]);
}

#[tokio::test]
async fn hundreds_of_idle_connections_keep_nobody_else_out() {
    let upstream = upstream().await;
    let gate = Gate::start(&[upstream.address]);
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpClient::connect(gate.address).await);
    }
    assert_eq!(data(&gate.ask_tcp(&Ask::new(&private(), A)).await), ["10.0.0.1"]);
    let ask = Ask::new("fast.example.com", A);
    idle[0].send(&ask.to_wire()).await;
    assert_eq!(ids(&mut idle[0], 1).await, [ask.id], "and they may ask when they like");
}
