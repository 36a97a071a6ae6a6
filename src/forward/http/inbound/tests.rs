//! Clients that are slow, in a time that passes as fast as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::forward::http::Settings;
use crate::forward::http::source::halves;
use crate::forward::{AddressRules, Destinations, Dialer, Others};
use crate::policy::{Names, Networks, Table};

/// A connection to a gateway that reaches nobody; what it serves ends with `serving`.
struct Connected {
    client: DuplexStream,
    serving: JoinHandle<()>,
    asked: Arc<AtomicUsize>,
    start: Instant,
}

fn connect() -> Connected {
    let table = Table::new(Vec::new(), Arc::new(Names::default()), None).unwrap();
    let resolve: crate::forward::Resolve = Arc::new(|_, _, _| Box::pin(std::future::pending()));
    let addresses = AddressRules { public_networks: Networks::new(Vec::new()), own_listeners: Vec::new() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let gateway = Gateway::new(Settings {
        table: watch::channel(Arc::new(table)).1,
        rules: Destinations { allow: Vec::new(), others: Others::Refuse },
        dialer: Arc::new(Dialer::new(resolve, addresses, 443)),
        trust,
        acceptor: None,
        report: Arc::new(|_| ()),
    });
    let (client, near) = tokio::io::duplex(64 * 1024);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let serving = tokio::spawn(async move {
        let client = Client { address: "127.0.0.1:1".parse().unwrap(), port: 80, server_name: None };
        let has_asked = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        serve(&gateway, halves(near), &client, &CancellationToken::new(), &has_asked).await;
    });
    Connected { client, serving, asked, start: Instant::now() }
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
    let asked = Arc::clone(&connected.asked);
    let (answer, after) = connected.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert_eq!((after, asked.load(Ordering::Relaxed)), (19, 0));
}

#[tokio::test(start_paused = true)]
async fn between_requests_a_client_has_75_seconds() {
    let mut connected = connect();
    for _ in 0..3 {
        connected.send(REFUSED).await;
        tokio::time::sleep(Duration::from_secs(74)).await;
    }
    let asked = Arc::clone(&connected.asked);
    let (answers, after) = connected.rest().await;
    assert_eq!(answers.matches("HTTP/1.1 403 ").count(), 3);
    assert_eq!((after, asked.load(Ordering::Relaxed)), (2 * 74 + 75, 3));
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
