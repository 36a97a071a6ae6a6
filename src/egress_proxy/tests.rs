//! What is read as a proxy, and `connect` against real servers on loopback that answer as they are told.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

fn proxy(text: &str) -> EgressProxy {
    text.parse().unwrap()
}

fn target() -> Host {
    Host::Name("api.example.com".parse().unwrap())
}

/// Longer than anything here takes.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// A connection to a proxy that reads the request, sends these pieces, each for itself, and keeps the connection until
/// the client is done with it. Gives back what it was asked.
async fn scripted(pieces: Vec<Vec<u8>>) -> (TcpStream, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.set_nodelay(true).unwrap();
    let served = tokio::spawn(async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(server.read_u8().await.unwrap());
        }
        for piece in pieces {
            // The client may have seen enough.
            if server.write_all(&piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        server.shutdown().await.ok();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.ok();
        String::from_utf8([request, rest].concat()).unwrap()
    });
    (client, served)
}

/// What comes of an answer, and, if that is a connection, what the target says on it.
async fn outcome(pieces: Vec<Vec<u8>>) -> Result<String, EgressError> {
    let (client, _served) = scripted(pieces).await;
    let mut stream = proxy("http://127.0.0.1:1").connect(client, &target(), 443, soon()).await?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    Ok(heard)
}

async fn refusal(answer: &[u8]) -> String {
    outcome(vec![answer.to_vec()]).await.unwrap_err().to_string()
}

#[test]
fn proxies_are_read_as_written() {
    for (text, shown) in [
        ("http://10.0.0.5:3128", "http://10.0.0.5:3128"),
        ("http://10.0.0.5:3128/", "http://10.0.0.5:3128"),
        ("http://[fd00::5]:80", "http://[fd00::5]:80"),
        ("http://user:password@Proxy.corp.example:8080", "http://proxy.corp.example:8080"),
        ("http://us%40er:p@ss@10.0.0.5:3128", "http://10.0.0.5:3128"),
    ] {
        assert_eq!(proxy(text).to_string(), shown);
    }
    assert_eq!(
        (proxy("http://proxy:1").port(), proxy("http://[::1]:2").host()),
        (1, &Host::Address([0, 0, 0, 0, 0, 0, 0, 1].into()))
    );
}

