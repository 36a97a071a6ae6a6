//! What the forwarder's relay carries between real sockets on loopback, and what a connection through it costs. README.md
//! beside this file says how to read it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a bench that cannot be set up stops at once; it needs a part of the tests' lab"
)]

#[path = "../tests/forward/lab.rs"]
mod lab;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lab::{INTERNET, Lab, OTHER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// One answer of a bulk transfer, in octets.
const BULK: usize = 16 << 20;
/// One small message.
const SMALL: usize = 200;

/// Answers each octet with `length` octets.
async fn answer(listener: TcpListener, length: usize) {
    let octets = vec![7; length];
    while let Ok((mut stream, _)) = listener.accept().await {
        let octets = octets.clone();
        tokio::spawn(async move { while stream.read_u8().await.is_ok() && stream.write_all(&octets).await.is_ok() {} });
    }
}

async fn ask(stream: &mut TcpStream, buffer: &mut [u8], mut length: usize) {
    stream.write_u8(1).await.unwrap();
    while length > 0 {
        let read = stream.read(buffer).await.unwrap();
        assert!(read > 0);
        length -= read;
    }
}

/// A lab whose gateway answers.
fn lab(runtime: &Runtime, length: usize) -> Lab {
    runtime.block_on(async {
        let (lab, _endpoint, gateway) = Lab::raw(|_| ()).await;
        tokio::spawn(answer(gateway, length));
        lab
    })
}

/// A tunnel to a name that is none of ours, inside which anything may be spoken.
async fn tunnel(lab: &Lab) -> TcpStream {
    let (stream, head) = lab.connect(&format!("{OTHER}:443")).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream
}

fn relay(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("relay");
    let mut buffer = vec![0; 1 << 18];
    for (case, length) in [("16 MiB", BULK), ("200 octets", SMALL)] {
        let lab = lab(&runtime, length);
        let tunnelled = runtime.block_on(tunnel(&lab));
        let direct = runtime.block_on(TcpStream::connect((INTERNET, lab.port))).unwrap();
        group.throughput(Throughput::Bytes(length as u64));
        for (way, mut stream) in [("through a tunnel", tunnelled), ("without", direct)] {
            group.bench_function(format!("{case} {way}"), |bencher| {
                bencher.iter(|| runtime.block_on(ask(&mut stream, &mut buffer, length)));
            });
        }
    }
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lab = lab(&runtime, SMALL);
    let mut buffer = [0; SMALL];
    criterion.bench_function("relay/a tunnel opened, 200 octets, closed", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let mut stream = tunnel(&lab).await;
                ask(&mut stream, &mut buffer, SMALL).await;
            });
        });
    });
}

criterion_group!(benches, relay, connections);
criterion_main!(benches);
