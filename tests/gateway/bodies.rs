//! Bodies: framing, streaming, trailers, and what becomes of those that break off.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Client, ask};
use crate::server::{Connection, Server};
use crate::world::{Authority, PRIVATE, World};

/// A gateway whose endpoint runs this script for each connection.
async fn world<F>(script: impl Fn(Connection, usize) -> F + Send + Sync + 'static) -> (World, Server)
where
    F: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new();
    let server = Server::start(authority.server(&[PRIVATE], false, &[]), script).await;
    (World::new(authority, server.port, 1).await, server)
}

/// A gateway whose endpoint answers each head with this, and ends the connection in order.
async fn answering(answer: &'static str) -> (World, Server) {
    world(move |mut connection, _| async move {
        connection.head().await;
        connection.send(answer).await;
        connection.close().await;
    })
    .await
}

fn request(line: &str, more: &str) -> String {
    format!("{line}\r\nHost: {PRIVATE}\r\n{more}\r\n")
}

#[tokio::test]
async fn an_answer_is_framed_for_who_asked() {
    for (line, answer, expected) in [
        (
            "GET / HTTP/1.1",
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        ("GET / HTTP/1.0", "HTTP/1.1 200 OK\r\n\r\nhello", "Connection: close\r\n\r\nhello"),
        (
            "GET / HTTP/1.0",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "Connection: close\r\n\r\nhello",
        ),
        (
            "GET / HTTP/1.1",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "HEAD / HTTP/1.1",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "Content-Length: 5\r\nConnection: close\r\n\r\n",
        ),
        ("HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "Connection: close\r\n\r\n"),
        (
            "GET / HTTP/1.1",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "Content-Length: 0\r\nConnection: close\r\n\r\n",
        ),
    ] {
        let (world, _server) = answering(answer).await;
        let got = ask(world.address, &request(line, "Connection: close\r\n")).await;
        assert_eq!(got, format!("HTTP/1.1 200 OK\r\n{expected}"), "{line} {answer:?}");
    }
    for status in ["204 No Content", "304 Not Modified"] {
        let (world, _server) = world(move |mut connection, _| async move {
            connection.head().await;
            connection.send(&format!("HTTP/1.1 {status}\r\nETag: x\r\n\r\n")).await;
            connection.head().await;
        })
        .await;
        let got = ask(world.address, &request("GET / HTTP/1.1", "Connection: close\r\n")).await;
        assert_eq!(got, format!("HTTP/1.1 {status}\r\nETag: x\r\nConnection: close\r\n\r\n"));
    }
}

#[tokio::test]
async fn an_answer_that_may_end_in_two_places_is_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
        "SSH-2.0-x\r\n\r\n",
        "",
    ] {
        let (world, _server) = answering(answer).await;
        let got = ask(world.address, &request("GET / HTTP/1.1", "Connection: close\r\n")).await;
        assert!(got.starts_with("HTTP/1.1 502 ") && got.contains("http_protocol_error"), "{answer:?}: {got}");
    }
}

#[tokio::test]
async fn an_answer_cut_short_is_never_ended_for_the_client() {
    for (answer, passed) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "\r\n\r\nhello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nhello\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "5\r\nhello\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense", "5\r\nhello\r\n"),
    ] {
        let (world, _server) = answering(answer).await;
        let got = ask(world.address, &request("GET / HTTP/1.1", "")).await;
        assert!(got.ends_with(passed), "{answer:?}: {got:?}");
        assert_eq!(world.ended(1).await[0].0, "upstream_reset");
    }
    // Without a length, only the farewell of TLS tells the end from a cut; in the clear, only a reset does.
    let (world, _server) = world(|mut connection, _| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\n\r\nhello").await;
    })
    .await;
    let chunked = ask(world.address, &request("GET / HTTP/1.1", "")).await;
    assert!(chunked.ends_with("5\r\nhello\r\n"), "{chunked}");
    let mut old = Client::connect(world.address).await;
    old.send(&request("GET / HTTP/1.0", "")).await;
    old.until("hello").await;
    assert!(!old.rest().await.1, "an end that looks like one");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (world, _server) = world(|mut connection, _| async move {
        let head = connection.head().await.unwrap();
        assert!(head.contains("Trailer: X-Sum") && head.contains("Transfer-Encoding: chunked"), "{head}");
        let body = connection.head().await.unwrap();
        assert_eq!(body, "2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n");
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 2\r\n\r\n").await;
    })
    .await;
    let more = "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
    let sent = format!(
        "{}2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
        request("POST / HTTP/1.1", more)
    );
    let got = ask(world.address, &sent).await;
    let whole = got.ends_with("2\r\nhi\r\n0\r\nx-sum: 2\r\n\r\n");
    assert!(whole, "{got}");
}

