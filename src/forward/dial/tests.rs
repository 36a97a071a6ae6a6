//! Which addresses are dialled, in which order, and what is said when none lets us in.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;

use super::*;
use crate::forward::Destination;
use crate::policy::{Addresses, Networks, Rule};

type Answers = HashMap<(&'static str, Family), Result<Vec<IpAddr>, ResolveError>>;

/// A dialer whose names resolve as listed, to nothing otherwise; loopback may be dialled.
fn dialer(answers: Answers, public_port: u16) -> Dialer {
    let resolve: Resolve = Arc::new(move |host, family, _| {
        let found = answers.iter().find(|((name, of), _)| *of == family && host.to_string() == *name);
        let answer = found.map_or_else(|| Ok(Vec::new()), |(_, answer)| answer.clone());
        Box::pin(async move { answer })
    });
    let public_networks = Networks::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let rules = AddressRules { public_networks, own_listeners: Vec::new() };
    Dialer::new(resolve, Arc::new(|_| ()), rules, public_port, None)
}

fn to(way: Way) -> Permit {
    Permit {
        destination: Destination::of_connect("api.example.com:443").unwrap(),
        rule: Rule::Default,
        way,
        ours: true,
        may_stay_inside: false,
        learnable: false,
    }
}

fn endpoint(v4: &[Ipv4Addr], near_v4: usize, port: u16) -> Endpoint {
    let addresses = Addresses { v4: v4.to_vec(), near_v4, ..Addresses::default() };
    Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port }
}

fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

