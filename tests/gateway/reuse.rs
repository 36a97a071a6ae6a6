//! Connections to servers: kept for the next request, and given up when they cannot be trusted with it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::client::{Client, ask};
use crate::server::Server;
use crate::world::{Authority, PRIVATE, World};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn get() -> String {
    format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n")
}

#[tokio::test]
async fn a_connection_serves_clients_one_after_the_other() {
    let authority = Authority::new();
    let server = Server::start(authority.server(&[PRIVATE], false, &[]), |mut connection, _| async move {
        while let Some(head) = connection.head().await {
            if head.contains("Content-Length: 5") {
                connection.until("hello").await;
            }
            connection.send(OK).await;
        }
    })
    .await;
    let world = World::new(authority, server.port, 1).await;
    for _ in 0..3 {
        let mut client = Client::connect(world.address).await;
        client.send(&get()).await;
        client.until("hi").await;
        client.send(&format!("POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: 5\r\n\r\nhello")).await;
        client.until("hi").await;
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_has_ended_or_written_to_is_not_used_again() {
    for unasked in ["", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"] {
        let authority = Authority::new();
        let (go, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, tell) = (Arc::clone(&go), Arc::clone(&gone));
        let server = Server::start(authority.server(&[PRIVATE], false, &[]), move |mut connection, number| {
            let (told, tell) = (Arc::clone(&told), Arc::clone(&tell));
            async move {
                assert!(connection.head().await.is_some());
                connection.send(OK).await;
                if number == 0 {
                    told.notified().await;
                    connection.send(unasked).await;
                    if unasked.is_empty() {
                        connection.close().await;
                        tell.notify_one();
                    } else {
                        tell.notify_one();
                        assert!(connection.head().await.is_none(), "it was used again");
                    }
                } else {
                    connection.head().await;
                }
            }
        })
        .await;
        let world = World::new(authority, server.port, 1).await;
        let mut client = Client::connect(world.address).await;
        client.send(&get()).await;
        client.until("hi").await;
        go.notify_one();
        gone.notified().await;
        client.send(&get()).await;
        assert!(client.until("hi").await.starts_with("HTTP/1.1 200"));
        assert_eq!(server.accepted(), 2);
    }
}

#[tokio::test]
async fn a_connection_whose_answer_says_close_or_ends_with_it_is_not_kept() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more",
    ] {
        let authority = Authority::new();
        let server = Server::start(authority.server(&[PRIVATE], false, &[]), move |mut connection, _| async move {
            while connection.head().await.is_some() {
                connection.send(answer).await;
            }
        })
        .await;
        let world = World::new(authority, server.port, 1).await;
        for _ in 0..2 {
            let got = ask(world.address, &get().replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
            assert!(got.ends_with("\r\n\r\nhi"), "{got}");
        }
        assert_eq!(server.accepted(), 2, "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    for method in ["GET", "POST", "PUT"] {
        let authority = Authority::new();
        let server = Server::start(authority.server(&[PRIVATE], false, &[]), |mut connection, number| async move {
            connection.head().await;
            if number == 0 {
                connection.send(OK).await;
                // The second request on it is taken, and not answered.
                connection.head().await;
                connection.close().await;
            }
        })
        .await;
        let world = World::new(authority, server.port, 1).await;
        let mut client = Client::connect(world.address).await;
        client.send(&get()).await;
        client.until("hi").await;
        client.send(&get().replace("GET", method)).await;
        assert!(client.head().await.starts_with("HTTP/1.1 502 "));
        assert_eq!(server.accepted(), 1, "{method}");
    }
}
