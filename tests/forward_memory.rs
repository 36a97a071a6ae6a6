//! Row 19: what clients of the forwarder take while they stall, drip or are many, they give back.
//!
//! In a binary of its own, because it counts every byte of its process.
#![allow(unsafe_code, reason = "a global allocator that counts cannot be written without")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a test may fail by panicking, its helpers too; and it needs only some of them"
)]

#[path = "forward/lab.rs"]
mod lab;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sidegate::forward::Entrance;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use lab::{Lab, OTHER, PRIVATE, client_hello};

/// The system's allocator, and the bytes that are taken from it now.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by each test: they count one process's memory.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Clients at a time.
const CLIENTS: usize = 200;
/// The most that one client may take while it is there: tasks, records and buffers of both sides of its connection.
const EACH: usize = 64 * 1024;
/// What may be left once all are gone: tables that have grown and do not shrink.
const LEFT: usize = 128 * 1024;

/// One round of each kind of client. The most that was taken while they were there.
async fn round(lab: &Lab) -> usize {
    let hello = client_hello(PRIVATE);
    let connect = format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nHost: {PRIVATE}:443\r\n\r\n");
    let outside = format!("CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {OTHER}:443\r\n\r\n");
    let long = format!("CONNECT {PRIVATE}:443 HTTP/1.1\r\nX: {}", "x".repeat(16 * 1024));
    let upload = format!("POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: 1000\r\n\r\nonly so much");
    let mut most = 0;
    for (entrance, first) in [
        (Entrance::Connect, &b""[..]),
        (Entrance::Connect, long.as_bytes()),
        (Entrance::Connect, connect.as_bytes()),
        (Entrance::Connect, outside.as_bytes()),
        (Entrance::Connect, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
        (Entrance::Sni, b""),
        (Entrance::Sni, &hello[..hello.len() / 2]),
        (Entrance::Sni, &hello),
        (Entrance::Http, b""),
        (Entrance::Http, long.as_bytes()),
        (Entrance::Http, upload.as_bytes()),
    ] {
        let mut clients: Vec<TcpStream> = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let mut client = lab.enter(entrance).await;
            for piece in first.chunks(1 + first.len() / 3) {
                client.write_all(piece).await.unwrap();
            }
            clients.push(client);
        }
        most = most.max(TAKEN.load(Ordering::Relaxed));
        for (number, client) in clients.iter().enumerate() {
            let linger = (number % 2 == 0).then_some(Duration::ZERO);
            SockRef::from(client).set_linger(linger).unwrap();
        }
        drop(clients);
        while lab.plane.open().any(|(_, open)| open > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    most
}

#[tokio::test]
async fn clients_that_stall_drip_or_reset_leave_memory_where_it_was() {
    let _alone = ALONE.lock().await;
    let (lab, _places) = Lab::with(|config| config.http_listen = vec![lab::loopback()]).await;
    let begun = TAKEN.load(Ordering::Relaxed);
    let most = tokio::time::timeout(Duration::from_secs(60), round(&lab)).await.expect("all are gone in time");
    assert!(most - begun < CLIENTS * EACH, "{} bytes for each of {CLIENTS} clients", (most - begun) / CLIENTS);
    let before = TAKEN.load(Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(60), round(&lab)).await.expect("all are gone in time");
    let after = TAKEN.load(Ordering::Relaxed);
    assert!(after < before + LEFT, "{before} bytes before, {after} after");
}

/// Tunnels of one connection.
const TUNNELS: usize = 100;
/// The most that one of them may take: what waits in it for a client that takes nothing, and its task.
const EACH_TUNNEL: usize = 96 * 1024;

#[tokio::test]
async fn a_client_of_http2_that_does_not_read_holds_bounded_memory() {
    let _alone = ALONE.lock().await;
    let (lab, _endpoint, gateway) = Lab::raw(|_| ()).await;
    let stream = lab.enter(Entrance::Connect).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(64 << 20).initial_connection_window_size(1 << 30);
    let (mut client, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let mut connection = Box::pin(connection);
    let mut tunnels = Vec::new();
    let ask = async {
        for _ in 0..TUNNELS {
            client = client.clone().ready().await.unwrap();
            let request = hyper::Request::builder().method("CONNECT").uri(format!("{OTHER}:443")).body(()).unwrap();
            let (response, to_server) = client.send_request(request, false).unwrap();
            let (far, _) = gateway.accept().await.unwrap();
            tunnels.push((response.await.unwrap(), to_server, far));
        }
    };
    tokio::select! {
        () = ask => {}
        _ = &mut connection => panic!("the connection stays"),
    }
    // From here on nobody reads for the client.
    let before = TAKEN.load(Ordering::Relaxed);
    let block = [1; 16 * 1024];
    for (_, _, far) in &mut tunnels {
        while let Ok(sent) = tokio::time::timeout(Duration::from_millis(50), far.write_all(&block)).await {
            sent.unwrap();
        }
    }
    let each = (TAKEN.load(Ordering::Relaxed) - before) / TUNNELS;
    assert!((1..EACH_TUNNEL).contains(&each), "{each} bytes for each of {TUNNELS} tunnels");
    drop((tunnels, connection, client));
    while lab.plane.open().any(|(_, open)| open > 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
