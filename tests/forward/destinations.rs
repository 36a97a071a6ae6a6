//! Row 15: never an open relay, and no way to what stands beside us.

use std::net::{IpAddr, Ipv4Addr};

use sidegate::forward::Entrance;
use sidegate::policy::Networks;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::lab::{INTERNET, Lab, OTHER, PUBLIC, client_hello, loopback, rest};

#[tokio::test]
async fn an_address_is_refused_in_every_spelling() {
    let (lab, _places) = Lab::new().await;
    for host in [
        "127.0.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "0.0.0.0",
        "0",
    ] {
        let (_, head) = lab.connect(&format!("{host}:443")).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{host}: {head}");
    }
}

/// The name is permitted; where it leads is not, whoever answers for it.
#[tokio::test]
async fn a_name_that_leads_inside_is_never_dialled() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    let (lab, _places) = Lab::with(|config| config.public_port = port).await;
    let inside: [IpAddr; 4] = [
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(169, 254, 169, 254).into(),
        "::ffff:127.0.0.1".parse().unwrap(),
        "fd00:ec2::254".parse().unwrap(),
    ];
    for ip in inside {
        for name in [PUBLIC, OTHER] {
            lab.resolve_to(name, &[ip]);
            let (_, head) = lab.connect(&format!("{name}:443")).await;
            assert!(head.starts_with("HTTP/1.1 403 "), "{name} at {ip}: {head}");
            assert!(head.contains("destination_ip_prohibited"), "{head}");
        }
        let mut stream = lab.enter(Entrance::Sni).await;
        stream.write_all(&client_hello(PUBLIC)).await.unwrap();
        assert_eq!(rest(&mut stream).await, [21, 3, 3, 0, 2, 2, 49], "{ip}: access_denied");
    }
    // Private addresses are for other names only.
    lab.resolve_to(PUBLIC, &[Ipv4Addr::new(10, 0, 0, 1).into()]);
    let (_, head) = lab.connect(&format!("{PUBLIC}:443")).await;
    assert!(head.contains("destination_ip_prohibited"), "{head}");
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(50), trap.accept()).await;
    assert!(nobody.is_err(), "somebody was connected to what listens on loopback");
}

#[tokio::test]
async fn a_name_that_leads_to_ourselves_does_not_go_round_in_circles() {
    let everything = || Networks::new(vec!["0.0.0.0/0".parse().unwrap()]);
    let (mut lab, _places) = Lab::with(|config| config.public_networks = everything()).await;
    // The port of our own entrance, as if it were that of public APIs.
    lab.config.public_port = lab.address(Entrance::Sni).port();
    let prepared = lab.plane.prepare(&lab.config, lab.surroundings()).await.unwrap();
    lab.plane.adopt(prepared);
    lab.resolve_to(PUBLIC, &[Ipv4Addr::LOCALHOST.into()]);
    let (_, head) = lab.connect(&format!("{PUBLIC}:443")).await;
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("proxy_loop_detected"), "{head}");
}

#[tokio::test]
async fn beyond_loopback_connect_is_no_way_to_other_names() {
    let (lab, _places) = Lab::with(|config| config.connect_listen = vec!["0.0.0.0:0".parse().unwrap()]).await;
    let port = lab.address(Entrance::Connect).port();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {OTHER}\r\n\r\n").as_bytes()).await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("forward.allow"), "{answer}");
}

#[tokio::test]
async fn who_is_not_in_clients_gets_no_word_from_any_entrance() {
    let nobody = || Networks::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let (lab, _places) = Lab::with(|config| config.clients = nobody()).await;
    for entrance in [Entrance::Connect, Entrance::Sni] {
        let mut stream = lab.enter(entrance).await;
        let _ = stream.write_all(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(rest(&mut stream).await, b"", "{entrance:?}");
    }
    assert_eq!(lab.plane.at_bounds().foreign.load(std::sync::atomic::Ordering::Relaxed), 2);
}

/// One address that must not be dialled among good ones changes nothing for the good ones.
#[tokio::test]
async fn among_several_addresses_only_the_permitted_are_dialled() {
    let (lab, _places) = Lab::new().await;
    lab.resolve_to(PUBLIC, &[Ipv4Addr::LOCALHOST.into(), INTERNET.into()]);
    let (stream, _) = lab.connect(&format!("{PUBLIC}:443")).await;
    assert_eq!(lab.who_is_there(stream, PUBLIC).await.unwrap(), "the internet");
    assert!(loopback().ip().is_loopback());
}
