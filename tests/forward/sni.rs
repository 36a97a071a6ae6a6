//! Connections that come by DNS or by a redirect, and say in TLS where they want to go.

use sidegate::forward::Entrance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{Lab, OTHER, PRIVATE, PUBLIC, client_hello, rest};

#[tokio::test]
async fn private_and_public_apis_are_reached_each_in_its_place() {
    let (lab, _places) = Lab::new().await;
    for (name, place) in [(PRIVATE, "the endpoint"), (PUBLIC, "the internet")] {
        let stream = lab.enter(Entrance::Sni).await;
        assert_eq!(lab.who_is_there(stream, name).await.unwrap(), place, "{name}");
    }
}

#[tokio::test]
async fn every_byte_of_a_hello_that_drips_in_is_passed_on_untouched() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let hello = client_hello(PRIVATE);
    let mut stream = lab.enter(Entrance::Sni).await;
    stream.set_nodelay(true).unwrap();
    for byte in &hello {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(b"and what follows").await.unwrap();
    stream.shutdown().await.unwrap();
    let (mut far, _) = endpoint.accept().await.unwrap();
    assert!(rest(&mut far).await == [&hello[..], b"and what follows"].concat());
    far.write_all(b"answered after the end").await.unwrap();
    drop(far);
    assert_eq!(rest(&mut stream).await, b"answered after the end", "half-close is kept");
}

#[tokio::test]
async fn who_names_nobody_or_somebody_else_is_told_by_the_right_alert() {
    let (lab, _places) = Lab::new().await;
    let alert = |code| vec![21, 3, 3, 0, 2, 2, code];
    let nobody = client_hello("127.0.0.1");
    for (first, answer, reason) in [
        (nobody, alert(109), "no_server_name"),
        (client_hello(OTHER), alert(112), "not_allowed"),
        (client_hello("nothere.execute-api.us-east-1.amazonaws.com"), alert(112), "no_such_name"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Vec::new(), "plain_http"),
        (vec![22, 3, 1, 0, 4, 2, 0, 0, 0], alert(10), "not_a_client_hello"),
        (vec![22, 3, 1, 0, 5, 1, 0, 0, 1, 0], alert(50), "client_hello_malformed"),
    ] {
        let mut stream = lab.enter(Entrance::Sni).await;
        stream.write_all(&first).await.unwrap();
        assert_eq!(rest(&mut stream).await, answer, "{reason}");
        drop(stream);
        lab.until_ended(reason).await;
    }
}

#[tokio::test]
async fn a_hello_beyond_all_bounds_is_cut_off() {
    let (lab, _places) = Lab::new().await;
    let mut stream = lab.enter(Entrance::Sni).await;
    // A message of 16 MiB, in records of 1 KiB.
    let mut record = vec![22, 3, 1, 4, 0];
    record.extend([1, 255, 255, 255]);
    record.resize(5 + 1024, 0);
    let mut sent = 0;
    while sent < 1 << 20 && stream.write_all(&record).await.is_ok() {
        record[5] = 0;
        sent += record.len();
    }
    let _ = stream.read(&mut [0; 8]).await;
    lab.until_ended("client_hello_too_long").await;
}
