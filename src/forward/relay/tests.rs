//! Relays between real sockets on loopback: what goes in on one far side comes out on the other.

use std::future::pending;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use rand::Rng as _;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::tcp_listener::{Bounds, Connections};

const LONG: Duration = Duration::from_secs(600);

/// How bytes are carried.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Spliced,
    /// Two TCP connections, and no pipe to be had.
    Copied,
    /// Two TCP connections, and a kernel that will not splice.
    Refused,
    /// Streams that might be of any kind.
    Other,
}

const WAYS: [Way; 4] = [Way::Spliced, Way::Copied, Way::Refused, Way::Other];

fn no_pipe() -> io::Result<Pipe> {
    Err(io::Error::from_raw_os_error(libc::EMFILE))
}

/// Splice says EINVAL, for neither side is a pipe.
fn not_a_pipe() -> io::Result<Pipe> {
    let file = || std::fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    Ok(Pipe { reader: file()?, writer: file()?, size: 1 << 16 })
}

/// A relay at work, and the far sides of its two ends.
struct Lab {
    client: TcpStream,
    upstream: TcpStream,
    stop: CancellationToken,
    relay: JoinHandle<Ending>,
}

impl Lab {
    async fn new(way: Way, idle: Duration) -> Self {
        let open_pipe = match way {
            Way::Copied => no_pipe,
            Way::Refused => not_a_pipe,
            Way::Spliced | Way::Other => Pipe::new,
        };
        Self::with(way == Way::Other, idle, open_pipe).await
    }

    async fn with(other: bool, idle: Duration, open_pipe: fn() -> io::Result<Pipe>) -> Self {
        let end = |stream| if other { End::other(stream) } else { End::from(stream) };
        let ((client, near_client), (upstream, near_upstream)) = (connected().await, connected().await);
        let stop = CancellationToken::new();
        let place = place(stop.clone());
        let (near_client, near_upstream) = (end(near_client), end(near_upstream));
        let relay =
            tokio::spawn(async move { relay_through(near_client, near_upstream, idle, &place, open_pipe).await });
        Self { client, upstream, stop, relay }
    }
}

fn place(close: CancellationToken) -> Place {
    let bounds = Bounds { total: 1, per_client: 1 };
    Connections::new(bounds).admit(None, Instant::now().into_std(), close).0
}

impl Duplex for TcpStream {
    fn reset(&mut self) {
        reset(self);
    }

    fn poll_failed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Duplex for DuplexStream {
    fn reset(&mut self) {}

    fn poll_failed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// The end of a relay that ends by what its sides do; one that does not is a failure, not a test without end.
async fn ending(relay: JoinHandle<Ending>) -> Ending {
    timeout(Duration::from_secs(60), relay).await.expect("the relay ends").unwrap()
}

/// A connection's far and near side.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (far.unwrap(), near.unwrap().0)
}

/// Bytes without a pattern; of an odd number, so that no two pieces of a repetition are aligned alike.
fn random() -> Vec<u8> {
    let mut bytes = vec![0; (1 << 20) + 4099];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

async fn send_repeated(stream: &mut (impl AsyncWrite + Unpin), block: &[u8], total: usize) {
    let mut left = total;
    while left > 0 {
        let piece = &block[..left.min(block.len())];
        stream.write_all(piece).await.unwrap();
        left -= piece.len();
    }
    stream.shutdown().await.unwrap();
}

async fn expect_repeated(stream: &mut (impl AsyncRead + Unpin), block: &[u8], total: usize) {
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let expected = &block[received % block.len()..];
            let length = expected.len().min(rest.len());
            assert!(rest[..length] == expected[..length], "bytes after {received} differ");
            rest = &rest[length..];
            received += length;
        }
    }
    assert_eq!(received, total);
}

/// Bytes written on one far side arrive on the other, and nobody ends anything.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    let (sent, read) = tokio::join!(from.write_all(bytes), to.read_exact(&mut received));
    sent.unwrap();
    read.unwrap();
    assert!(received == bytes);
}

