//! What it costs to find the name in a client's first bytes, whole or in pieces. README.md beside this file says how to read
//! it.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up stops at once")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use sidegate::forward::{HelloReader, Reading};

const NAME: &str = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";
/// What one segment of an Ethernet path carries of a long hello.
const SEGMENT: usize = 1_400;

/// What the TLS library in use sends first: a post-quantum key share makes it long.
fn hello() -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

fn name_of(hello: &[u8], step: usize) -> String {
    let mut reader = HelloReader::default();
    for end in (0..hello.len()).step_by(step).skip(1).chain([hello.len()]) {
        if let Reading::Complete(hello) = reader.read(&hello[..end]).unwrap() {
            return hello.server_name.unwrap().to_string();
        }
    }
    String::new()
}

fn hellos(criterion: &mut Criterion) {
    let hello = hello();
    let mut group = criterion.benchmark_group("client hello");
    for (case, step) in [("whole", hello.len()), ("in segments", SEGMENT), ("octet by octet", 1)] {
        assert_eq!(name_of(&hello, step), NAME, "{case}");
        group.bench_function(format!("{case}, {} octets", hello.len()), |bencher| {
            bencher.iter(|| {
                let mut reader = HelloReader::default();
                for end in (0..hello.len()).step_by(step).skip(1).chain([hello.len()]) {
                    let _ = black_box(reader.read(black_box(&hello[..end])));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hellos);
criterion_main!(benches);
