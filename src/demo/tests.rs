//! The demo's promises, on loopback: what each server answers, and what `run` makes of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{ClientError, Outcome, Reply, ask, exchange, resolve};
use super::dns_server::DnsServer;
use super::*;

const ENDPOINT: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 11), Ipv4Addr::new(127, 0, 0, 12)];
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn question(resolver: SocketAddr, name: &str, kind: RecordType) -> Message {
    ask(resolver, &Name::from_ascii(format!("{name}.")).unwrap(), kind).await.unwrap()
}

/// Sends a request to a gate as it stands, and gives the reply as it came.
async fn raw(world: &World, address: IpAddr, sni: &'static str, head: &str) -> String {
    let stream = TcpStream::connect((address, world.https_port())).await.unwrap();
    let tls = TlsConnector::from(world.client_tls().unwrap());
    let mut stream = tls.connect(ServerName::try_from(sni).unwrap(), stream).await.unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\n{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn the_vpc_resolver_captures_every_name_of_the_zone() {
    let world = World::start().await.unwrap();
    let names = world.names();
    for name in
        [names.private_api, names.public_api, names.custom_domain, "never-heard-of.execute-api.us-east-1.amazonaws.com"]
    {
        assert_eq!(resolve(world.vpc_resolver(), name).await.unwrap(), world.endpoint_addresses(), "{name}");
    }
}

#[tokio::test]
async fn the_vpc_resolver_has_no_ipv6_address_for_the_endpoint_and_says_so_with_an_soa() {
    let world = World::start().await.unwrap();
    let answer = question(world.vpc_resolver(), world.names().public_api, RecordType::AAAA).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.iter().all(|record| record.record_type() == RecordType::CNAME));
    assert_eq!(answer.authorities.iter().map(|record| record.record_type()).collect::<Vec<_>>(), [RecordType::SOA]);
}

#[tokio::test]
async fn the_vpc_resolver_hands_back_a_custom_domains_whole_chain_in_one_answer() {
    let world = World::start().await.unwrap();
    let answer = question(world.vpc_resolver(), world.names().custom_domain, RecordType::A).await;
    let records: Vec<String> = answer.answers.iter().map(ToString::to_string).collect();
    assert_eq!(
        records,
        [
            "api.example.com. 300 IN CNAME d-abcdef1234.execute-api.us-east-1.amazonaws.com.",
            "d-abcdef1234.execute-api.us-east-1.amazonaws.com. 60 IN CNAME execute-api.us-east-1.amazonaws.com.",
            "execute-api.us-east-1.amazonaws.com. 60 IN A 127.0.0.11",
            "execute-api.us-east-1.amazonaws.com. 60 IN A 127.0.0.12",
        ]
    );
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
}

#[tokio::test]
async fn only_the_vpc_resolver_knows_the_private_hosted_zone() {
    let world = World::start().await.unwrap();
    let name = world.names().internal;
    assert_eq!(resolve(world.vpc_resolver(), name).await.unwrap(), [IpAddr::from([10, 0, 0, 5])]);
    assert!(matches!(resolve(world.public_resolver(), name).await, Err(ClientError::NoSuchName)));
}

#[tokio::test]
async fn public_dns_knows_the_public_names_and_not_the_private_one() {
    let world = World::start().await.unwrap();
    let names = world.names();
    for name in [names.public_api, names.custom_domain, names.custom_domain_target] {
        assert_eq!(resolve(world.public_resolver(), name).await.unwrap(), world.gateway_addresses(), "{name}");
    }
    let answer = question(world.public_resolver(), names.private_api, RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(answer.authorities.iter().map(|record| record.record_type()).collect::<Vec<_>>(), [RecordType::SOA]);
}

#[tokio::test]
async fn an_answer_too_long_for_udp_is_fetched_over_tcp() {
    let many: Vec<Ipv4Addr> = (0..100).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
    let mut zones = zones::Zones::default();
    zones.add_zone("example.com").unwrap();
    zones.add_a("many.example.com", 60, &many).unwrap();
    let server = DnsServer::start(LOOPBACK, zones).await.unwrap();
    assert_eq!(resolve(server.address(), "many.example.com").await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_resolver_answers_edns_with_edns_and_plain_questions_without() {
    let world = World::start().await.unwrap();
    let name = Name::from_ascii("api.example.com.").unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(name.clone(), RecordType::A));
    query.set_edns(Edns::new());
    let answer = exchange(world.vpc_resolver(), &query).await.unwrap();
    assert_eq!((answer.answers.len(), answer.edns.is_some()), (4, true));
    assert!(ask(world.vpc_resolver(), &name, RecordType::A).await.unwrap().edns.is_none());
    query.set_edns(Edns::new().set_version(1).clone());
    let answer = exchange(world.vpc_resolver(), &query).await.unwrap();
    // 16 is BADVERS here; it is BADSIG elsewhere, which is how the library reads it.
    assert_eq!((u16::from(answer.metadata.response_code), answer.answers.len()), (16, 0));
}

#[tokio::test]
async fn a_resolver_takes_one_question_at_a_time_and_nothing_but_questions() {
    let world = World::start().await.unwrap();
    let query = Query::query(Name::from_ascii("api.example.com.").unwrap(), RecordType::A);
    let mut two = Message::query();
    two.add_query(query.clone()).add_query(query.clone());
    let answer = exchange(world.public_resolver(), &two).await.unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    let mut notify = Message::query();
    notify.metadata.op_code = OpCode::Notify;
    notify.add_query(query);
    let answer = exchange(world.public_resolver(), &notify).await.unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
}

#[tokio::test]
async fn a_world_that_is_dropped_closes_its_ports() {
    let world = World::start().await.unwrap();
    let addresses = [world.vpc_resolver(), world.public_resolver(), (ENDPOINT[0], world.https_port()).into()];
    drop(world);
    tokio::task::yield_now().await;
    for address in addresses {
        assert!(TcpStream::connect(address).await.is_err(), "{address}");
    }
}

#[tokio::test]
async fn a_resolver_that_is_dropped_frees_its_port() {
    let server = DnsServer::start(LOOPBACK, zones::Zones::default()).await.unwrap();
    let address = server.address();
    drop(server);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::net::UdpSocket::bind(address).await.unwrap();
}

#[tokio::test]
async fn a_gate_refuses_foreign_hosts_with_api_gateways_own_bytes() {
    let world = World::start().await.unwrap();
    let name = world.names().public_api;
    let reply = raw(&world, ENDPOINT[0].into(), name, &format!("Host: {name}\r\n")).await;
    let shape: Vec<&str> = reply
        .split("\r\n")
        .map(|line| match line.split_once(": ") {
            Some((name @ ("x-amzn-RequestId" | "x-amz-apigw-id" | "Date"), _)) => name,
            _ => line,
        })
        .collect();
    assert_eq!(
        shape,
        [
            "HTTP/1.1 403 Forbidden",
            "Server: Server",
            "Content-Type: application/json",
            "Content-Length: 23",
            "x-amzn-RequestId",
            "x-amzn-ErrorType: ForbiddenException",
            "x-amz-apigw-id",
            // What hyper adds by itself, to this reply and to the answer to `Connection: close`.
            "Connection: close",
            "Date",
            "",
            r#"{"message":"Forbidden"}"#,
        ]
    );
}

#[tokio::test]
async fn each_gate_serves_its_own_apis_alone() {
    let world = World::start().await.unwrap();
    let (names, client) = (world.names(), world.client());
    let gateway = world.gateway_addresses()[0];
    for (address, name, status) in [
        (ENDPOINT[0].into(), names.private_api, SERVED),
        (ENDPOINT[1].into(), names.private_api, SERVED),
        (ENDPOINT[1].into(), names.public_api, REFUSED),
        (gateway, names.private_api, REFUSED),
        (gateway, names.public_api, SERVED),
        (gateway, names.custom_domain, SERVED),
    ] {
        assert_eq!(client.get(address, name).await.unwrap().status, status, "{name} at {address}");
    }
}

#[tokio::test]
async fn a_served_host_is_known_in_any_case_with_a_port_and_by_its_id() {
    let world = World::start().await.unwrap();
    let name = world.names().private_api;
    for head in [
        format!("Host: {}:8443\r\n", name.to_ascii_uppercase()),
        format!(
            "Host: vpce-0123.execute-api.us-east-1.vpce.amazonaws.com\r\nx-apigw-api-id: {}\r\n",
            world.names().private_id
        ),
    ] {
        let reply = raw(&world, ENDPOINT[0].into(), name, &head).await;
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\nServer: Server\r\n"), "{reply}");
        assert!(reply.ends_with(&format!(r#"{{"message":"Hello from {name}","path":"/","through":"the endpoint"}}"#)));
        assert!(!reply.contains("ErrorType"), "{reply}");
    }
}

#[tokio::test]
async fn a_client_trusts_its_own_world_and_the_names_it_certifies_alone() {
    let (world, other) = (World::start().await.unwrap(), World::start().await.unwrap());
    let foreign_name = world.client().get(ENDPOINT[0].into(), "www.example.org").await;
    assert!(matches!(foreign_name, Err(ClientError::NoTls(_))), "{foreign_name:?}");
    let stranger = client::Client::new(other.client_tls().unwrap(), world.https_port());
    let foreign_world = stranger.get(ENDPOINT[0].into(), world.names().private_api).await;
    assert!(matches!(foreign_world, Err(ClientError::NoTls(_))), "{foreign_world:?}");
}

#[tokio::test]
async fn a_resolver_that_sends_each_name_home_makes_every_row_true() {
    let world = World::start().await.unwrap();
    let mut zones = public_zones().unwrap();
    zones.add_a(world.names().private_api, 60, &ENDPOINT).unwrap();
    let stand_in = DnsServer::start(LOOPBACK, zones).await.unwrap();
    let mut out = Vec::new();
    let good = run(&world, &[Way::Dns(stand_in.address())], &mut out, false).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(good, "{text}");
    insta::assert_snapshot!(text, @"
    This VPC has an API Gateway endpoint with private DNS on. Its resolver sends every API's name to
    that endpoint, which serves private APIs only: a call to a public API is answered 403 Forbidden.

    Private API                a1b2c3d4e5.execute-api.us-east-1.amazonaws.com
    Public API                 f6g7h8i9j0.execute-api.us-east-1.amazonaws.com
    Public custom domain       api.example.com

                       Private API                Public API                 Public custom domain
    ----------------------------------------------------------------------------------------------------
    VPC resolver alone endpoint -> 200 OK         endpoint -> 403 Forbidden  endpoint -> 403 Forbidden
                       127.0.0.11, 127.0.0.12     127.0.0.11, 127.0.0.12     127.0.0.11, 127.0.0.12
    Sidegate's DNS     endpoint -> 200 OK         internet -> 200 OK         internet -> 200 OK
                       127.0.0.11, 127.0.0.12     127.0.0.21                 127.0.0.21

    With Sidegate the private API stays on the endpoint and all others go to the internet:
    every call works.
    ");
}

#[tokio::test]
async fn public_dns_alone_is_no_cure_because_the_private_row_fails() {
    let world = World::start().await.unwrap();
    let mut out = Vec::new();
    assert!(!run(&world, &[Way::Dns(world.public_resolver())], &mut out, false).await.unwrap());
    assert!(String::from_utf8(out).unwrap().contains("no such name"));
}

#[tokio::test]
async fn the_vpc_resolver_alone_is_no_cure_because_the_public_rows_fail() {
    let world = World::start().await.unwrap();
    assert!(!run(&world, &[Way::Dns(world.vpc_resolver())], &mut Vec::new(), false).await.unwrap());
}

#[tokio::test]
async fn a_sidegate_that_is_not_there_fails_every_call_of_its_row() {
    let world = World::start().await.unwrap();
    let nobody = tokio::net::UdpSocket::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap();
    let mut out = Vec::new();
    assert!(!run(&world, &[Way::Dns(nobody)], &mut out, false).await.unwrap());
    assert_eq!(String::from_utf8(out).unwrap().matches("no DNS answer").count(), 3);
}

#[tokio::test]
async fn a_forwarder_that_is_not_there_fails_every_call_of_its_row() {
    let world = World::start().await.unwrap();
    let nobody = tokio::net::TcpListener::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap();
    for way in [Way::Connect(nobody), Way::Sni(nobody), Way::Http(nobody)] {
        let mut out = Vec::new();
        assert!(!run(&world, &[way], &mut out, false).await.unwrap());
        assert_eq!(String::from_utf8(out).unwrap().matches("no connection").count(), 3, "{way:?}");
    }
}

#[tokio::test]
async fn an_entrance_that_leads_all_names_to_one_gate_is_seen_through() {
    let world = World::start().await.unwrap();
    let gateway = SocketAddr::new(world.gateway_addresses()[0], world.https_port());
    let mut out = Vec::new();
    assert!(!run(&world, &[Way::Sni(gateway)], &mut out, false).await.unwrap());
    let text = String::from_utf8(out).unwrap();
    // A 403 does not say who wrote it, and that is what is shown.
    assert!(
        text.contains(
            "\nSNI                403 Forbidden              internet -> 200 OK         internet -> 200 OK\n"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn a_client_takes_a_proxys_refusal_for_what_it_is_and_sends_nothing_more() {
    let world = World::start().await.unwrap();
    let proxy = tokio::net::TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = proxy.local_addr().unwrap();
    let refuse = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut head = vec![0; 128];
        let length = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (String::from_utf8(head[..length].to_vec()).unwrap(), rest)
    });
    let outcome = world.client().call(Way::Connect(address), "api.example.com").await;
    assert!(matches!(outcome.reply, Err(ClientError::TunnelRefused(REFUSED))), "{outcome:?}");
    let head = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n";
    assert_eq!(refuse.await.unwrap(), (head.to_owned(), Vec::new()));
}

#[tokio::test]
async fn a_proxys_answer_that_does_not_end_is_given_up() {
    let world = World::start().await.unwrap();
    let proxy = tokio::net::TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = proxy.local_addr().unwrap();
    let talk = async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        while stream.write_all(b"HTTP/1.1 200 OK\r\nX: x\r\n").await.is_ok() {}
    };
    let client = world.client();
    let (outcome, ()) = tokio::join!(client.call(Way::Connect(address), "api.example.com"), talk);
    assert!(matches!(outcome.reply, Err(ClientError::NoTunnel(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_plain_call_names_the_api_in_its_host_and_nowhere_else() {
    let world = World::start().await.unwrap();
    let entrance = tokio::net::TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = entrance.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = entrance.accept().await.unwrap();
        let mut head = vec![0; 128];
        let length = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{\"through\":\"the endpoint\"}").await.unwrap();
        String::from_utf8(head[..length].to_vec()).unwrap()
    };
    let client = world.client();
    let (outcome, head) = tokio::join!(client.call(Way::Http(address), "api.example.com"), serve);
    assert_eq!(head, "GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n");
    assert_eq!(world.place_of(&outcome), Some(Place::Endpoint));
    assert_eq!(outcome.reply.unwrap().status, SERVED);
}

#[tokio::test]
async fn the_place_is_told_by_all_of_the_addresses_or_else_by_the_gate() {
    let world = World::start().await.unwrap();
    let gateway = world.gateway_addresses()[0];
    let place = |addresses: &[IpAddr], through: Option<&str>| {
        let reply = Ok(Reply { status: SERVED, through: through.map(str::to_owned) });
        world.place_of(&Outcome { addresses: addresses.to_vec(), reply })
    };
    assert_eq!(place(&[ENDPOINT[0].into()], None), Some(Place::Endpoint));
    assert_eq!(place(&[gateway], Some("the endpoint")), Some(Place::Internet));
    assert_eq!(place(&[ENDPOINT[0].into(), gateway], None), Some(Place::Elsewhere));
    assert_eq!(place(&[], Some("the endpoint")), Some(Place::Endpoint));
    assert_eq!(place(&[], Some("the internet")), Some(Place::Internet));
    assert_eq!(place(&[], Some("another gate")), Some(Place::Elsewhere));
    assert_eq!(place(&[], None), None);
}
