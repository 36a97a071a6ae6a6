//! Row 19: clients that say nothing, drip, or go away. Time is paused: it moves on by itself when nobody can do anything.

use std::time::Duration;

use sidegate::forward::Entrance;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::lab::{Lab, PRIVATE, client_hello, rest};

async fn ends_within(lab: &Lab, entrance: Entrance, first: &[u8], limit: Duration) -> Vec<u8> {
    let mut stream = lab.enter(entrance).await;
    stream.write_all(first).await.unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
    tokio::time::timeout(limit * 2, read).await.expect("it ends").unwrap();
    let taken = begun.elapsed();
    assert!(taken >= limit.mul_f32(0.9) && taken <= limit.mul_f32(1.5), "{taken:?}");
    answer
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_half_a_word_is_closed_on_time() {
    let (lab, _places) = Lab::new().await;
    let hello = client_hello(PRIVATE);
    for (entrance, first, limit, answer) in [
        (Entrance::Connect, &b""[..], 10, "HTTP/1.1 408 "),
        (Entrance::Connect, b"CONNECT a:443 HTTP/1.1\r\nHost:", 10, "HTTP/1.1 408 "),
        (Entrance::Connect, b"PRI * HTTP/2.0\r\n", 10, "HTTP/1.1 408 "),
        (Entrance::Sni, b"", 5, ""),
        (Entrance::Sni, &hello[..100], 5, ""),
    ] {
        let said = ends_within(&lab, entrance, first, Duration::from_secs(limit)).await;
        assert!(String::from_utf8(said).unwrap().starts_with(answer), "{entrance:?}");
    }
    lab.until_ended("slow_client").await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_client_never_begins_tls_is_closed() {
    let (lab, _endpoint, _gateway) = Lab::raw(|_| ()).await;
    let (mut stream, head) = lab.connect(&format!("{PRIVATE}:443")).await;
    assert!(head.starts_with("HTTP/1.1 200 "));
    assert_eq!(rest(&mut stream).await, b"");
    lab.until_ended("slow_client").await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_in_which_no_byte_moves_is_closed_after_eleven_minutes() {
    let (lab, endpoint, _gateway) = Lab::raw(|_| ()).await;
    let mut stream = lab.enter(Entrance::Sni).await;
    stream.write_all(&client_hello(PRIVATE)).await.unwrap();
    let (_far, _) = endpoint.accept().await.unwrap();
    let begun = Instant::now();
    lab.until_ended_however_long("idle").await;
    let taken = begun.elapsed().as_secs();
    assert!((600..=800).contains(&taken), "{taken} s");
}

#[tokio::test]
async fn a_flood_of_resets_leaves_nothing_behind_and_service_goes_on() {
    let (lab, _places) = Lab::new().await;
    for round in 0..1000 {
        let entrance = if round % 2 == 0 { Entrance::Connect } else { Entrance::Sni };
        let stream = lab.enter(entrance).await;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let stream = lab.enter(Entrance::Sni).await;
    assert_eq!(lab.who_is_there(stream, PRIVATE).await.unwrap(), "the endpoint");
    let left = || lab.plane.open().map(|(_, open)| open).sum::<usize>();
    let gone = async {
        while left() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap_or_else(|_| panic!("{} are left", left()));
}
