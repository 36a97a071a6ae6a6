//! HTTP/2, towards public servers and from clients.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use ::bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use sidegate::policy::{Addresses, Endpoint, Names, Table};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Notify};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, ask};
use crate::server::{Connection, Server};
use crate::world::{Authority, PARTNER, PRIVATE, PUBLIC, World};

pub type Body = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;

/// Serves HTTP/2 on a connection.
pub async fn serve<F>(connection: Connection, answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .auto_date_header(false)
        .serve_connection(TokioIo::new(connection.stream), service)
        .await;
}

pub fn text(text: &'static str) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

async fn connect(world: &World, name: &str, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut settings = world.authority.client();
    settings.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(world.address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(settings)).connect(name, stream).await
}

pub async fn http2(world: &World, name: &str) -> SendRequest<Body> {
    let stream = connect(world, name, "h2").await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn requests_of_many_clients_share_a_connection_to_a_server_that_speaks_http2() {
    let authority = Authority::new();
    let together = Arc::new(Barrier::new(20));
    let server = Server::start(authority.server(&[PUBLIC], false, &["h2"]), move |connection, _| {
        let together = Arc::clone(&together);
        serve(connection, move |request: Request<Incoming>| {
            let together = Arc::clone(&together);
            async move {
                assert_eq!(request.uri().authority().unwrap(), PUBLIC);
                assert_eq!(request.uri().path_and_query().unwrap(), "/a%2f?q");
                let mut names: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
                names.sort();
                assert_eq!(names, ["accept", "content-length"]);
                let body = request.into_body().collect().await.unwrap().to_bytes();
                together.wait().await;
                Response::new(Full::new(body).map_err(|never| match never {}).boxed())
            }
        })
    })
    .await;
    let world = World::new(authority, 1, server.port).await;
    let address = world.address;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let request = format!(
                "POST /a%2f?q HTTP/1.1\r\nHost: {PUBLIC}\r\nAccept: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
            );
            tokio::spawn(async move { ask(address, &request).await })
        })
        .collect();
    for client in clients {
        let got = client.await.unwrap();
        assert_eq!(got, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn what_http2_cannot_carry_goes_out_in_http1() {
    let authority = Authority::new();
    let agreed: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&agreed);
    let server = Server::start(authority.server(&[PUBLIC], false, &["h2", "http/1.1"]), move |mut connection, _| {
        let alpn = connection.stream.get_ref().1.alpn_protocol().unwrap().to_vec();
        seen.lock().unwrap().push(String::from_utf8(alpn).unwrap());
        async move {
            assert!(connection.head().await.unwrap().starts_with("GET /a#b HTTP/1.1\r\n"));
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
            connection.head().await;
        }
    })
    .await;
    let world = World::new(authority, 1, server.port).await;
    let got = ask(world.address, &format!("GET /a#b HTTP/1.1\r\nHost: {PUBLIC}\r\nConnection: close\r\n\r\n")).await;
    assert!(got.ends_with("hi"), "{got}");
    assert_eq!(*agreed.lock().unwrap(), ["http/1.1"]);
}

#[tokio::test]
async fn a_body_that_was_announced_is_asked_for_by_the_server_alone() {
    let authority = Authority::new();
    let server =
        Server::start(authority.server(&[PUBLIC], false, &["h2", "http/1.1"]), |mut connection, _| async move {
            while let Some(head) = connection.head().await {
                assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
                if head.starts_with("PUT /more ") {
                    connection.send("HTTP/1.1 100 Continue\r\n\r\n").await;
                    connection.until("hello").await;
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
                } else {
                    connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
                }
            }
        })
        .await;
    let world = World::new(authority, 1, server.port).await;
    let put = |path: &str| {
        format!("PUT {path} HTTP/1.1\r\nHost: {PUBLIC}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    };
    let mut client = Client::connect(world.address).await;
    client.send(&put("/more")).await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert!(client.until("hi").await.starts_with("HTTP/1.1 200 "));
    let mut client = Client::connect(world.address).await;
    client.send(&put("/no")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let authority = Authority::new();
    let server = Server::start(authority.server(&[PUBLIC], false, &["h2"]), |connection, _| {
        serve(connection, |request: Request<Incoming>| async move {
            let body = request.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-sum"], "1");
            let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("2"))]);
            let frames = [Ok(Frame::data(body.to_bytes())), Ok(Frame::trailers(trailers))];
            Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))))
        })
    })
    .await;
    let world = World::new(authority, 1, server.port).await;
    let mut client = Client::connect(world.address).await;
    client.send(&format!("PUT / HTTP/1.1\r\nHost: {PUBLIC}\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    client.send("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().await, "5\r\nhello\r\n0\r\nx-sum: 2\r\n\r\n");
}

