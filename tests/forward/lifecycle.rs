//! Row 20: nothing that was accepted is lost when the configuration changes or the process ends.

use std::time::Duration;

use sidegate::forward::{Entrance, Others};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::{Lab, OTHER, PRIVATE, client_hello, rest};

/// A connection by SNI that is relayed, and its far side.
async fn tunnel(lab: &Lab, endpoint: &tokio::net::TcpListener) -> (TcpStream, TcpStream) {
    let (mut stream, hello) = (lab.enter(Entrance::Sni).await, client_hello(PRIVATE));
    stream.write_all(&hello).await.unwrap();
    let (mut far, _) = endpoint.accept().await.unwrap();
    far.read_exact(&mut vec![0; hello.len()]).await.unwrap();
    (stream, far)
}

async fn say(from: &mut TcpStream, to: &mut TcpStream, words: &[u8]) {
    from.write_all(words).await.unwrap();
    let mut heard = vec![0; words.len()];
    to.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, words);
}

#[tokio::test]
async fn a_reload_keeps_sockets_and_tunnels_and_rules_over_the_next_connection() {
    let (mut lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let (mut stream, mut far) = tunnel(&lab, &endpoint).await;
    let before = lab.plane.addresses();
    let (_, head) = lab.connect(&format!("{OTHER}:443")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");

    lab.config.others = Some(Others::Refuse);
    let prepared = lab.plane.prepare(&lab.config, lab.surroundings()).await.unwrap();
    lab.plane.adopt(prepared);
    assert_eq!(lab.plane.addresses(), before);
    let (_, head) = lab.connect(&format!("{OTHER}:443")).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");

    lab.config.connect_listen.clear();
    let prepared = lab.plane.prepare(&lab.config, lab.surroundings()).await.unwrap();
    lab.plane.adopt(prepared);
    assert_eq!(lab.plane.addresses(), before[1..]);
    say(&mut stream, &mut far, b"still here").await;
    say(&mut far, &mut stream, b"so am I").await;
}

#[tokio::test]
async fn a_configuration_that_cannot_be_bound_changes_nothing() {
    let (lab, _places) = Lab::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holder = std::net::TcpListener::bind(taken).unwrap();
    let mut config = lab.config.clone();
    config.http_listen = vec![taken];
    let error = lab.plane.prepare(&config, lab.surroundings()).await.unwrap_err().to_string();
    assert!(error.contains("forward.http.listen") && error.contains(&taken.to_string()), "{error}");
    let stream = lab.enter(Entrance::Sni).await;
    assert_eq!(lab.who_is_there(stream, PRIVATE).await.unwrap(), "the endpoint");
}

#[tokio::test]
async fn a_change_that_our_own_socket_is_in_the_way_of_says_so() {
    let (lab, _places) = Lab::new().await;
    let address = lab.address(Entrance::Connect);
    for wider in [address, ([0, 0, 0, 0], address.port()).into()] {
        let mut config = lab.config.clone();
        (config.connect_listen, config.sni_listen) = (Vec::new(), vec![wider]);
        let error = lab.plane.prepare(&config, lab.surroundings()).await.unwrap_err().to_string();
        assert!(error.contains("held by forward.connect.listen") && error.contains("restart"), "{error}");
    }
}

#[tokio::test]
async fn what_runs_at_a_drain_ends_in_its_own_time_and_nothing_new_is_let_in() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let (mut stream, mut far) = tunnel(&lab, &endpoint).await;
    let address = lab.address(Entrance::Sni);
    let draining = tokio::spawn(lab.plane.drain(Duration::from_secs(60)));
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    say(&mut stream, &mut far, b"a request").await;
    say(&mut far, &mut stream, b"its answer").await;
    drop(stream);
    assert_eq!(rest(&mut far).await, b"");
    drop(far);
    assert!(draining.await.unwrap(), "all ended by itself");
}

#[tokio::test]
async fn who_was_accepted_by_the_kernel_before_a_drain_is_served() {
    let (lab, _places) = Lab::new().await;
    // Connected, and in the queue at most: the accept loop has not run since.
    let address = lab.address(Entrance::Sni);
    let early = std::net::TcpStream::connect(address).unwrap();
    early.set_nonblocking(true).unwrap();
    let early = TcpStream::from_std(early).unwrap();
    let Lab { plane, .. } = lab;
    drop(plane.addresses());
    let draining = tokio::spawn(plane.drain(Duration::from_secs(60)));
    let mut early = early;
    early.write_all(&client_hello("127.0.0.1")).await.unwrap();
    assert_eq!(rest(&mut early).await, [21, 3, 3, 0, 2, 2, 109], "it is answered");
    drop(early);
    assert!(draining.await.unwrap());
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_is_ended() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let (mut stream, mut far) = tunnel(&lab, &endpoint).await;
    assert!(!lab.plane.drain(Duration::from_millis(50)).await);
    assert!(stream.read(&mut [0; 8]).await.is_err(), "a reset: what was cut off must not look whole");
    assert!(far.read(&mut [0; 8]).await.is_err());
}