#[tokio::test]
async fn every_piece_passes_as_it_comes_and_both_directions_at_once() {
    // A conversation: each side waits for the other's piece before it sends its next.
    let (world, _server) = world(|mut connection, _| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for number in 0..3 {
            connection.until(&format!("up {number}")).await;
            connection.send(&format!("6\r\ndown {number}\r\n")).await;
        }
        connection.until("0\r\n\r\n").await;
        connection.send("0\r\n\r\n").await;
    })
    .await;
    let mut client = Client::connect(world.address).await;
    client.send(&request("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n")).await;
    assert!(client.head().await.contains("text/event-stream"));
    for number in 0..3 {
        client.send(&format!("4\r\nup {number}\r\n")).await;
        client.until(&format!("down {number}")).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.rest().await.0, "\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_body_is_asked_for_by_the_server_and_not_before() {
    let (world, _server) = world(|mut connection, _| async move {
        let head = connection.head().await.unwrap();
        assert!(head.contains("Expect: 100-continue"), "{head}");
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Go on\r\n\r\n").await;
        connection.until("hello").await;
        connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let mut client = Client::connect(world.address).await;
    client.send(&request("PUT / HTTP/1.1", "Expect: 100-continue\r\nContent-Length: 5\r\n")).await;
    assert_eq!(client.head().await, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    assert_eq!(client.head().await, "HTTP/1.1 100 Go on\r\n\r\n");
    client.send("hello").await;
    assert_eq!(client.head().await, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    // HTTP/1.0 has no such answers.
    let mut old = Client::connect(world.address).await;
    old.send(&format!("{}hello", request("PUT / HTTP/1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n"))).await;
    assert!(old.rest().await.0.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn an_answer_before_the_body_is_passed_on_and_ends_the_connection() {
    let (world, _server) = world(|mut connection, _| async move {
        connection.head().await;
        connection.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        connection.until("never").await;
    })
    .await;
    for expect in ["Expect: 100-continue\r\n", ""] {
        let got = ask(world.address, &request("PUT / HTTP/1.1", &format!("{expect}Content-Length: 5\r\n"))).await;
        assert_eq!(got, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    }
}

#[tokio::test]
async fn a_broken_request_body_is_answered_400_and_ends_the_servers_connection() {
    let (world, _server) = world(|mut connection, _| async move {
        connection.head().await;
        assert!(connection.until("0\r\n\r\n").await.is_none(), "the body was ended for the client");
    })
    .await;
    let head = request("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n");
    for body in ["5\r\nhelloXY", "5\r\nhello\r\n0x3\r\n", "zz\r\n"] {
        let got = ask(world.address, &format!("{head}{body}")).await;
        assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("Connection: close"), "{got}");
    }
    let mut client = Client::connect(world.address).await;
    client.send(&request("POST / HTTP/1.1", "Content-Length: 9\r\n")).await;
    client.send("hello").await;
    client.stream.shutdown().await.unwrap();
    assert!(client.rest().await.0.starts_with("HTTP/1.1 400 "));
}

/// Bytes that are the same nowhere.
fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_arrive_bit_for_bit_both_ways_at_once() {
    const SIZE: usize = 8 << 20;
    let (world, _server) = world(|mut connection, _| async move {
        connection.head().await;
        connection.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let (mut reader, mut writer) = tokio::io::split(connection.stream);
        // An echo: what it has not sent on it must keep, so back-pressure holds both ways.
        let copied = tokio::io::copy(&mut (&mut reader).take(SIZE as u64), &mut writer).await.unwrap();
        writer.flush().await.unwrap();
        assert_eq!(copied, SIZE as u64);
        let _ = reader.read(&mut [0]).await;
    })
    .await;
    let mut client = Client::connect(world.address).await;
    client.send(&request("POST / HTTP/1.1", &format!("Content-Length: {SIZE}\r\n"))).await;
    let (mut reader, mut writer) = client.stream.into_split();
    let sending = tokio::spawn(async move {
        let bytes: Vec<u8> = (0..SIZE).map(pattern).collect();
        writer.write_all(&bytes).await.unwrap();
        writer
    });
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(reader.read_u8().await.unwrap());
    }
    let mut got = vec![0; SIZE];
    reader.read_exact(&mut got).await.unwrap();
    assert!(got.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn an_answer_to_a_request_that_breaks_off_is_cut_short() {
    let (world, _server) = world(|mut connection, _| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        assert!(connection.until("never").await.is_none());
    })
    .await;
    let mut client = Client::connect(world.address).await;
    client.send(&request("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n")).await;
    client.until("hello\r\n").await;
    client.send("nonsense\r\n").await;
    assert_eq!(client.rest().await.0, "");
}
