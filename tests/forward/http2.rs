//! CONNECT over HTTP/2: each stream is a tunnel, and ends as its bytes did.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use hyper::{Method, Request, StatusCode};
use sidegate::forward::Entrance;
use sidegate::policy::Networks;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::lab::{Lab, OTHER, PRIVATE, PUBLIC, client_hello};

/// One for all tunnels: making it costs more than they do.
static HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| client_hello(PRIVATE));

/// A connection in HTTP/2.
struct Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn new(lab: &Lab) -> Self {
        Self::with(lab, &Builder::new()).await
    }

    async fn with(lab: &Lab, builder: &Builder) -> Self {
        let stream = lab.enter(Entrance::Connect).await;
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        Self { sender, connection: tokio::spawn(connection) }
    }

    async fn ask(&mut self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender = self.sender.clone().ready().await.unwrap();
        self.sender.send_request(request, false).unwrap()
    }

    async fn status(&mut self, request: Request<()>) -> StatusCode {
        let (response, _to) = self.ask(request).await;
        response.await.unwrap().status()
    }

    /// A tunnel to the endpoint through which a hello has gone, and its far side.
    async fn tunnel(&mut self, place: &TcpListener) -> (Tunnel, TcpStream) {
        let (response, mut to) = self.ask(connect(PRIVATE)).await;
        let (mut far, _) = place.accept().await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        to.send_data(Bytes::from_static(&HELLO), false).unwrap();
        let mut received = vec![0; HELLO.len()];
        far.read_exact(&mut received).await.unwrap();
        assert!(received == *HELLO);
        (Tunnel { from: response.into_body(), to }, far)
    }
}

struct Tunnel {
    from: RecvStream,
    to: SendStream<Bytes>,
}

impl Tunnel {
    /// The next bytes; none at a proper end.
    async fn read(&mut self) -> Result<Bytes, h2::Error> {
        let data = timeout(Duration::from_secs(30), self.from.data()).await.expect("something comes");
        let Some(bytes) = data.transpose()? else { return Ok(Bytes::new()) };
        self.from.flow_control().release_capacity(bytes.len())?;
        Ok(bytes)
    }

    /// Sends as the window allows.
    async fn write(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            self.to.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|context| self.to.poll_capacity(context)).await.unwrap().unwrap();
            self.to.send_data(bytes.split_to(room.min(bytes.len())), false).unwrap();
        }
    }
}

fn connect(name: &str) -> Request<()> {
    Request::builder().method(Method::CONNECT).uri(format!("{name}:443")).body(()).unwrap()
}

fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(60), so).await.expect("it comes to that");
}

fn open(lab: &Lab) -> usize {
    lab.plane.open().map(|(_, open)| open).sum()
}

/// A far side that was reset, not ended.
async fn expect_reset(mut far: TcpStream) {
    let read = timeout(Duration::from_secs(30), far.read(&mut [0; 8])).await.expect("it ends");
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn one_connection_carries_tunnels_to_both_and_says_why_not() {
    let (lab, _places) = Lab::new().await;
    let stream = hyper_util::rt::TokioIo::new(lab.enter(Entrance::Connect).await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    tokio::spawn(connection);
    for (name, place) in [(PRIVATE, "the endpoint"), (PUBLIC, "the internet")] {
        let response =
            sender.send_request(connect(name).map(|()| http_body_util::Empty::<Bytes>::new())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let tunnel = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        assert_eq!(lab.who_is_there(tunnel, name).await.unwrap(), place);
    }
    let mut client = Client::new(&lab).await;
    let get = Request::builder().uri("http://www.example.com/").body(()).unwrap();
    for (request, status) in [(connect("169.254.169.254"), StatusCode::FORBIDDEN), (get, StatusCode::NOT_IMPLEMENTED)] {
        let (response, to) = client.ask(request).await;
        let response = response.await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers().contains_key("proxy-status"));
        let mut tunnel = Tunnel { from: response.into_body(), to };
        assert!(tunnel.read().await.unwrap().ends_with(b"\n"), "words for a human");
        assert_eq!(tunnel.read().await.unwrap(), "", "then the end");
    }
}

#[tokio::test]
async fn an_answer_that_the_upstream_broke_off_never_looks_whole() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let (mut tunnel, mut far) = client.tunnel(&endpoint).await;
    far.write_all(b"half an ans").await.unwrap();
    assert_eq!(tunnel.read().await.unwrap(), "half an ans");
    reset(&far);
    drop(far);
    assert_eq!(tunnel.read().await.unwrap_err().reason(), Some(Reason::CONNECT_ERROR));
    lab.until_ended("upstream_reset").await;
}

#[tokio::test]
async fn what_a_drain_cuts_off_never_looks_whole() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let (mut tunnel, far) = client.tunnel(&endpoint).await;
    assert!(!lab.plane.drain(Duration::from_millis(20)).await);
    assert_eq!(tunnel.read().await.unwrap_err().reason(), Some(Reason::CONNECT_ERROR));
    expect_reset(far).await;
}

