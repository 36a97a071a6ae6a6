//! Clients that leave early, and clients that are there when Sidegate stops.

use std::io::Write;
use std::sync::Arc;

use sidegate::policy::Networks;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::client::Client;
use crate::server::Server;
use crate::world::{Authority, PRIVATE, World};

fn get() -> String {
    format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n")
}

/// A gateway whose endpoint says that it has a request, and answers it when told to. `ended`: the gateway
/// has ended a connection.
async fn waiting() -> (World, Server, Arc<Notify>, Arc<Notify>, Arc<Notify>) {
    let authority = Authority::new();
    let [asked, answer, ended] = [(); 3].map(|()| Arc::new(Notify::new()));
    let told = (Arc::clone(&asked), Arc::clone(&answer), Arc::clone(&ended));
    let server = Server::start(authority.server(&[PRIVATE], false, &[]), move |mut connection, _| {
        let (asked, answer, ended) = told.clone();
        async move {
            while connection.head().await.is_some() {
                asked.notify_one();
                tokio::select! {
                    () = answer.notified() => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await,
                    _ = connection.head() => break,
                }
            }
            ended.notify_one();
        }
    })
    .await;
    (World::new(authority, server.port, 1).await, server, asked, answer, ended)
}

#[tokio::test]
async fn a_client_that_resets_takes_its_request_back() {
    let (world, _server, asked, _answer, ended) = waiting().await;
    let mut client = Client::connect(world.address).await;
    client.send(&get()).await;
    asked.notified().await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    ended.notified().await;
    assert_eq!(world.ended(1).await[0].0, "client_reset");
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    let (world, _server, asked, answer, _ended) = waiting().await;
    let mut client = Client::connect(world.address).await;
    client.send(&get()).await;
    client.stream.shutdown().await.unwrap();
    asked.notified().await;
    answer.notify_one();
    let (got, ended) = client.rest().await;
    assert!(ended && got.ends_with("hi"), "{got}");
}

/// A connection whose request was answered, and one whose request is under way.
async fn idle_and_busy(world: &World, asked: &Notify, answer: &Notify) -> (Client, Client) {
    let mut idle = Client::connect(world.address).await;
    idle.send(&get()).await;
    asked.notified().await;
    answer.notify_one();
    idle.until("hi").await;
    let mut busy = Client::connect(world.address).await;
    busy.send(&get()).await;
    asked.notified().await;
    (idle, busy)
}

#[tokio::test]
async fn at_a_stop_requests_under_way_are_answered_and_idle_connections_end() {
    let (mut world, _server, asked, answer, _ended) = waiting().await;
    let (idle, busy) = idle_and_busy(&world, &asked, &answer).await;
    let drained = world.drain();
    assert_eq!(idle.rest().await, (String::new(), true));
    answer.notify_one();
    let (got, _) = busy.rest().await;
    assert!(got.contains("\r\nConnection: close\r\n") && got.ends_with("hi"), "{got}");
    assert!(drained.await.unwrap());
}

#[tokio::test]
async fn at_a_stop_requests_that_were_sent_before_it_are_answered() {
    let authority = Authority::new();
    let server = Server::start(authority.server(&[PRIVATE], false, &[]), |mut connection, _| async move {
        while connection.head().await.is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        }
    })
    .await;
    let mut world = World::new(authority, server.port, 1).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut known = Client::connect(world.address).await;
        known.send(&get()).await;
        known.until("hi").await;
        clients.push(known.stream.into_std().unwrap());
    }
    // Written without a turn for anybody else: Sidegate finds request and stop at once.
    for number in 0..40 {
        if number >= 20 {
            clients.push(std::net::TcpStream::connect(world.address).unwrap());
        }
        clients[number].write_all(get().as_bytes()).unwrap();
    }
    let drained = world.drain();
    for (number, client) in clients.into_iter().enumerate() {
        client.set_nonblocking(true).unwrap();
        let (got, _) = Client::over(TcpStream::from_std(client).unwrap()).rest().await;
        assert!(got.contains("\r\nConnection: close\r\n") && got.ends_with("hi"), "{number}: {got:?}");
    }
    assert!(drained.await.unwrap());
}

#[tokio::test]
async fn a_client_that_stays_does_not_keep_what_a_reload_replaced() {
    let (mut world, _server, asked, answer, ended) = waiting().await;
    let mut client = Client::connect(world.address).await;
    client.send(&get()).await;
    asked.notified().await;
    answer.notify_one();
    client.until("hi").await;
    world.reload().await;
    // The connection that waited for this client's next request.
    ended.notified().await;
    client.send(&get()).await;
    asked.notified().await;
    answer.notify_one();
    client.until("hi").await;
}

#[tokio::test]
async fn connections_of_a_listener_that_was_removed_finish_and_end() {
    let (mut world, _server, asked, answer, _ended) = waiting().await;
    let (idle, busy) = idle_and_busy(&world, &asked, &answer).await;
    world.config.http_listen.clear();
    world.reload().await;
    assert_eq!(idle.rest().await, (String::new(), true));
    answer.notify_one();
    let (got, _) = busy.rest().await;
    assert!(got.contains("\r\nConnection: close\r\n") && got.ends_with("hi"), "{got}");
}

#[tokio::test]
async fn a_client_that_may_not_come_any_more_is_refused_at_its_next_request() {
    let (mut world, _server, asked, answer, _ended) = waiting().await;
    let mut client = Client::connect(world.address).await;
    client.send(&get()).await;
    asked.notified().await;
    answer.notify_one();
    client.until("hi").await;
    world.config.clients = Networks::new(Vec::new());
    world.reload().await;
    client.send(&get()).await;
    let (got, _) = client.rest().await;
    assert!(got.starts_with("HTTP/1.1 403 ") && got.contains("\r\nConnection: close\r\n"), "{got}");
}
