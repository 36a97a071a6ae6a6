//! Connections in HTTP/2 to servers: what one client or request does there is no other's concern.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use crate::client::{Client, ask};
use crate::http2::{Body, http2, serve, text};
use crate::server::{Connection, Server};
use crate::world::{Authority, PUBLIC, World};

const LARGE: usize = 64 << 20;
const PIECE: usize = 16 * 1024;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {PUBLIC}\r\nConnection: close\r\n\r\n")
}

fn large() -> Body {
    Full::new(Bytes::from(vec![7; LARGE])).map_err(|never| match never {}).boxed()
}

/// A body that has begun, and says no more.
fn begun() -> Body {
    let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from("begun"))) });
    let then = futures_util::stream::once(pending());
    BodyExt::boxed(StreamBody::new(futures_util::StreamExt::chain(first, then)))
}

async fn world<F>(script: impl Fn(Connection, usize) -> F + Send + Sync + 'static) -> (World, Server)
where
    F: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new();
    let server = Server::start(authority.server(&[PUBLIC], false, &["h2"]), script).await;
    (World::new(authority, 1, server.port).await, server)
}

#[tokio::test]
async fn clients_that_stop_reading_keep_nobody_else_waiting() {
    let (world, server) = world(|connection, _| {
        serve(connection, |request: Request<Incoming>| async move {
            Response::new(if request.uri().path() == "/large" { large() } else { text("hi") })
        })
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(world.address).await;
        client.send(&get("/large")).await;
        client.head().await;
        // All that sockets, we and the windows hold has come this far, or is about to.
        for _ in 0..20 {
            assert!(ask(world.address, &get("/")).await.ends_with("hi"));
        }
        stalled.push(client);
    }
    assert_eq!(server.accepted(), 1, "they share a connection");
}

#[tokio::test]
async fn a_request_never_waits_for_another_to_end_because_the_server_takes_few_at_a_time() {
    let (world, server) = world(|connection, _| async move {
        let answer = hyper::service::service_fn(|request: Request<Incoming>| async move {
            let body = if request.uri().path() == "/events" { begun() } else { text("hi") };
            Ok::<_, std::convert::Infallible>(Response::new(body))
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(1)
            .serve_connection(TokioIo::new(connection.stream), answer)
            .await;
    })
    .await;
    let mut events = Client::connect(world.address).await;
    events.send(&get("/events")).await;
    events.until("begun").await;
    for _ in 0..3 {
        assert!(ask(world.address, &get("/")).await.ends_with("hi"));
    }
    let mut others = Client::connect(world.address).await;
    others.send(&get("/events")).await;
    others.until("begun").await;
    assert!(ask(world.address, &get("/")).await.ends_with("hi"));
    assert!(server.accepted() >= 3, "each stream has its own: {}", server.accepted());
}

#[tokio::test]
async fn an_answer_that_the_server_breaks_off_is_broken_off_to_the_client() {
    let seen = Arc::new(Notify::new());
    let told = Arc::clone(&seen);
    let (world, _server) = world(move |connection, _| {
        let told = Arc::clone(&told);
        async move {
            let answer = hyper::service::service_fn(|_: Request<Incoming>| {
                let told = Arc::clone(&told);
                async move {
                    let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from("begun"))) });
                    let then = futures_util::stream::once(async move {
                        told.notified().await;
                        Err(std::io::Error::other("no more"))
                    });
                    let body = StreamBody::new(futures_util::StreamExt::chain(first, Box::pin(then)));
                    Ok::<_, std::convert::Infallible>(Response::new(BodyExt::boxed(body)))
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection.stream), answer)
                .await;
        }
    })
    .await;
    let mut client = Client::connect(world.address).await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: {PUBLIC}\r\n\r\n")).await;
    client.until("begun").await;
    seen.notify_one();
    let (got, _) = client.rest().await;
    assert!(!got.contains("0\r\n\r\n"), "it looks whole: {got}");
}

#[tokio::test]
async fn a_length_that_can_be_read_in_two_ways_is_a_502() {
    for lengths in [&["5", "5"][..], &["5", "05"], &["+5"], &["5, 5"], &[""]] {
        let (world, _server) = world(move |connection, _| async move {
            serve(connection, move |_: Request<Incoming>| async move {
                let mut response = Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter([Ok(
                    Frame::data(Bytes::from("hello")),
                )]))));
                for length in lengths {
                    response.headers_mut().append("content-length", length.parse().unwrap());
                }
                response
            })
            .await;
        })
        .await;
        let got = ask(world.address, &get("/")).await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{lengths:?}: {got}");
    }
}

#[tokio::test]
async fn a_connection_that_its_server_says_goodbye_on_gets_no_new_request() {
    let leave = Arc::new(Notify::new());
    let told = Arc::clone(&leave);
    let (world, server) = world(move |connection, number| {
        let told = Arc::clone(&told);
        async move {
            let answer = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let body = if request.uri().path() == "/events" { begun() } else { text("hi") };
                Ok::<_, std::convert::Infallible>(Response::new(body))
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(connection.stream), answer);
            let mut serving = std::pin::pin!(serving);
            if number == 0 {
                tokio::select! {
                    _ = &mut serving => {}
                    () = told.notified() => serving.as_mut().graceful_shutdown(),
                }
            }
            let _ = serving.await;
        }
    })
    .await;
    // With an answer under way the connection stays.
    let mut events = Client::connect(world.address).await;
    events.send(&get("/events")).await;
    events.until("begun").await;
    leave.notify_one();
    while server.accepted() == 1 {
        assert!(ask(world.address, &get("/")).await.ends_with("hi"));
    }
    assert!(ask(world.address, &get("/")).await.ends_with("hi"));
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn large_bodies_pass_whole_from_http2_to_http2() {
    let authority = Authority::new();
    let server = Server::start(authority.server(&[PUBLIC], false, &["h2"]), |connection, _| {
        serve(connection, |request: Request<Incoming>| async move { Response::new(request.into_body().boxed()) })
    })
    .await;
    let world = World::tls(authority, 1, server.port, &["gateway.example"]).await;
    let mut sender = http2(&world, "gateway.example").await;
    let request = Request::post(format!("https://{PUBLIC}/")).body(large()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data == vec![7; data.len()]);
        length += data.len();
    }
    assert_eq!(length, LARGE);
}

#[tokio::test]
async fn a_server_sends_a_slow_reader_no_more_than_windows_and_sockets_hold() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let (world, _server) = world(move |connection, _| {
        let count = Arc::clone(&count);
        serve(connection, move |request: Request<Incoming>| {
            let count = Arc::clone(&count);
            async move {
                if request.uri().path() != "/large" {
                    return Response::new(text("hi"));
                }
                let pieces = futures_util::stream::repeat_with(move || {
                    count.fetch_add(PIECE, Ordering::SeqCst);
                    Ok(Frame::data(Bytes::from_static(&[7; PIECE])))
                });
                Response::new(BodyExt::boxed(StreamBody::new(pieces)))
            }
        })
    })
    .await;
    let mut slow = Client::connect(world.address).await;
    slow.send(&get("/large")).await;
    slow.head().await;
    // It stops once all is full: then other requests change nothing any more.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        for _ in 0..50 {
            assert!(ask(world.address, &get("/")).await.starts_with("HTTP/1.1 200 "));
        }
    }
    assert!(before < LARGE / 2, "{before}");
    // It goes on when it is read.
    let mut some = vec![0; PIECE];
    while sent.load(Ordering::SeqCst) < before + (1 << 20) {
        slow.stream.read_exact(&mut some).await.unwrap();
    }
}