/// A gateway with TLS for `gateway.example` and the names of its APIs, before an endpoint that answers each request
/// with its head.
async fn mirror() -> (World, Server) {
    let authority = Authority::new();
    let server =
        Server::start(authority.server(&[PRIVATE, PARTNER], false, &["http/1.1"]), |mut connection, _| async move {
            while let Some(head) = connection.head().await {
                let length = head.len();
                connection
                    .send(&format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-A: 1\r\nConnection: x\r\n\r\n{head}"
                    ))
                    .await;
            }
        })
        .await;
    let names = ["gateway.example", PRIVATE, PARTNER];
    (World::tls(authority, server.port, server.port, &names).await, server)
}

#[tokio::test]
async fn a_client_may_speak_http2_and_the_server_http1() {
    let (world, _server) = mirror().await;
    let mut sender = http2(&world, "gateway.example").await;
    let request = Request::post(format!("https://{PRIVATE}/a%2F?x"))
        .header("x-b", "1")
        .header("cookie", "a=1")
        .header("x-b", "2")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("content-length", "0")
        .body(text(""))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut names: Vec<_> = response.headers().keys().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["content-length", "x-a"]);
    let got = response.into_body().collect().await.unwrap().to_bytes();
    let expected = format!(
        "POST /a%2F?x HTTP/1.1\r\nHost: {PRIVATE}\r\nx-b: 1\r\nx-b: 2\r\ncookie: a=1; b=2\r\ncontent-length: 0\r\n\
         TE: trailers\r\nConnection: TE\r\n\r\n"
    );
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_client_may_speak_http1_over_tls() {
    let (world, _server) = mirror().await;
    let mut client = Client::over(connect(&world, "gateway.example", "http/1.1").await.unwrap());
    client.send(&format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n")).await;
    client.until(&format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n")).await;
}

#[tokio::test]
async fn a_request_for_another_name_than_the_tls_connections_is_misdirected() {
    let (world, server) = mirror().await;
    let ask = async |name: &str, host: &str| {
        let mut sender = http2(&world, name).await;
        let request = Request::get(format!("https://{host}/")).body(text("")).unwrap();
        sender.send_request(request).await.unwrap().status().as_u16()
    };
    assert_eq!(ask(PARTNER, PRIVATE).await, 421);
    assert_eq!(server.accepted(), 0);
    // Also while there is no way to the name of the TLS connection.
    let known = world.table.borrow().clone();
    let region = "us-east-1".parse().unwrap();
    let nowhere = Endpoint { region, vpce_id: None, addresses: Addresses::default(), port: server.port };
    let mut table = Table::new(vec![nowhere], Arc::new(Names::default()), None).unwrap();
    table.ids = Arc::clone(&known.ids);
    world.table.send_replace(Arc::new(table));
    assert_eq!(ask(PRIVATE, PARTNER).await, 421);
    assert_eq!(server.accepted(), 0);
    world.table.send_replace(known);
    assert_eq!(ask(PRIVATE, PRIVATE).await, 200);
    assert_eq!(ask("gateway.example", PRIVATE).await, 200);
}

#[tokio::test]
async fn authority_and_host_must_agree_and_connect_is_not_served() {
    let (world, server) = mirror().await;
    let mut sender = http2(&world, "gateway.example").await;
    let two = Request::get(format!("https://{PRIVATE}/")).header("host", PARTNER).body(text("")).unwrap();
    let response = sender.send_request(two).await.unwrap();
    assert!(response.status() == 400 && response.headers().contains_key("proxy-status"));
    let connect = Request::connect(format!("{PRIVATE}:443")).body(text("")).unwrap();
    assert_eq!(sender.send_request(connect).await.unwrap().status(), 501);
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn at_a_stop_http2_connections_end() {
    let (mut world, _server) = mirror().await;
    let stream = connect(&world, "gateway.example", "h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("https://{PRIVATE}/")).body(text("")).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let drained = world.drain();
    connection.await.unwrap().unwrap();
    assert!(drained.await.unwrap());
}

#[tokio::test]
async fn an_upload_that_was_answered_early_ends_with_its_connection() {
    let authority = Authority::new();
    let over = Arc::new(Notify::new());
    let told = Arc::clone(&over);
    let server = Server::start(authority.server(&[PUBLIC], false, &["h2"]), move |connection, _| {
        let told = Arc::clone(&told);
        serve(connection, move |request: Request<Incoming>| {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                assert!(request.into_body().collect().await.is_err(), "the body was ended for the client");
                told.notify_one();
            });
            async { Response::new(text("no")) }
        })
    })
    .await;
    let world = World::new(authority, 1, server.port).await;
    let mut client = Client::connect(world.address).await;
    client.send(&format!("POST / HTTP/1.1\r\nHost: {PUBLIC}\r\nContent-Length: 9\r\n\r\nx")).await;
    client.until("no").await;
    // The client stays, and would send on.
    over.notified().await;
    drop(client);
}