#[tokio::test]
async fn an_upload_that_the_client_broke_off_never_looks_whole() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let (mut tunnel, far) = client.tunnel(&endpoint).await;
        tunnel.to.send_reset(reason);
        expect_reset(far).await;
    }
    let (_tunnel, far) = client.tunnel(&endpoint).await;
    client.connection.abort();
    expect_reset(far).await;
    assert_eq!(lab.ended("client_reset"), 4);
}

#[tokio::test]
async fn a_client_that_has_ended_and_then_leaves_takes_the_upstream_with_it() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let (mut tunnel, mut far) = client.tunnel(&endpoint).await;
    tunnel.to.send_data(Bytes::new(), true).unwrap();
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    tunnel.to.send_reset(Reason::CANCEL);
    lab.until_ended("client_left").await;
    until(|| open(&lab) == 1).await;
}

#[tokio::test]
async fn either_side_may_end_first_and_still_hears_the_other() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let (mut tunnel, mut far) = client.tunnel(&endpoint).await;
    tunnel.to.send_data("question".into(), true).unwrap();
    let mut heard = String::new();
    far.read_to_string(&mut heard).await.unwrap();
    far.write_all(b"answer").await.unwrap();
    drop(far);
    assert_eq!((heard.as_str(), tunnel.read().await.unwrap()), ("question", "answer".into()));
    assert_eq!(tunnel.read().await.unwrap(), "");

    let (mut tunnel, mut far) = client.tunnel(&endpoint).await;
    far.write_all(b"greeting").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(tunnel.read().await.unwrap(), "greeting");
    assert_eq!(tunnel.read().await.unwrap(), "");
    tunnel.to.send_data("reply".into(), true).unwrap();
    let mut heard = String::new();
    far.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "reply");
    until(|| lab.ended("finished") == 2).await;
}

#[tokio::test]
async fn a_flood_of_tunnels_that_are_taken_back_holds_nothing() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let mut fars = Vec::new();
    for _ in 0..600 {
        let (mut tunnel, far) = client.tunnel(&endpoint).await;
        tunnel.to.send_reset(Reason::CANCEL);
        fars.push(far);
    }
    for far in fars {
        expect_reset(far).await;
    }
    until(|| open(&lab) == 1).await;
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_does_not_hide_that_the_client_has_left() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let (mut tunnel, _far) = client.tunnel(&endpoint).await;
    let full = async {
        loop {
            tunnel.write(vec![0; 64 * 1024].into()).await;
        }
    };
    assert!(timeout(Duration::from_secs(1), full).await.is_err());
    tunnel.to.send_reset(Reason::CANCEL);
    lab.until_ended("client_reset").await;
}

/// Row 20's measure: 64 MiB each way, and 200 others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_megabytes_each_way_arrive_bit_for_bit_among_two_hundred_others() {
    const BLOCKS: usize = 1024;
    let block: Bytes = (0..64 * 1024_usize).map(|i| (i * i + i / 251) as u8).collect::<Vec<u8>>().into();
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let mut others = Vec::new();
    for _ in 0..200 {
        others.push(client.tunnel(&endpoint).await);
    }
    let (mut tunnel, far) = client.tunnel(&endpoint).await;
    let (mut far_from, mut far_to) = far.into_split();
    let (sent, expected) = (block.clone(), block.clone());
    let down = tokio::spawn(async move {
        for _ in 0..BLOCKS {
            far_to.write_all(&sent).await.unwrap();
        }
    });
    let up = tokio::spawn(async move {
        let mut received = vec![0; expected.len()];
        for _ in 0..BLOCKS {
            far_from.read_exact(&mut received).await.unwrap();
            assert!(received == expected);
        }
        assert_eq!(far_from.read(&mut received).await.unwrap(), 0);
    });
    let Tunnel { from, to } = &mut tunnel;
    let send = async {
        for _ in 0..BLOCKS {
            let mut bytes = block.clone();
            while !bytes.is_empty() {
                to.reserve_capacity(bytes.len());
                let room = std::future::poll_fn(|context| to.poll_capacity(context)).await.unwrap().unwrap();
                to.send_data(bytes.split_to(room.min(bytes.len())), false).unwrap();
            }
        }
        to.send_data(Bytes::new(), true).unwrap();
    };
    let receive = async {
        let mut received = 0;
        while let Some(bytes) = from.data().await {
            let bytes = bytes.unwrap();
            from.flow_control().release_capacity(bytes.len()).unwrap();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let expected = &block[received % block.len()..];
                let length = expected.len().min(rest.len());
                assert!(rest[..length] == expected[..length]);
                (received, rest) = (received + length, &rest[length..]);
            }
        }
        assert_eq!(received, BLOCKS * block.len());
    };
    tokio::join!(send, receive);
    down.await.unwrap();
    up.await.unwrap();
    for (other, far) in &mut others {
        far.write_all(b"still here").await.unwrap();
        assert_eq!(other.read().await.unwrap(), "still here");
    }
}