#[tokio::test]
async fn a_public_name_is_dialled_where_its_group_of_servers_says() {
    let listener = TcpListener::bind("127.0.0.21:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = Answers::from([(("api.example.com", Family::V4), Ok(vec![loopback(21).into()]))]);
    let dialled = dialer(answers, port).dial(to(Way::Upstream(Upstream::Public))).await.unwrap();
    assert_eq!(dialled.address, listener.local_addr().unwrap());
}

#[tokio::test]
async fn an_endpoint_is_dialled_at_its_own_port_and_the_next_address_takes_over() {
    let listener = TcpListener::bind("127.0.0.12:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialer = dialer(Answers::new(), 443);
    let way = || Way::Endpoint(Arc::new(endpoint(&[loopback(11), loopback(12)], 2, port)));
    for _ in 0..4 {
        assert_eq!(dialer.dial(to(way())).await.unwrap().address, listener.local_addr().unwrap());
    }
    let mut addresses = [SocketAddr::from((loopback(11), port)), SocketAddr::from((loopback(12), port))];
    dialer.dead.last(&mut addresses, Instant::now());
    assert_eq!(addresses[0].ip(), loopback(12), "the dead one is remembered");
}

#[tokio::test]
async fn every_attempt_at_an_endpoint_s_own_port_is_told_and_none_elsewhere() {
    let listener = TcpListener::bind("127.0.0.12:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(Mutex::new(Vec::new()));
    let on_attempt: OnAttempt = {
        let told = Arc::clone(&told);
        Arc::new(move |attempt| lock(&told).push((attempt.address, matches!(attempt.end, AttemptEnd::Connected))))
    };
    let answers = Answers::from([(("api.example.com", Family::V4), Ok(vec![loopback(12).into()]))]);
    let dialer = Dialer { on_attempt, ..dialer(answers, port) };
    let way = |port| Way::Endpoint(Arc::new(endpoint(&[loopback(11), loopback(12)], 2, port)));
    dialer.dial(to(way(port))).await.unwrap();
    let expected = [((loopback(11), port).into(), false), ((loopback(12), port).into(), true)];
    assert_eq!(std::mem::take(&mut *lock(&told)), expected);
    let destination = Destination::of_connect(&format!("api.example.com:{port}")).unwrap();
    dialer.dial(Permit { destination, ..to(way(443)) }).await.unwrap();
    dialer.dial(to(Way::Upstream(Upstream::Public))).await.unwrap();
    assert!(lock(&told).is_empty(), "another port of the endpoint, and what is no endpoint");
}

#[test]
fn near_addresses_come_first_and_equals_take_turns() {
    let dialer = dialer(Answers::new(), 443);
    let endpoint = endpoint(&[loopback(1), loopback(2), loopback(3), loopback(4)], 2, 443);
    let order = || dialer.of_endpoint(&endpoint, 443).into_iter().map(|a| a.ip().to_string()).collect::<Vec<_>>();
    assert_eq!(order(), ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    assert_eq!(order(), ["127.0.0.2", "127.0.0.1", "127.0.0.4", "127.0.0.3"]);
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let public = || to(Way::Upstream(Upstream::Public));
    let cause = |answer: Result<Vec<IpAddr>, ResolveError>| async move {
        let answers = Answers::from([
            (("api.example.com", Family::V4), answer.clone()),
            (("api.example.com", Family::V6), answer.map(|_| Vec::new())),
        ]);
        dialer(answers, closed.port()).dial(public()).await.unwrap_err().cause
    };
    assert_eq!(cause(Err(ResolveError::NoSuchName)).await, Cause::NoSuchName);
    assert_eq!(cause(Err(ResolveError::Failed("SERVFAIL".to_owned()))).await, Cause::DnsFailure);
    assert_eq!(cause(Ok(Vec::new())).await, Cause::NoAddress);
    assert_eq!(cause(Ok(vec![loopback(1).into()])).await, Cause::ConnectionRefused);
    assert_eq!(cause(Ok(vec![Ipv4Addr::new(169, 254, 169, 254).into()])).await, Cause::ProhibitedAddress);
}

/// What a name leads to may change between two look-ups; only what is dialled counts.
#[tokio::test]
async fn one_forbidden_address_does_not_keep_from_the_others_and_is_never_dialled() {
    let listener = TcpListener::bind("127.0.0.21:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rebound: Vec<IpAddr> = vec![Ipv4Addr::new(10, 0, 0, 1).into(), loopback(21).into()];
    let answers = Answers::from([(("api.example.com", Family::V4), Ok(rebound))]);
    let dialled = dialer(answers, port).dial(to(Way::Upstream(Upstream::Public))).await.unwrap();
    assert_eq!(dialled.address.ip(), loopback(21));
}

#[tokio::test(start_paused = true)]
async fn a_family_that_is_slow_to_resolve_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.21:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let resolve: Resolve = Arc::new(|_, family, _| {
        Box::pin(async move {
            match family {
                Family::V4 => Ok(vec![loopback(21).into()]),
                Family::V6 => std::future::pending().await,
            }
        })
    });
    let dialer = Dialer { resolve, ..dialer(Answers::new(), port) };
    assert!(dialer.dial(to(Way::Upstream(Upstream::Public))).await.is_ok());
}

/// An egress proxy that answers one CONNECT with `answer`, and tells what it was asked.
async fn egress_proxy(answer: &'static str) -> (EgressProxy, tokio::task::JoinHandle<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (proxy, asked)
}

#[tokio::test]
async fn the_public_route_hands_the_name_unresolved_to_the_egress_proxy() {
    let (proxy, asked) = egress_proxy("HTTP/1.1 200 OK\r\n\r\n").await;
    let nobody: Resolve = Arc::new(|_, _, _| panic!("nothing is to be resolved"));
    let dialer = Dialer { resolve: nobody, parent_proxy: Some(proxy), ..dialer(Answers::new(), 443) };
    dialer.dial(to(Way::Upstream(Upstream::Public))).await.unwrap();
    assert!(asked.await.unwrap().starts_with("CONNECT api.example.com:443 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_the_egress_proxy_refuses_is_told_in_its_words() {
    let (proxy, _) = egress_proxy("HTTP/1.1 403 Not On My List\r\n\r\n").await;
    let dialer = Dialer { parent_proxy: Some(proxy), ..dialer(Answers::new(), 443) };
    let refusal = dialer.dial(to(Way::Upstream(Upstream::Public))).await.unwrap_err();
    assert_eq!(refusal.cause, Cause::ParentProxy);
    assert!(refusal.words.contains("403 Not On My List"), "{refusal}");
}

/// A VPC without a way out learns private ids all the same.
#[tokio::test]
async fn a_name_that_may_be_private_is_looked_up_even_with_an_egress_proxy() {
    let answers = Answers::from([(("api.example.com", Family::V4), Err(ResolveError::NoSuchName))]);
    let proxy = "http://127.0.0.1:9".parse().unwrap();
    let dialer = Dialer { parent_proxy: Some(proxy), ..dialer(answers, 443) };
    let permit = Permit { learnable: true, ..to(Way::Upstream(Upstream::Public)) };
    assert_eq!(dialer.dial(permit).await.unwrap_err().cause, Cause::NoSuchName);
}

/// Most VPCs have no way out by IPv6: an IPv4 address that is known late is all there is.
#[tokio::test]
async fn a_family_that_is_resolved_late_is_dialled_when_the_other_leads_nowhere() {
    let listener = TcpListener::bind("127.0.0.21:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let resolve: Resolve = Arc::new(|_, family, _| {
        Box::pin(async move {
            match family {
                // Nobody listens there.
                Family::V6 => Ok(vec![std::net::Ipv6Addr::LOCALHOST.into()]),
                Family::V4 => {
                    tokio::time::sleep(RESOLUTION_DELAY * 3).await;
                    Ok(vec![loopback(21).into()])
                }
            }
        })
    });
    let mut dialer = Dialer { resolve, ..dialer(Answers::new(), port) };
    dialer.addresses.public_networks = Networks::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    let dialled = dialer.dial(to(Way::Upstream(Upstream::Public))).await.unwrap();
    assert_eq!(dialled.address.ip(), loopback(21));
}

#[tokio::test]
async fn an_egress_proxy_that_turns_out_to_be_ourselves_is_not_dialled() {
    let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = own.local_addr().unwrap().port();
    let answers = Answers::from([(("proxy.corp.example", Family::V4), Ok(vec![loopback(1).into()]))]);
    let mut dialer = dialer(answers, 443);
    dialer.parent_proxy = Some(format!("http://proxy.corp.example:{port}").parse().unwrap());
    dialer.addresses.own_listeners = vec![own.local_addr().unwrap()];
    assert_eq!(dialer.dial(to(Way::Upstream(Upstream::Public))).await.unwrap_err().cause, Cause::Loop);
}