#[test]
fn what_is_no_proxy_is_refused_without_being_repeated() {
    for text in [
        "",
        "10.0.0.5:3128",
        "https://10.0.0.5:3128",
        "http://10.0.0.5",
        "http://10.0.0.5:",
        "http://10.0.0.5:0",
        "http://10.0.0.5:+80",
        "http://10.0.0.5:65536",
        "http://10.0.0.300:3128",
        "http://::1:3128",
        "http://[10.0.0.5]:3128",
        "http://[::1:3128",
        "http://:3128",
        "http://.:3128",
        "http://user@:3128",
        "http://10.0.0.5:3128/path",
        "http://10.0.0.5:3128?x",
        "http://us er@10.0.0.5:3128",
        "http://a\r\nb@10.0.0.5:3128",
    ] {
        assert_eq!(text.parse::<EgressProxy>(), Err(EgressProxyError::Form), "{text}");
    }
    for text in ["http://us%3Aer:hunter2@host:1", "http://user:hunter2%0d%0aX@host:1", "http://user%00:hunter2@host:1"]
    {
        let error = text.parse::<EgressProxy>().unwrap_err();
        assert_eq!(error, EgressProxyError::Credentials, "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn credentials_are_decoded_and_never_shown() {
    let secret = proxy("http://Aladdin:open%20sesame@10.0.0.5:3128");
    assert_eq!(secret.authorization.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "RFC 7617 section 2");
    assert_eq!(proxy("http://user@10.0.0.5:1").authorization.as_deref(), Some("Basic dXNlcjo="));
    for shown in [format!("{secret}"), format!("{secret:?}"), format!("{secret:#?}")] {
        assert!(!shown.contains("sesame") && !shown.contains("Aladdin") && !shown.contains("QWxh"), "{shown}");
    }
    assert_ne!(secret, proxy("http://10.0.0.5:3128"), "a reload must see that they have changed");
}

#[tokio::test]
async fn the_name_goes_to_the_proxy_unresolved_and_an_address_as_it_is() {
    let v6 = Host::Address("2001:db8::1".parse().unwrap());
    for (proxy, target, port, expected) in [
        (
            proxy("http://p:1"),
            target(),
            443,
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n",
        ),
        (proxy("http://p:1"), v6, 8443, "CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n"),
        (
            proxy("http://user:a%2Fb@p:1"),
            target(),
            443,
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\
             Proxy-Authorization: Basic dXNlcjphL2I=\r\n\r\n",
        ),
    ] {
        let (client, served) = scripted(vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()]).await;
        let mut stream = proxy.connect(client, &target, port, soon()).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        drop(stream);
        assert_eq!(served.await.unwrap(), format!("{expected}hello"));
    }
}

#[tokio::test]
async fn a_target_that_speaks_first_loses_no_byte_however_the_answer_is_cut() {
    let heads = [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\nX: y\n\n",
        "HTTP/1.1 204 None\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ];
    let greeting = "\r\n\r\n220 greetings\r\n\r\n";
    for head in heads {
        let whole = format!("{head}{greeting}").into_bytes();
        assert_eq!(outcome(vec![whole.clone()]).await.unwrap(), greeting, "{head:?}");
        assert_eq!(outcome(whole.iter().map(|byte| vec![*byte]).collect()).await.unwrap(), greeting, "{head:?}");
        for at in 1..whole.len() {
            let (first, second) = whole.split_at(at);
            assert_eq!(outcome(vec![first.to_vec(), second.to_vec()]).await.unwrap(), greeting, "{head:?} cut at {at}");
        }
    }
}

#[tokio::test]
async fn a_long_head_is_read_to_its_end_and_one_without_end_is_not() {
    let head = |filling: usize| {
        let mut head = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        head.extend(vec![b'x'; filling]);
        head.extend(b"\r\n\r\nhello");
        head
    };
    let around = b"HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
    assert_eq!(outcome(vec![head(MAX_HEAD - around)]).await.unwrap(), "hello");
    assert!(matches!(outcome(vec![head(MAX_HEAD - around + 1)]).await, Err(EgressError::TooLong)));
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    assert!(matches!(outcome(vec![interim]).await, Err(EgressError::TooLong)), "all heads together");
}

#[tokio::test]
async fn a_refusal_is_told_with_the_proxys_own_words_and_one_thing_to_do() {
    for (answer, words) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"[..],
            "answered 407 Proxy Authentication Required: put the user and password it wants into forward.parent_proxy",
        ),
        (
            b"HTTP/1.1 403 Forbidden\r\nproxy-status: squid; error=http_request_denied\r\nProxy-Status: b\r\n\r\n<html>",
            "answered 403 Forbidden (squid; error=http_request_denied, b): have it allow this destination",
        ),
        (b"HTTP/1.1 503\r\n\r\n", "answered 503: it did not get there; its own log says why"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "answered 101 Switching Protocols: correct forward.parent_proxy, or have the proxy take CONNECT",
        ),
    ] {
        assert_eq!(refusal(answer).await, words);
    }
}

#[tokio::test]
async fn what_a_proxy_says_is_repeated_in_part_and_steers_no_terminal() {
    let mut answer = b"HTTP/1.1 502 Bad\tGateway\r\nProxy-Status: a\xff\t\"".to_vec();
    answer.extend(vec![b'z'; 4000]);
    answer.extend(b"\r\n\r\n");
    let words = refusal(&answer).await;
    assert!(words.starts_with("answered 502 BadGateway (a\"zz"), "{words}");
    assert!(words.len() < 300 && words.is_ascii() && !words.contains(|c: char| c.is_control()), "{words}");
}

#[tokio::test]
async fn what_speaks_no_http_or_goes_away_is_told_so() {
    assert!(matches!(outcome(vec![b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec()]).await, Err(EgressError::NotHttp)));
    assert!(matches!(outcome(vec![b"HTTP/2.0 200 OK\r\n\r\n".to_vec()]).await, Err(EgressError::NotHttp)));
    assert!(matches!(outcome(vec![b"HTTP/1.1 200 OK\r\nX: y\r\n".to_vec()]).await, Err(EgressError::Closed)));
    assert!(matches!(outcome(Vec::new()).await, Err(EgressError::Closed)));
}

#[tokio::test]
async fn a_proxy_that_is_silent_or_stops_half_way_is_given_up_at_the_deadline() {
    for said in ["", "HTTP/1.1 200 OK\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(said.as_bytes()).await.unwrap();
        tokio::time::pause();
        let deadline = Instant::now() + Duration::from_secs(10);
        let connected = proxy("http://127.0.0.1:1").connect(client, &target(), 443, deadline).await;
        assert!(matches!(connected, Err(EgressError::Timeout)), "{said:?}");
        assert!(Instant::now() >= deadline);
        tokio::time::resume();
    }
}
