//! DNS over HTTPS: RFC 8484 over HTTP/1.1 and HTTP/2.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Version};
use sidegate::dns::Over;
use sidegate::policy::Upstream as Group;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::gate::{Gate, PATIENCE, ZONE, table, until};
use crate::secure::{DohClient, NAME, Shown, address, get, post};
use crate::upstream::{Action, Closed, Upstream};
use crate::wire::{A, AAAA, Answer, Ask, a, asked_name, code, data, read};

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// Answers with a TTL of 47 s at once, and names that begin with `slow` later.
async fn upstream() -> Upstream {
    Upstream::start(|asked| {
        let name = asked_name(&asked.query);
        let reply = Answer::to(&asked.query).with(&name, 47, a("192.0.2.1")).to_wire();
        let wait = match name.as_str() {
            name if name.starts_with("slower") => 2500,
            name if name.starts_with("slow") => 500,
            _ => 0,
        };
        let wait = Duration::from_millis(wait);
        vec![Action::Wait(wait), Action::Reply(reply)]
    })
    .await
}

fn private() -> Vec<u8> {
    Ask { id: 0, ..Ask::new(&format!("priv1.{ZONE}"), A) }.to_wire()
}

#[tokio::test]
async fn get_and_post_are_answered_over_both_versions_and_say_how_long_they_hold() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    for version in BOTH {
        let mut client = shown.doh(&gate, version).await;
        let forwarded = Ask { id: 0, ..Ask::new("www.example.com", A) }.to_wire();
        for (query, address, max_age) in [(private(), "10.0.0.1", 60), (forwarded, "192.0.2.1", 47)] {
            let encoded = URL_SAFE_NO_PAD.encode(&query);
            let by_get = client.send(get(&format!("/dns-query?dns={encoded}"))).await.unwrap();
            let by_post = client.post(&query).await;
            for response in [by_get, by_post] {
                assert_eq!((response.status().as_u16(), response.version()), (200, version));
                assert_eq!(response.headers()["content-type"], "application/dns-message");
                let said = response.headers()["cache-control"].to_str().unwrap().strip_prefix("max-age=").unwrap();
                let said: u32 = said.parse().unwrap();
                assert!(said <= max_age && said + 20 > max_age, "{said} of {max_age}");
                assert_eq!(data(&read(response.body())), [address]);
            }
        }
        let nothing = Ask::new(&format!("priv1.{ZONE}"), AAAA).to_wire();
        assert_eq!(client.post(&nothing).await.headers()["cache-control"], "max-age=10");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn what_is_no_exchange_is_refused_as_http_says_and_the_connection_goes_on_where_it_can() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let with = |method: Method, media_type: &str, body: &[u8]| {
        let mut request = post(body);
        *request.method_mut() = method;
        request.headers_mut().insert("content-type", media_type.parse().unwrap());
        request
    };
    let message = "application/dns-message";
    for version in BOTH {
        let cases: Vec<(Request<Full<Bytes>>, u16)> = vec![
            (get("/"), 404),
            (get("/dns-query"), 400),
            (get("/dns-query?dns=%%%"), 400),
            (get("/dns-query?dns=AAAA"), 400),
            (with(Method::PUT, message, &private()), 405),
            (with(Method::DELETE, message, b""), 405),
            (with(Method::HEAD, message, b""), 405),
            (with(Method::POST, "text/plain", &private()), 415),
            (with(Method::POST, message, &[0; 5_000]), 413),
            (with(Method::POST, message, &[0; 70_000]), 413),
            (with(Method::POST, message, b""), 400),
            (with(Method::POST, message, &[0xff; 12]), 400),
        ];
        for (request, status) in cases {
            let mut client = shown.doh(&gate, version).await;
            let shape = format!("{version:?} {} {}", request.method(), request.uri());
            let response = client.send(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{shape}");
            assert_eq!(response.headers().get("allow").is_some(), status == 405);
            if status != 413 {
                assert_eq!(data(&read(client.post(&private()).await.body())), ["10.0.0.1"], "after {shape}");
            }
        }
        let mut client = shown.doh(&gate, version).await;
        let mut two = private();
        two[5] = 2;
        let response = client.post(&two).await;
        assert_eq!((response.status().as_u16(), code(&read(response.body())).to_string()), (200, "Form Error".into()));
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn one_connection_of_http2_carries_many_questions_at_once() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let stream = shown.connect("127.0.0.1", address(&gate, Over::Https), &["h2"]).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    // By then it knows how many may be under way.
    assert_eq!(sender.send_request(post(&private())).await.unwrap().status().as_u16(), 200);
    let mut asked = JoinSet::new();
    for number in 0..200 {
        let mut sender: hyper::client::conn::http2::SendRequest<Full<Bytes>> = sender.clone();
        let query = Ask::new(&format!("slow{number}.example.com"), A).to_wire();
        asked.spawn(async move {
            sender.ready().await.unwrap();
            sender.send_request(post(&query)).await.unwrap().status().as_u16()
        });
    }
    while let Some(status) = asked.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(upstream.count(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_answers_all_that_was_asked_and_tells_clients_to_go_elsewhere() {
    for version in BOTH {
        let (upstream, shown) = (upstream().await, Shown::new());
        let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(shown.doh(&gate, version).await);
        }
        // Connected, with nothing asked: it keeps nobody.
        let _idle = shown.doh(&gate, version).await;
        let mut asked = JoinSet::new();
        for (number, mut client) in clients.into_iter().enumerate() {
            let query = Ask::new(&format!("slower{number}.example.com"), A).to_wire();
            asked.spawn(async move {
                let response = client.post(&query).await;
                let closes = response.headers().get("connection").is_some_and(|value| value == "close");
                // What comes before it has heard of the end is still answered.
                while client.send(post(&private())).await.is_ok() {}
                (data(&read(response.body())), closes)
            });
        }
        until("all are under way", || async { upstream.count() == 20 }).await;
        let draining = tokio::spawn(gate.plane.drain(PATIENCE));
        while let Some(outcome) = asked.join_next().await {
            assert_eq!(outcome.unwrap(), (vec!["192.0.2.1".to_owned()], version == Version::HTTP_11));
        }
        assert!(draining.await.unwrap());
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_and_one_that_never_ends_close_the_connection() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut stream = shown.connect("127.0.0.1", address(&gate, Over::Https), &["http/1.1"]).await.unwrap();
    let long = format!("GET /dns-query?dns={} HTTP/1.1\r\nhost: x\r\n\r\n", "A".repeat(40_000));
    let _ = stream.write_all(long.as_bytes()).await;
    let mut said = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("an end to it");
    assert!(said.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&said));
    let mut stream = shown.connect("127.0.0.1", address(&gate, Over::Https), &["http/1.1"]).await.unwrap();
    stream.write_all(b"GET /dns-query?dns=").await.unwrap();
    stream.flush().await.unwrap();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("an end to it");
}

/// Takes back one query after the other; how many, until the connection takes no more.
async fn until_told_to_go(client: &mut DohClient) -> usize {
    let mut taken_back = 0;
    loop {
        let query = Ask::new(&format!("slow{taken_back}.example.com"), A).to_wire();
        match tokio::time::timeout(Duration::from_millis(5), client.send(post(&query))).await {
            Ok(Err(_)) => return taken_back,
            Ok(Ok(_)) => {}
            Err(_) => taken_back += 1,
        }
        assert!(taken_back < 2000, "it goes on for ever");
    }
}

#[tokio::test]
async fn what_a_client_has_not_taken_back_is_answered_before_it_has_to_go() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut client = shown.doh(&gate, Version::HTTP_2).await;
    let mut patient = client.again();
    let query = Ask::new("slower.example.com", A).to_wire();
    let waiting = tokio::spawn(async move { patient.post(&query).await });
    until("it is under way", || async { upstream.count() == 1 }).await;
    until_told_to_go(&mut client).await;
    assert!(!waiting.is_finished());
    assert_eq!(data(&read(waiting.await.unwrap().body())), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_client_that_takes_back_what_it_asks_is_gone_soon() {
    let (upstream, shown) = (upstream().await, Shown::new());
    let gate = Gate::with(shown.config(&[upstream.address]), table(Group::Public));
    let mut client = shown.doh(&gate, Version::HTTP_2).await;
    let taken_back = until_told_to_go(&mut client).await;
    assert!(taken_back >= 100);
    let counted = || gate.plane.service().borrow().counters.taken_back.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(counted(), 1);
    let mut other = shown.doh(&gate, Version::HTTP_2).await;
    assert_eq!(data(&read(other.post(&private()).await.body())), ["10.0.0.1"], "others are served");
}

#[tokio::test]
async fn an_upstream_over_https_that_is_ourselves_by_name_is_found_when_it_is_asked() {
    let (vpc, shown) = (
        Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("127.0.0.1")).to_wire()).await,
        Shown::new(),
    );
    let gate = loop {
        // A port that is free now, though perhaps not for long.
        let free = Closed::reserve().await.address;
        let mut config = shown.config(&[]);
        config.encrypted.https = vec![free];
        config.upstreams.public = vec![format!("https://{NAME}:{}/dns-query", free.port()).parse().unwrap()];
        config.upstreams.vpc = vec![vpc.address.to_string().parse().unwrap()];
        config.extra_roots = vec![shown.roots()];
        if let Ok(gate) = Gate::try_with(config, table(Group::Public)) {
            break gate;
        }
    };
    let reply = gate.ask(&Ask::new("www.example.com", A).edns(1232, false)).await;
    assert_eq!(code(&reply).to_string(), "Server Failure");
    let looped = gate.plane.service().borrow().counters.looped.load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..10).contains(&looped), "{looped}");
}
