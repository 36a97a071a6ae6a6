//! HTTP CONNECT, as `HTTPS_PROXY` makes programs send it.

use std::sync::Arc;

use sidegate::forward::{Entrance, Others};
use sidegate::policy::{EndpointIndex, NotReady};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::{Lab, OTHER, PRIVATE, PUBLIC, client_hello, read_head, rest, table};

#[tokio::test]
async fn private_and_public_apis_are_reached_each_in_its_place() {
    let (lab, _places) = Lab::new().await;
    for (name, place) in [(PRIVATE, "the endpoint"), (PUBLIC, "the internet"), (OTHER, "the internet")] {
        let (stream, head) = lab.connect(&format!("{name}:443")).await;
        assert_eq!(head, "HTTP/1.1 200 Connection established\r\n\r\n");
        assert_eq!(lab.who_is_there(stream, name).await.unwrap(), place, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_connected_is_answered_with_status_reason_and_words() {
    let (lab, endpoint, _gateway) = Lab::raw(|config| config.others = Some(Others::Refuse)).await;
    drop(endpoint);
    for (target, status, error) in [
        (format!("{OTHER}:443"), "403 Forbidden", "http_request_denied"),
        ("10.0.0.1:443".to_owned(), "403 Forbidden", "http_request_denied"),
        (format!("{PUBLIC}:8443"), "403 Forbidden", "http_request_denied"),
        (format!("{PRIVATE}:443"), "502 Bad Gateway", "connection_refused"),
        (format!("x.{PRIVATE}:443"), "502 Bad Gateway", "dns_error"),
        (PRIVATE.to_owned(), "400 Bad Request", "http_request_error"),
    ] {
        let (mut stream, head) = lab.connect(&target).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{target}: {head}");
        assert!(head.contains(&format!("\r\nProxy-Status: sidegate; error={error}; details=\"")), "{target}: {head}");
        assert!(rest(&mut stream).await.ends_with(b"\n"), "words, then the end");
    }
}

#[tokio::test]
async fn without_a_required_list_an_unknown_id_is_503_and_a_known_one_connects() {
    let (lab, _places) = Lab::new().await;
    let mut unready = table(lab.port, &["a1b2c3d4e5"]);
    unready.not_ready = Some(NotReady { source: "file ids".into(), last_error: Some("no such file".to_owned()) });
    lab.table.send_replace(Arc::new(unready.clone()));
    let (mut stream, head) = lab.connect(&format!("{PUBLIC}:443")).await;
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(String::from_utf8(rest(&mut stream).await).unwrap().contains("file ids: no such file"));
    let (stream, _) = lab.connect(&format!("{PRIVATE}:443")).await;
    assert_eq!(lab.who_is_there(stream, PRIVATE).await.unwrap(), "the endpoint");
    unready.set_addresses(EndpointIndex(0), sidegate::policy::Addresses::default());
    lab.table.send_replace(Arc::new(unready));
    let (_, head) = lab.connect(&format!("{PRIVATE}:443")).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

#[tokio::test]
async fn an_id_that_public_dns_does_not_know_is_learned_while_its_client_waits() {
    let (lab, _places) = Lab::new().await;
    const LEARNED: &str = "k1l2m3n4o5.execute-api.us-east-1.amazonaws.com";
    // What the DNS plane's observer does, and when: before it says that there is no such name.
    let mut learned = table(lab.port, &["a1b2c3d4e5"]);
    learned.learned = Arc::new([LEARNED.parse().unwrap()].into());
    let (table, original) = (lab.table.clone(), lab.surroundings());
    let resolve: sidegate::forward::Resolve = Arc::new(move |_, _, _| {
        table.send_replace(Arc::new(learned.clone()));
        Box::pin(async { Err(sidegate::forward::ResolveError::NoSuchName) })
    });
    let mut lab = lab;
    let prepared =
        lab.plane.prepare(&lab.config, sidegate::forward::Surroundings { resolve, ..original }).await.unwrap();
    lab.plane.adopt(prepared);
    let (stream, head) = lab.connect(&format!("{LEARNED}:443")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(lab.who_is_there(stream, LEARNED).await.unwrap(), "the endpoint");
}

#[tokio::test]
async fn plain_http_is_told_what_to_do_instead() {
    let (lab, _places) = Lab::new().await;
    for request in [
        format!("GET http://{PRIVATE}/ HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
    ] {
        let mut stream = lab.enter(Entrance::Connect).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{answer}");
        assert!(answer.contains("https://"), "{answer}");
    }
}

/// A tunnel to `name`, and the far side's end of it.
async fn tunnel(lab: &Lab, place: &TcpListener, name: &str) -> (TcpStream, TcpStream) {
    let target = format!("{name}:443");
    let ((stream, head), far) = tokio::join!(lab.connect(&target), place.accept());
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    (stream, far.unwrap().0)
}

/// Row 16: the far side goes by the SNI, the policy went by CONNECT.
#[tokio::test]
async fn a_hello_for_another_name_than_connect_named_goes_nowhere() {
    let (lab, endpoint, gateway) = Lab::raw(|_| ()).await;
    for (asked, other, place) in [(PUBLIC, PRIVATE, &gateway), (PRIVATE, PUBLIC, &endpoint), (OTHER, PRIVATE, &gateway)]
    {
        let (mut stream, mut far) = tunnel(&lab, place, asked).await;
        stream.write_all(&client_hello(other)).await.unwrap();
        assert_eq!(rest(&mut stream).await, [21, 3, 3, 0, 2, 2, 112], "{asked}: unrecognized_name");
        drop(stream);
        assert_eq!(rest(&mut far).await, b"", "{asked}: not a byte went out");
    }
    lab.until_ended("mismatch").await;
}

#[tokio::test]
async fn what_is_no_tls_goes_to_no_api_but_to_others() {
    let (lab, endpoint, gateway) = Lab::raw(|_| ()).await;
    let (mut stream, mut far) = tunnel(&lab, &endpoint, PRIVATE).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    assert_eq!(rest(&mut far).await, b"");
    let (mut stream, mut far) = tunnel(&lab, &gateway, OTHER).await;
    stream.write_all(b"SSH-2.0-client").await.unwrap();
    let mut said = [0; 14];
    far.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"SSH-2.0-client");
}

#[tokio::test]
async fn a_server_of_another_name_may_speak_first() {
    let (lab, _endpoint, gateway) = Lab::raw(|_| ()).await;
    let (mut stream, mut far) = tunnel(&lab, &gateway, OTHER).await;
    far.write_all(b"SSH-2.0-server").await.unwrap();
    let mut said = [0; 14];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"SSH-2.0-server");
}

/// What an egress proxy answered must not be taken for a server that speaks first.
#[tokio::test]
async fn the_hello_is_looked_at_behind_an_egress_proxy_too() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let (lab, _endpoint, _gateway) = Lab::raw(|config| config.parent_proxy = Some(url.parse().unwrap())).await;
    // Public names go by the proxy; the table of this lab has no other group.
    let beyond = async {
        let (mut far, _) = proxy.accept().await.unwrap();
        read_head(&mut far).await;
        far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        far
    };
    let target = format!("{OTHER}:443");
    let ((mut stream, head), mut far) = tokio::join!(lab.connect(&target), beyond);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    stream.write_all(&client_hello(PRIVATE)).await.unwrap();
    assert_eq!(rest(&mut stream).await, [21, 3, 3, 0, 2, 2, 112]);
    drop(stream);
    assert_eq!(rest(&mut far).await, b"");
}

#[tokio::test]
async fn tls_to_the_proxy_itself_is_turned_away_at_once() {
    let (lab, _places) = Lab::new().await;
    let mut stream = lab.enter(Entrance::Connect).await;
    stream.write_all(&client_hello(PRIVATE)).await.unwrap();
    assert_eq!(rest(&mut stream).await, [21, 3, 3, 0, 2, 2, 10]);
    drop(stream);
    lab.until_ended("tls_to_proxy").await;
}

#[tokio::test]
async fn a_hello_sent_along_with_connect_is_not_lost() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let hello = client_hello(PRIVATE);
    let mut stream = lab.enter(Entrance::Connect).await;
    let request = format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nHost: {PRIVATE}:443\r\n\r\n");
    stream.write_all(&[request.as_bytes(), &hello].concat()).await.unwrap();
    let (mut far, _) = endpoint.accept().await.unwrap();
    let mut received = vec![0; hello.len()];
    far.read_exact(&mut received).await.unwrap();
    assert!(received == hello);
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 200 Connection established\r\n\r\n");
}

/// Row 18: whoever stands behind us must not take what follows for something else.
#[tokio::test]
async fn an_ambiguous_or_failed_connect_is_answered_once_and_closed() {
    let (lab, _places) = Lab::new().await;
    let follow = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (head, status) in [
        (format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\n\r\n"), "400"),
        (format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nHost: {PRIVATE}\r\nHost: {PUBLIC}\r\n\r\n"), "400"),
        (format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nHost: {PUBLIC}\r\n\r\n"), "403"),
        (format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: 5\r\n\r\n"), "400"),
        (format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nHost: {PRIVATE}\r\nTransfer-Encoding: chunked\r\n\r\n"), "400"),
        ("CONNECT nobody.example:80 HTTP/1.1\r\nHost: nobody.example:80\r\n\r\n".to_owned(), "403"),
    ] {
        let mut stream = lab.enter(Entrance::Connect).await;
        stream.write_all(format!("{head}{follow}").as_bytes()).await.unwrap();
        let answer = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}