/// The relay has passed a reset on: the far side cannot take it for an end of stream.
async fn expect_reset(far: &mut TcpStream) {
    let error = far.read(&mut [0; 8]).await.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
}

fn send_reset(far: TcpStream) {
    reset(&far);
    drop(far);
}

#[tokio::test]
async fn sixty_four_megabytes_each_way_at_once_arrive_bit_for_bit() {
    static PIPES: AtomicUsize = AtomicUsize::new(0);
    fn counted() -> io::Result<Pipe> {
        PIPES.fetch_add(1, Ordering::Relaxed);
        Pipe::new()
    }
    const UP: usize = 64 << 20;
    const DOWN: usize = (64 << 20) + 12_345;
    let (sent_up, sent_down) = (random(), random());
    for way in WAYS {
        let mut lab = match way {
            Way::Spliced => Lab::with(false, LONG, counted).await,
            other => Lab::new(other, LONG).await,
        };
        let (mut client_read, mut client_write) = lab.client.split();
        let (mut upstream_read, mut upstream_write) = lab.upstream.split();
        tokio::join!(
            send_repeated(&mut client_write, &sent_up, UP),
            send_repeated(&mut upstream_write, &sent_down, DOWN),
            expect_repeated(&mut upstream_read, &sent_up, UP),
            expect_repeated(&mut client_read, &sent_down, DOWN),
        );
        let ended = ending(lab.relay).await;
        assert_eq!(ended, Ending { up: UP as u64, down: DOWN as u64, reason: Reason::Finished }, "{way:?}");
    }
    assert!(PIPES.load(Ordering::Relaxed) >= 2, "one for each direction");
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    for way in WAYS {
        let Lab { mut client, mut upstream, relay, .. } = Lab::new(way, LONG).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        upstream.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        let answer = random();
        let (mut received, sent) = (Vec::new(), send_repeated(&mut upstream, &answer, answer.len()));
        tokio::join!(sent, async { client.read_to_end(&mut received).await.unwrap() });
        assert!(received == answer);
        let down = answer.len() as u64;
        assert_eq!(ending(relay).await, Ending { up: 8, down, reason: Reason::Finished }, "{way:?}");
    }
}

#[tokio::test]
async fn a_half_closed_upstream_still_gets_the_rest() {
    for way in WAYS {
        let Lab { mut client, mut upstream, relay, .. } = Lab::new(way, LONG).await;
        upstream.write_all(b"enough").await.unwrap();
        upstream.shutdown().await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"enough");
        let rest = random();
        tokio::join!(
            send_repeated(&mut client, &rest, 3 * rest.len()),
            expect_repeated(&mut upstream, &rest, 3 * rest.len())
        );
        let up = 3 * rest.len() as u64;
        assert_eq!(ending(relay).await, Ending { up, down: 6, reason: Reason::Finished }, "{way:?}");
    }
}

#[tokio::test]
async fn single_bytes_to_and_fro_stay_in_order() {
    for way in WAYS {
        let Lab { mut client, mut upstream, relay, .. } = Lab::new(way, LONG).await;
        // The second half of them goes through pipes, where there are any.
        for round in 0..100_u8 {
            if round == 50 {
                let block = random();
                pass(&mut client, &mut upstream, &block).await;
                pass(&mut upstream, &mut client, &block).await;
            }
            client.write_u8(round).await.unwrap();
            assert_eq!(upstream.read_u8().await.unwrap(), round);
            upstream.write_u8(!round).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), !round);
        }
        drop((client, upstream));
        assert_eq!(ending(relay).await.reason, Reason::Finished, "{way:?}");
    }
}

