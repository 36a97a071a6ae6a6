//! Clients that are slow, in a time that passes as fast as it can.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::forward::access::Journal;
use crate::forward::http::source::halves;
use crate::forward::router::Router;
use crate::forward::service::{Connection, Drain, Listening, Service};
use crate::forward::{AddressRules, Destinations, Dialer, Others};
use crate::policy::{Names, Networks, Table};
use crate::tcp_listener::{Bounds, Connections};

/// A connection to a forwarder that reaches nobody; what it serves ends with `serving`.
struct Connected {
    client: DuplexStream,
    serving: JoinHandle<()>,
    stop: CancellationToken,
    start: Instant,
}

fn connect() -> Connected {
    let table = Table::new(Vec::new(), Arc::new(Names::default()), None).unwrap();
    let nobody = Networks::new(Vec::new());
    let addresses = AddressRules { public_networks: nobody, own_listeners: Vec::new() };
    let service = Service {
        router: Router {
            table: watch::channel(Arc::new(table)).1,
            destinations: Destinations { allow: Vec::new(), others: Others::Refuse },
            dialer: Dialer::new(
                Arc::new(|_, _, _| Box::pin(std::future::pending())),
                Arc::new(|_| ()),
                addresses,
                443,
                None,
            ),
        },
        clients: Networks::new(vec!["127.0.0.0/8".parse().unwrap()]),
        journal: Arc::new(Journal::default()),
        http: Some(crate::forward::http::reaching_nobody()),
    };
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let connections = Connections::new(Bounds { total: 1, per_client: 1 });
    let (place, _) = connections.admit(None, std::time::Instant::now(), CancellationToken::new());
    let service = watch::channel(Arc::new(service)).1;
    let drain = Drain::default();
    let stop = drain.begun.clone();
    let bounds = Arc::default();
    let listening = Arc::new(Listening { service, address, bounds, drain });
    let connection = Connection { client: address, place, listening };
    let (client, near) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        serve(halves(near), &Client { connection, server_name: None }).await;
    });
    Connected { client, serving, stop, start: Instant::now() }
}

impl Connected {
    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes until the end, and after how many seconds that is.
    async fn rest(mut self) -> (String, u64) {
        let mut text = String::new();
        self.client.read_to_string(&mut text).await.unwrap();
        let after = self.start.elapsed().as_secs();
        drop(self.client);
        self.serving.await.unwrap();
        (text, after)
    }
}

const REFUSED: &str = "GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_closed_silently() {
    assert_eq!(connect().rest().await, (String::new(), 10));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_a_408_ten_seconds_after_its_first_byte() {
    let mut connected = connect();
    tokio::time::sleep(Duration::from_secs(9)).await;
    for byte in "GET / HTT".chars() {
        connected.send(&byte.to_string()).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (answer, after) = connected.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!(after, 19);
}

#[tokio::test(start_paused = true)]
async fn between_requests_a_client_has_75_seconds() {
    let mut connected = connect();
    for _ in 0..3 {
        connected.send(REFUSED).await;
        tokio::time::sleep(Duration::from_secs(74)).await;
    }
    let (answers, after) = connected.rest().await;
    assert_eq!(answers.matches("HTTP/1.1 403 ").count(), 3);
    assert_eq!(after, 2 * 74 + 75);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_on_after_its_last_answer_is_not_read_for_ever() {
    let mut connected = connect();
    connected.send("GET / HTTP/9.9\r\n\r\n").await;
    let mut serving = connected.serving;
    let start = Instant::now();
    loop {
        tokio::select! {
            _ = &mut serving => break,
            _ = connected.client.write_all(&[0; 1024]) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_refused_at_its_bound() {
    let mut connected = connect();
    connected.send("GET / HTTP/1.1\r\nX: ").await;
    connected.send(&"x".repeat(40_000)).await;
    let (answer, _) = connected.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_just_after_a_stop_is_the_last_one_answered() {
    let mut fresh = connect();
    fresh.stop.cancel();
    tokio::time::sleep(Duration::from_millis(900)).await;
    fresh.send(REFUSED).await;
    let mut known = connect();
    known.send(REFUSED).await;
    known.client.read_exact(&mut [0; 12]).await.unwrap();
    known.stop.cancel();
    tokio::time::sleep(Duration::from_millis(40)).await;
    known.send(REFUSED).await;
    for connected in [fresh, known] {
        let (answers, _) = connected.rest().await;
        assert_eq!(answers.matches("\r\nConnection: close\r\n").count(), 1, "{answers}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_nobody_waits_long_for_a_request() {
    let connected = connect();
    connected.stop.cancel();
    assert_eq!(connected.rest().await, (String::new(), 1));
}
