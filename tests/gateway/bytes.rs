//! What passes unchanged, and what must not pass.

use std::sync::{Arc, Mutex};

use sidegate::forward::access::Total;

use crate::client::{Client, ask};
use crate::server::Server;
use crate::world::{Authority, PARTNER, PRIVATE, PUBLIC, World};

/// A gateway whose endpoint answers `answer` to each head it gets, and the heads.
async fn world(answer: &'static str) -> (World, Server, Arc<Mutex<Vec<String>>>) {
    let authority = Authority::new();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let got = Arc::clone(&heads);
    let server =
        Server::start(authority.server(&[PRIVATE, PUBLIC, PARTNER], false, &["http/1.1"]), move |mut connection, _| {
            let got = Arc::clone(&got);
            async move {
                while let Some(head) = connection.head().await {
                    got.lock().unwrap().push(head);
                    connection.send(answer).await;
                }
            }
        })
        .await;
    (World::new(authority, server.port, server.port).await, server, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn heads_pass_byte_for_byte_both_ways_and_nothing_is_added() {
    let answer = "HTTP/1.1 299 Odd  Reason!\r\nx-B: 2\r\nX-a: 1\r\nx-b: 3\r\nSet-Cookie: a\r\nset-cookie: b\r\n\
                  content-length: 2\r\nDate: never\r\nVia: x\r\n\r\nhi";
    let (world, _server, heads) = world(answer).await;
    let request = format!(
        "GET /a%2Fb//c/../d;x=%40connections?q=%20<>|{{}}^`\"&q&& HTTP/1.1\r\nX-B: 2\r\nhOST: {PRIVATE}\r\nx-b: 1\r\n\
         Accept-Encoding:   gzip,  br  \r\nX-b: \u{fc}\r\nauthorization: AWS4-HMAC-SHA256 x\r\nEmpty:\r\n\r\n"
    );
    let mut client = Client::connect(world.address).await;
    client.send(&request).await;
    assert_eq!(client.until("hi").await, answer);
    let sent = request.replace("Encoding:   gzip,  br  ", "Encoding: gzip,  br").replace("Empty:", "Empty: ");
    assert_eq!(*heads.lock().unwrap(), [sent]);
}

#[tokio::test]
async fn fields_of_the_connection_end_here() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
                  Content-Length: 2\r\nUpgrade: h3\r\n\r\nhi";
    let (world, _server, heads) = world(answer).await;
    let mut client = Client::connect(world.address).await;
    client
        .send(&format!(
            "GET / HTTP/1.1\r\nConnection: keep-alive, X-Mine\r\nHost: {PRIVATE}\r\nX-Mine: 1\r\nTE: gzip, trailers\r\n\
             Upgrade: h2c\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 5\r\n\r\n"
        ))
        .await;
    assert_eq!(client.until("hi").await, OK);
    assert_eq!(
        *heads.lock().unwrap(),
        [format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\nTE: trailers\r\nConnection: TE\r\n\r\n")]
    );
}

#[tokio::test]
async fn of_a_host_only_the_listeners_own_port_is_dropped() {
    let (world, _server, heads) = world(OK).await;
    let port = world.address.port();
    let mut client = Client::connect(world.address).await;
    for host in
        [format!("{PRIVATE}:{port}"), format!("{PRIVATE}:0{port}"), format!("{PRIVATE}:443"), PRIVATE.to_uppercase()]
    {
        client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.until("hi").await;
    }
    let expected = [PRIVATE.to_owned(), PRIVATE.to_owned(), format!("{PRIVATE}:443"), PRIVATE.to_uppercase()];
    assert_eq!(*heads.lock().unwrap(), expected.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")));
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_answered_400_and_closed_and_nothing_is_sent() {
    let (world, server, _) = world(OK).await;
    for bad in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\nHost: {PRIVATE}\r\n\r\n"),
        format!("GET / HTTP/1.1\nHost: {PRIVATE}\n\n\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost : {PRIVATE}\r\n\r\n"),
        format!("GET http://other.example/ HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        format!("POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: +3\r\n\r\nabc"),
        format!("POST / HTTP/1.0\r\nHost: {PRIVATE}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\nConnection: x-amz-date\r\nX-Amz-Date: 1\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: {PRIVATE}\r\nx-apigw-api-id: a1b2c3d4e5\r\nX-Apigw-Api-Id: a1b2c3d4e5\r\n\r\n"
        ),
    ] {
        let mut client = Client::connect(world.address).await;
        // What follows would be read as a request of its own.
        client.send(&format!("{bad}GET /smuggled HTTP/1.1\r\nHost: {PRIVATE}\r\nConnection: close\r\n\r\n")).await;
        let (answer, _) = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{bad:?}: {answer}");
        if !bad.contains("pigw") {
            assert!(
                answer.contains("\r\nConnection: close\r\n") && answer.matches("HTTP/1.1").count() == 1,
                "{bad:?}: {answer}"
            );
            assert_eq!(server.accepted(), 0, "{bad:?}");
        }
    }
}

#[tokio::test]
async fn refusals_say_why_in_status_words_and_proxy_status() {
    let (world, server, _) = world(OK).await;
    for (request, status, words) in [
        ("GET / HTTP/1.1\r\nHost: other.example\r\n".to_owned(), 403, "forward.allow"),
        ("GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n".to_owned(), 403, "IP addresses"),
        (format!("GET / HTTP/1.1\r\nHost: {PRIVATE}:8443\r\n"), 403, "443"),
        (format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nHost: {PRIVATE}\r\n"), 501, "HTTPS_PROXY"),
        (format!("GET / HTTP/1.1\r\nHost: {PUBLIC}\r\nx-apigw-api-id: a1b2c3d4e5\r\n"), 403, "another way"),
        (format!("GET / HTTP/1.1\r\nHost: {PARTNER}\r\nx-apigw-api-id: a1b2c3d4e5\r\n"), 403, "another way"),
        (format!("GET / HTTP/1.1\r\nHost: below.{PRIVATE}\r\n"), 502, "does not exist"),
        (format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\nX: {}\r\n", "x".repeat(40_000)), 431, "longer"),
    ] {
        let answer = ask(world.address, &format!("{request}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(words), "{answer}");
        assert!(answer.contains("\r\nProxy-Status: sidegate; error="), "{answer}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn an_api_id_that_leads_the_same_way_passes_unchanged() {
    let (world, _server, heads) = world(OK).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\nX-APIGW-Api-Id: a1b2c3d4e5\r\n\r\n");
    let mut client = Client::connect(world.address).await;
    client.send(&request).await;
    client.until("hi").await;
    assert_eq!(*heads.lock().unwrap(), [request]);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_over_one_connection() {
    let (world, server, heads) = world(OK).await;
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n");
    let mut client = Client::connect(world.address).await;
    let last = request("/3").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    client.send(&format!("{}{}{last}", request("/1"), request("/2"))).await;
    let (answers, ended) = client.rest().await;
    let closing = OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert!(ended && answers == format!("{OK}{OK}{closing}"), "{answers}");
    assert_eq!(*heads.lock().unwrap(), ["/1", "/2", "/3"].map(request));
    assert_eq!(server.accepted(), 1);
    assert_eq!(world.ended(3).await, [("finished", Total { count: 3, up: 0, down: 6 })]);
}

#[tokio::test]
async fn the_star_of_options_passes() {
    let (world, _server, heads) = world(OK).await;
    let request = format!("OPTIONS * HTTP/1.1\r\nHost: {PARTNER}\r\n\r\n");
    let mut client = Client::connect(world.address).await;
    client.send(&request).await;
    client.until("hi").await;
    assert_eq!(*heads.lock().unwrap(), [request]);
}
