//! Calls that get no answer: what a security group, a route, a TLS policy and a certificate look like from here.

use sidegate::doctor::{Cause, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::lab::{DOMAIN, Lab, Manner, PRIVATE, PUBLIC, System, forbids};

const LISTED: &str = "private_api_ids = [\"a1b2c3d4e5\"]";

fn private(endpoint: Manner) -> Lab {
    Lab { endpoint, policy: LISTED, ..Lab::default() }
}

fn public(internet: Manner) -> Lab {
    Lab { internet, system: System::Public, ..Lab::default() }
}

#[tokio::test]
async fn an_endpoint_that_drops_every_syn_is_behind_a_security_group() {
    let verdict = private(Manner::Drops).verdict(PRIVATE).await;
    assert_eq!((verdict.cause, verdict.also), (Cause::SecurityGroup, vec![]));
    assert!(verdict.decides.unwrap().contains("flow logs"));
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_no_security_group() {
    assert_eq!(private(Manner::Refuses).causes(PRIVATE).await, (Cause::EndpointUnreachable, vec![]));
}

#[tokio::test]
async fn a_public_api_has_no_business_at_an_endpoint_however_that_fails() {
    let lab = Lab { endpoint: Manner::Refuses, ..Lab::default() };
    assert_eq!(lab.causes(PUBLIC).await, (Cause::PublicApiThroughEndpoint, vec![Cause::EndpointUnreachable]));
}

#[tokio::test]
async fn an_endpoint_that_ends_the_handshake_has_a_strict_access_mode_or_tls_policy() {
    let verdict = private(Manner::Alert).verdict(PRIVATE).await;
    assert_eq!(verdict.cause, Cause::StrictAccessMode);
    assert!(verdict.because.contains("HandshakeFailure"), "{}", verdict.because);
}

#[tokio::test]
async fn without_a_way_out_the_internets_side_is_silent_or_unreachable() {
    for internet in [Manner::Drops, Manner::Refuses] {
        assert_eq!(public(internet).causes(PUBLIC).await, (Cause::NoRouteOut, vec![]));
    }
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_said_to_be_one() {
    for lab in [private(Manner::OtherCertificate), public(Manner::OtherCertificate)] {
        let host = if lab.policy == LISTED { PRIVATE } else { PUBLIC };
        let verdict = lab.verdict(host).await;
        assert_eq!(verdict.cause, Cause::Certificate);
        assert!(verdict.because.contains("not valid for name"), "{}", verdict.because);
    }
    assert_eq!(public(Manner::Alert).causes(PUBLIC).await.0, Cause::TlsRefused);
}

/// TLS 1.2 says so in the handshake, TLS 1.3 after it.
#[tokio::test]
async fn a_domain_that_wants_a_client_certificate_is_known_in_both_versions_of_tls() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (cause, _) = public(Manner::ClientCertificate(version)).causes(DOMAIN).await;
        assert_eq!(cause, Cause::ClientCertificate, "{version:?}");
    }
}

#[tokio::test]
async fn the_internets_side_is_called_through_the_egress_proxy_where_there_is_one() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let forward = format!("parent_proxy = \"http://user:hush@{address}\"");
    let lab = Lab { forward, internet: forbids(), ..Lab::default() }.start().await;
    let gateway = (super::lab::INTERNET, lab.config.forward.public_port);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                assert!(String::from_utf8(head).unwrap().starts_with(&format!("CONNECT {PUBLIC}:{} ", gateway.1)));
                let mut server = TcpStream::connect(gateway).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let seen = lab.examine(&Request::of_url(&format!("{PUBLIC}/prod/x")).unwrap()).await;
    assert_eq!(seen.internet.outcome.reply().unwrap().status, 403);
    assert_eq!(seen.internet.control.as_ref().unwrap().status, 403);
    assert_eq!(seen.internet.proxy, Some(format!("http://{address}")));
    let notes = sidegate::doctor::notes(&seen);
    assert!(notes.iter().any(|note| note.contains("through forward.parent_proxy")), "{notes:?}");
    assert!(!format!("{seen:?}").contains("hush"));
}