#[tokio::test]
async fn a_dial_ends_with_the_stream_that_asked_for_it() {
    let (mut lab, _endpoint, _gateway) = Lab::raw(|_| ()).await;
    let resolve: sidegate::forward::Resolve = std::sync::Arc::new(|_, _, _| Box::pin(std::future::pending()));
    let surroundings = sidegate::forward::Surroundings { resolve, ..lab.surroundings() };
    let prepared = lab.plane.prepare(&lab.config, surroundings).await.unwrap();
    lab.plane.adopt(prepared);
    let mut client = Client::new(&lab).await;
    let (response, mut to) = client.ask(connect(OTHER)).await;
    until(|| open(&lab) == 2).await;
    to.send_reset(Reason::CANCEL);
    drop(response);
    lab.until_ended("client_left").await;
    until(|| open(&lab) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_be_told_why_it_was_refused_is_ended_all_the_same() {
    let (lab, _endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::with(&lab, Builder::new().initial_window_size(0)).await;
    let (response, _to) = client.ask(connect("10.0.0.1")).await;
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let begun = tokio::time::Instant::now();
    timeout(Duration::from_secs(300), client.connection).await.expect("it ends").unwrap().ok();
    let taken = begun.elapsed().as_secs();
    assert!((75..=100).contains(&taken), "{taken} s");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_nothing_or_does_not_answer_is_ended() {
    let (lab, _endpoint, _gateway) = Lab::raw(|_| ()).await;
    let begun = tokio::time::Instant::now();
    let client = Client::new(&lab).await;
    timeout(Duration::from_secs(300), client.connection).await.expect("it ends").unwrap().ok();
    assert!(begun.elapsed().as_secs() <= 30, "{:?}", begun.elapsed());

    // Nobody reads, so nobody answers.
    let mut client = Client::new(&lab).await;
    let (response, _to) = client.ask(connect(PRIVATE)).await;
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    let (stopped, begun) = (client.connection, tokio::time::Instant::now());
    stopped.abort();
    until(|| open(&lab) == 0).await;
    assert!(begun.elapsed().as_secs() <= 100);
}

#[tokio::test]
async fn authority_and_host_must_agree_and_host_comes_once() {
    let (lab, _endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let with = |hosts: &[&str]| {
        let mut request = connect(PRIVATE);
        hosts.iter().for_each(|host| _ = request.headers_mut().append("host", host.parse().unwrap()));
        request
    };
    assert_eq!(client.status(with(&[PUBLIC])).await, StatusCode::FORBIDDEN);
    assert_eq!(client.status(with(&[PRIVATE, PRIVATE])).await, StatusCode::BAD_REQUEST);
    assert_eq!(client.status(with(&[PRIVATE])).await, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_a_reload_shuts_out_is_refused_and_its_tunnels_go_on() {
    let (mut lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let (mut tunnel, mut far) = client.tunnel(&endpoint).await;
    lab.config.clients = Networks::new(vec!["10.9.9.9/32".parse().unwrap()]);
    let prepared = lab.plane.prepare(&lab.config, lab.surroundings()).await.unwrap();
    lab.plane.adopt(prepared);
    assert_eq!(client.status(connect(PRIVATE)).await, StatusCode::FORBIDDEN);
    far.write_all(b"still here").await.unwrap();
    assert_eq!(tunnel.read().await.unwrap(), "still here");
    drop((tunnel, far));
    timeout(Duration::from_secs(30), client.connection).await.expect("nothing new is let in").unwrap().unwrap();
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn endless_fields_are_not_collected() {
    let (lab, _endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut client = Client::new(&lab).await;
    let mut request = connect(PRIVATE);
    request.headers_mut().insert("x", "x".repeat(15 * 1024).parse().unwrap());
    request.headers_mut().insert("y", "y".repeat(15 * 1024).parse().unwrap());
    // The client knows our limit once our settings have come.
    let (response, _to) = client.ask(request).await;
    let refused = response.await.map(|response| response.status());
    assert!(!matches!(refused, Ok(StatusCode::OK)), "{refused:?}");

    let mut stream = lab.enter(Entrance::Connect).await;
    let mut first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    first.extend(frame(4, 0, 0, b""));
    first.extend(frame(1, 0, 1, b""));
    stream.write_all(&first).await.unwrap();
    // A field that is not indexed, name and value of one byte, again and again.
    let piece = frame(9, 0, 1, &b"\x00\x01x\x01x".repeat(200));
    let flood = async { while stream.write_all(&piece).await.is_ok() {} };
    timeout(Duration::from_secs(30), flood).await.expect("it is ended");
    until(|| open(&lab) <= 1).await;
}
