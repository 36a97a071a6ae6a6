//! Requests that change the protocol of their connection.

use sidegate::forward::access::Total;
use tokio::io::AsyncWriteExt;

use crate::client::{Client, ask};
use crate::server::{Connection, Server};
use crate::world::{Authority, PARTNER, PRIVATE, World};

fn upgrade(host: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nSec-WebSocket-Key: x==\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    )
}

const SWITCHING: &str =
    "HTTP/1.1 101 Switching\r\nupgrade: WebSocket\r\nconnection: upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n";

async fn world<F>(script: impl Fn(Connection, usize) -> F + Send + Sync + 'static) -> (World, Server)
where
    F: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new();
    // It would speak HTTP/2 if it were offered.
    let server = Server::start(authority.server(&[PRIVATE, PARTNER], false, &["h2", "http/1.1"]), script).await;
    (World::new(authority, server.port, server.port).await, server)
}

#[tokio::test]
async fn after_the_101_bytes_pass_both_ways_and_each_end_by_itself() {
    let (world, _server) = world(|mut connection, _| async move {
        let head = connection.head().await.unwrap();
        assert!(
            head.ends_with("Sec-WebSocket-Key: x==\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"),
            "{head}"
        );
        connection.send(&format!("{SWITCHING}first ")).await;
        connection.until("up").await;
        assert!(connection.until("more").await.is_none(), "the client ended its direction");
        connection.send("last").await;
        connection.close().await;
    })
    .await;
    for host in [PRIVATE, PARTNER] {
        let mut client = Client::connect(world.address).await;
        client.send(&upgrade(host)).await;
        let head = client.head().await;
        let expected =
            "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: y\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        assert_eq!(head, expected);
        client.send("up").await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, ("first last".to_owned(), true));
    }
    assert_eq!(world.ended(2).await, [("finished", Total { count: 2, up: 4, down: 20 })]);
}

#[tokio::test]
async fn bytes_before_the_101_are_an_error_and_nothing_of_them_is_sent() {
    let (world, server) = world(|mut connection, _| async move {
        connection.head().await;
        assert!(connection.until("GET /smuggled").await.is_none());
    })
    .await;
    let got = ask(world.address, &format!("{}GET /smuggled", upgrade(PRIVATE))).await;
    assert!(got.starts_with("HTTP/1.1 400 ") && server.accepted() == 0, "{got}");
    let mut client = Client::connect(world.address).await;
    client.send(&upgrade(PRIVATE)).await;
    while server.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    client.send("GET /smuggled").await;
    assert!(client.rest().await.0.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn another_answer_is_passed_on_and_ends_the_connection() {
    let (world, _server) = world(|mut connection, _| async move {
        connection.head().await;
        connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        connection.head().await;
    })
    .await;
    let got = ask(world.address, &upgrade(PRIVATE)).await;
    assert_eq!(got, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
}