#[tokio::test]
async fn a_reset_of_one_side_resets_the_other() {
    for way in [Way::Spliced, Way::Copied] {
        for (size, reason) in [
            (1, Reason::ClientReset),
            (1, Reason::UpstreamReset),
            (1 << 20, Reason::ClientReset),
            (1 << 20, Reason::UpstreamReset),
        ] {
            let Lab { client, upstream, relay, .. } = Lab::new(way, LONG).await;
            let by_client = reason == Reason::ClientReset;
            let (mut resetting, mut other) = if by_client { (client, upstream) } else { (upstream, client) };
            pass(&mut resetting, &mut other, &vec![7; size]).await;
            send_reset(resetting);
            expect_reset(&mut other).await;
            let ended = ending(relay).await;
            let (up, down) = if by_client { (size as u64, 0) } else { (0, size as u64) };
            assert_eq!(ended, Ending { up, down, reason }, "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_its_last_word_takes_the_upstream_with_it() {
    let Lab { mut client, mut upstream, relay, .. } = Lab::new(Way::Spliced, LONG).await;
    client.shutdown().await.unwrap();
    assert_eq!(upstream.read(&mut [0; 8]).await.unwrap(), 0);
    send_reset(client);
    assert_eq!(ending(relay).await.reason, Reason::ClientLeft);
    // After an end of stream, a reset shows in what is written.
    assert!(upstream.write_all(b"more").await.is_err());
}

/// As a server does that answers, closes, and never reads what its client says after that.
#[tokio::test]
async fn what_an_upstream_said_before_it_left_reaches_a_client_that_still_talks() {
    for way in WAYS {
        let Lab { mut client, mut upstream, relay, .. } = Lab::new(way, LONG).await;
        let answer = vec![7; 20_000];
        upstream.write_all(&answer).await.unwrap();
        upstream.shutdown().await.unwrap();
        drop(upstream);
        // It has come, and is not read yet.
        while client.peek(&mut vec![0; 30_000]).await.unwrap() < answer.len() {}
        client.write_all(&[1; 1000]).await.unwrap();
        let relay = async { ending(relay).await.reason };
        let received = async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            client.write_all(b"and I still talk").await.unwrap();
            client.shutdown().await.unwrap();
            received
        };
        let (reason, received) = tokio::join!(relay, received);
        assert!(received == answer, "{way:?}: {} bytes", received.len());
        // Where only a write shows that the upstream is gone, the client's last one may come too early to show it.
        assert!(
            reason == Reason::UpstreamLeft || way == Way::Other && reason == Reason::Finished,
            "{way:?}: {reason:?}"
        );
    }
}

#[tokio::test]
async fn a_relay_that_is_stopped_resets_both_sides() {
    for way in [Way::Spliced, Way::Copied] {
        let mut lab = Lab::new(way, LONG).await;
        lab.client.write_all(b"half a").await.unwrap();
        lab.upstream.read_exact(&mut [0; 6]).await.unwrap();
        lab.stop.cancel();
        assert_eq!(ending(lab.relay).await, Ending { up: 6, down: 0, reason: Reason::Stopped });
        expect_reset(&mut lab.client).await;
        expect_reset(&mut lab.upstream).await;
    }
}

#[tokio::test]
async fn a_tcp_side_is_reset_although_the_other_side_is_none() {
    let ((mut upstream, near), (_client, inner)) = (connected().await, duplex(1024));
    let stop = CancellationToken::new();
    stop.cancel();
    let ended = relay(End::other(inner), near.into(), LONG, &place(stop)).await;
    assert_eq!(ended.reason, Reason::Stopped);
    expect_reset(&mut upstream).await;
}

#[tokio::test]
async fn who_does_not_read_stops_who_writes() {
    for way in WAYS {
        // The relay ends once the writer has been stopped for so long; it is bounded however slow this machine is.
        let lab = Lab::new(way, Duration::from_millis(400)).await;
        let (mut client, _silent) = (lab.client, lab.upstream);
        let writer = tokio::spawn(async move {
            let (block, mut accepted) = (vec![1; 1 << 16], 0);
            while accepted < 1 << 30 {
                let Ok(count) = client.write(&block).await else { break };
                accepted += count;
            }
            accepted
        });
        let ended = ending(lab.relay).await;
        let accepted = writer.await.unwrap();
        assert_eq!(ended.reason, Reason::Idle, "{way:?}");
        // What the kernel buffers for four sockets, at most.
        assert!(accepted < 256 << 20, "{way:?}: {accepted} bytes of a writer that should wait");
    }
}

#[tokio::test]
async fn silence_ends_a_relay_after_its_idle_time() {
    for way in WAYS {
        let lab = Lab::new(way, LONG).await;
        tokio::time::pause();
        let started = Instant::now();
        let ended = lab.relay.await.unwrap();
        assert_eq!(ended, Ending { up: 0, down: 0, reason: Reason::Idle }, "{way:?}");
        assert_eq!(started.elapsed().as_secs(), LONG.as_secs());
        tokio::time::resume();
    }
}

/// A relay between streams without sockets, which paused time goes well with.
fn in_memory(idle: Duration) -> (DuplexStream, DuplexStream, JoinHandle<Ending>) {
    let ((client, near_client), (upstream, near_upstream)) = (duplex(64), duplex(64));
    let relay = tokio::spawn(async move {
        relay(End::other(near_client), End::other(near_upstream), idle, &place(CancellationToken::new())).await
    });
    (client, upstream, relay)
}

#[tokio::test(start_paused = true)]
async fn a_byte_in_either_direction_prolongs_a_relay() {
    let (mut client, mut upstream, relay) = in_memory(Duration::from_secs(10));
    let started = Instant::now();
    for _ in 0..3 {
        sleep(Duration::from_secs(9)).await;
        client.write_u8(1).await.unwrap();
        sleep(Duration::from_secs(9)).await;
        upstream.write_u8(1).await.unwrap();
    }
    assert_eq!(relay.await.unwrap(), Ending { up: 3, down: 3, reason: Reason::Idle });
    assert_eq!(started.elapsed().as_secs(), 64, "ten seconds after the last byte");
}

#[tokio::test(start_paused = true)]
async fn a_byte_that_nobody_takes_does_not_prolong_a_relay() {
    let (mut client, _upstream, relay) = in_memory(Duration::from_secs(10));
    let started = Instant::now();
    let writing = async { while client.write_all(&[0; 64]).await.is_ok() {} };
    let (ending, ()) = tokio::join!(relay, writing);
    assert_eq!(ending.unwrap(), Ending { up: 64, down: 0, reason: Reason::Idle });
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_pipe_is_given_back_when_the_relay_ends_and_when_it_is_quiet() {
    static WATCHED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    fn watched() -> io::Result<Pipe> {
        let pipe = Pipe::new()?;
        WATCHED.lock().unwrap().push(pipe.reader.as_fd().try_clone_to_owned()?);
        Ok(pipe)
    }
    // How many there were, and how many are open: reading finds the end once the last writer is closed, and would block
    // before.
    let pipes = || {
        let pipes = WATCHED.lock().unwrap();
        (pipes.len(), pipes.iter().filter(|pipe| rustix::io::read(pipe, &mut [0; 1]).is_err()).count())
    };
    let mut lab = Lab::with(false, LONG, watched).await;
    let block = vec![0; 1 << 20];
    pass(&mut lab.client, &mut lab.upstream, &block).await;
    assert_eq!(pipes(), (1, 1), "one direction has a pipe, the other needs none");
    // Time leaps to the pipe's end, which is before the relay's.
    tokio::time::pause();
    timeout(splice::QUIET * 2, pending::<()>()).await.unwrap_err();
    tokio::time::resume();
    assert_eq!(pipes(), (1, 0), "quiet");
    pass(&mut lab.client, &mut lab.upstream, &block).await;
    assert_eq!(pipes(), (2, 1), "a new one for the next load");
    drop((lab.client, lab.upstream));
    assert_eq!(ending(lab.relay).await.reason, Reason::Finished);
    assert_eq!(pipes(), (2, 0), "ended");
}

#[tokio::test]
async fn an_idle_relay_costs_little() {
    let ((_client, near_client), (_upstream, near_upstream)) = (connected().await, connected().await);
    let place = place(CancellationToken::new());
    let relay = relay(near_client.into(), near_upstream.into(), LONG, &place);
    let size = size_of_val(&relay);
    assert!(size < 3072, "{size} bytes");
}

#[test]
fn a_pipe_is_worth_having_or_is_refused() {
    let pipe = Pipe::new().unwrap();
    assert!(pipe.size >= splice::LEAST_PIPE);
}
