//! The whole, in one process, in a VPC in a box: what it answers, how it changes, how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use sidegate::app::{App, Surroundings};
use sidegate::config::{Config, Inputs};
use sidegate::demo::World;
use sidegate::demo::client;
use sidegate::demo::dns_server::DnsServer;
use sidegate::demo::zones::Zones;
use sidegate::discovery::Metadata;
use sidegate::forward::Entrance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing around: no metadata service, no resolv.conf.
fn nowhere() -> Surroundings {
    let imds = SocketAddr::from(([127, 0, 0, 1], 1));
    Surroundings {
        metadata: Metadata { ecs: None, imds },
        resolv_conf: PathBuf::from("/nonexistent"),
        name_server_port: 53,
    }
}

fn config(public: SocketAddr, vpc: SocketAddr, rest: &str) -> Config {
    let toml = format!(
        "{rest}\n[upstream]\npublic = [\"{public}\"]\nvpc = [\"{vpc}\"]\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n[forward.connect]\nlisten = []\n"
    );
    Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap()
}

const REGION: &str = "[policy]\nregion = \"us-east-1\"\n[admin]\nlisten = \"\"";

async fn start(config: Config) -> App {
    let app = App::start(config, nowhere()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), app.is_ready()).await.unwrap();
    app
}

async fn ask(app: &App, name: &str, record_type: RecordType) -> Message {
    client::ask(app.dns_addresses()[0], &Name::from_str(name).unwrap(), record_type).await.unwrap()
}

async fn addresses(app: &App, name: &str) -> Vec<IpAddr> {
    let mut addresses = client::resolve(app.dns_addresses()[0], name).await.unwrap_or_default();
    addresses.sort();
    addresses
}

#[tokio::test]
async fn without_any_list_private_ids_are_learned_and_public_ones_stay_public() {
    let world = World::start().await.unwrap();
    let app = start(config(world.public_resolver(), world.vpc_resolver(), REGION)).await;
    let names = world.names();
    let aaaa = ask(&app, names.private_api, RecordType::AAAA).await;
    assert_eq!(aaaa.metadata.response_code, ResponseCode::NoError, "AAAA first: NXDOMAIN would kill the A");
    assert!(aaaa.answers.is_empty());
    assert_eq!(addresses(&app, names.private_api).await, world.endpoint_addresses());
    assert_eq!(addresses(&app, names.public_api).await, world.gateway_addresses());
    assert_eq!(addresses(&app, names.custom_domain).await, world.gateway_addresses());
    let learned = app.table().borrow().learned.len();
    assert_eq!(learned, 1, "the private id and nothing else");
}

#[tokio::test]
async fn a_reload_changes_what_is_private_and_drops_chains_that_led_there() {
    let world = World::start().await.unwrap();
    let (public, vpc) = (world.public_resolver(), world.vpc_resolver());
    let listed =
        |ids: &str| format!("[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [{ids}]\n[admin]\nlisten = \"\"");
    let mut app = start(config(public, vpc, &listed("\"a1b2c3d4e5\""))).await;
    let names = world.names();
    assert_eq!(addresses(&app, names.public_api).await, world.gateway_addresses());
    let listeners = app.dns_addresses();
    app.reload(config(public, vpc, &listed("\"a1b2c3d4e5\", \"f6g7h8i9j0\""))).await.unwrap();
    assert_eq!(addresses(&app, names.public_api).await, world.endpoint_addresses());
    app.reload(config(public, vpc, &listed("\"a1b2c3d4e5\""))).await.unwrap();
    assert_eq!(addresses(&app, names.public_api).await, world.gateway_addresses());
    assert_eq!(app.dns_addresses(), listeners, "an unchanged listener keeps its socket");
}

/// Its long lists would be kept once for each reload.
#[tokio::test]
async fn a_tunnel_keeps_nothing_of_the_configuration_that_it_was_opened_under() {
    let world = World::start().await.unwrap();
    let (public, vpc) = (world.public_resolver(), world.vpc_resolver());
    let api = tokio::net::TcpListener::bind("127.0.0.11:0").await.unwrap();
    let port = api.local_addr().unwrap().port();
    let target = world.names().private_api;
    let id = target.split('.').next().unwrap();
    let toml = format!(
        "[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [\"{id}\"]\n\
         [[endpoint]]\naddresses = [\"127.0.0.11\"]\nhealth = \"off\"\nport = {port}\n\
         [upstream]\npublic = [\"{public}\"]\nvpc = [\"{vpc}\"]\n[dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n\
         [forward.connect]\nlisten = [\"127.0.0.1:0\"]\n[forward.sni]\nlisten = [\"127.0.0.1:0\"]\n\
         [admin]\nlisten = \"\"\n"
    );
    let config = || {
        let inputs = Inputs { file: Some(("test".to_owned(), toml.clone())), environment: Vec::new() };
        Config::load(&inputs).unwrap()
    };
    let hello = client_hello(target);
    for entrance in [Entrance::Connect, Entrance::Sni] {
        // A ClientHello that has not come yet is waited for as well.
        for says_hello in [true, false] {
            let mut app = start(config()).await;
            let before = std::sync::Arc::downgrade(&app.table().borrow());
            let address = app.forward_addresses().into_iter().find(|(at, _)| *at == entrance).unwrap().1;
            let mut client = TcpStream::connect(address).await.unwrap();
            if entrance == Entrance::Connect {
                let head = format!("CONNECT {target}:443 HTTP/1.1\r\nHost: {target}:443\r\n\r\n");
                client.write_all(head.as_bytes()).await.unwrap();
                client.read_exact(&mut [0; CONNECTED.len()]).await.unwrap();
            }
            if says_hello {
                client.write_all(&hello).await.unwrap();
            }
            let mut far = None;
            if says_hello || entrance == Entrance::Connect {
                let (mut stream, _) = api.accept().await.unwrap();
                if says_hello {
                    stream.read_exact(&mut vec![0; hello.len()]).await.unwrap();
                }
                far = Some(stream);
            }
            app.reload(config()).await.unwrap();
            let gone = async {
                while before.strong_count() > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            // Within the 5 s that a ClientHello may take.
            let gone = tokio::time::timeout(Duration::from_secs(3), gone).await;
            assert!(gone.is_ok(), "{entrance:?}, hello: {says_hello}: something holds it");
            drop(far);
        }
    }
}

const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What a client of TLS begins with.
fn client_hello(name: &str) -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_reload_that_cannot_be_done_leaves_everything_as_it_was() {
    let world = World::start().await.unwrap();
    let mut app = start(config(world.public_resolver(), world.vpc_resolver(), REGION)).await;
    let own = app.dns_addresses()[0];
    let error = app.reload(config(own, world.vpc_resolver(), REGION)).await.unwrap_err();
    assert!(error.to_string().contains("is this resolver itself"), "{error}");
    assert_eq!(addresses(&app, world.names().public_api).await, world.gateway_addresses());
}

#[tokio::test]
async fn while_the_vpc_resolver_is_silent_private_names_fail_with_the_reason_and_public_ones_work() {
    let world = World::start().await.unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listed = REGION.replace("region", "private_api_ids = [\"a1b2c3d4e5\"]\nregion");
    let app = start(config(world.public_resolver(), silent.local_addr().unwrap(), &listed)).await;
    let reply = ask(&app, world.names().private_api, RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(addresses(&app, world.names().public_api).await, world.gateway_addresses());
}

#[tokio::test]
async fn an_apex_with_public_addresses_is_no_endpoint() {
    let world = World::start().await.unwrap();
    let mut zones = Zones::default();
    zones.add_captured_zone(world.names().zone, 60, &[Ipv4Addr::new(52, 94, 0, 1)]).unwrap();
    let vpc = DnsServer::start(Ipv4Addr::LOCALHOST.into(), zones).await.unwrap();
    let listed = REGION.replace("region", "private_api_ids = [\"a1b2c3d4e5\"]\nregion");
    let app = start(config(world.public_resolver(), vpc.address(), &listed)).await;
    let reply = ask(&app, world.names().private_api, RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let problem = app.table().borrow().endpoints()[0].addresses.problem.clone().unwrap();
    assert!(problem.contains("private DNS is off"), "{problem}");
}

#[tokio::test]
async fn while_a_required_list_is_missing_unknown_ids_are_not_ready_and_the_rest_works() {
    let world = World::start().await.unwrap();
    let source = format!("{REGION}\n[[discovery]]\nkind = \"file\"\npath = \"/nonexistent/ids\"\n");
    let source = source.replace("listen = \"\"", "listen = \"127.0.0.1:0\"");
    let app = App::start(config(world.public_resolver(), world.vpc_resolver(), &source), nowhere()).await.unwrap();
    let pending = sidegate::admin::client::ask(app.admin_address().unwrap(), "/ready").await.unwrap_err();
    assert!(pending.contains("list of file /nonexistent/ids"), "{pending}");
    let reply = ask(&app, world.names().public_api, RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(addresses(&app, world.names().custom_domain).await, world.gateway_addresses());
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_address_and_key_before_anything_is_served() {
    let world = World::start().await.unwrap();
    let first = start(config(world.public_resolver(), world.vpc_resolver(), REGION)).await;
    let taken = first.dns_addresses()[0];
    let mut second = config(world.public_resolver(), world.vpc_resolver(), REGION);
    for workers in [1, 2] {
        second.dns.listen = vec![taken];
        second.dns.workers = workers.try_into().unwrap();
        let error = App::start(second.clone(), nowhere()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("dns.listen: cannot bind {taken}")), "{error}");
    }
}

#[tokio::test]
async fn without_a_region_the_error_says_how_to_set_one() {
    let world = World::start().await.unwrap();
    let config = config(world.public_resolver(), world.vpc_resolver(), "[admin]\nlisten = \"\"");
    let error = App::start(config, nowhere()).await.unwrap_err().to_string();
    assert!(error.starts_with("no region: set policy.region or AWS_REGION"), "{error}");
}

#[tokio::test]
async fn drain_says_not_ready_at_once_and_serves_on_while_it_lingers() {
    let world = World::start().await.unwrap();
    let rest = "linger = \"300ms\"\n[policy]\nregion = \"us-east-1\"\n[admin]\nlisten = \"127.0.0.1:0\"";
    let app = start(config(world.public_resolver(), world.vpc_resolver(), rest)).await;
    let (dns, admin) = (app.dns_addresses()[0], app.admin_address().unwrap());
    for path in ["/startup", "/ready", "/live"] {
        sidegate::admin::client::ask(admin, path).await.unwrap();
    }
    let drained = tokio::spawn(app.drain());
    let reason = loop {
        match sidegate::admin::client::ask(admin, "/ready").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(reason) => break reason,
        }
    };
    assert_eq!(reason, "/ready: draining");
    let served = client::resolve(dns, world.names().public_api).await.unwrap();
    assert_eq!(served, world.gateway_addresses());
    drained.await.unwrap();
    assert!(std::net::UdpSocket::bind(dns).is_ok(), "the listener is closed");
}

/// What the page is made of.
#[tokio::test]
async fn the_status_tells_of_both_planes_and_hostile_names_are_escaped_among_the_decisions() {
    let world = World::start().await.unwrap();
    let rest =
        "[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [\"a1b2c3d4e5\"]\n[admin]\nlisten = \"127.0.0.1:0\"";
    let mut config = config(world.public_resolver(), world.vpc_resolver(), rest);
    config.forward.connect_listen = vec!["127.0.0.1:0".parse().unwrap()];
    let app = start(config).await;
    let admin = app.admin_address().unwrap();
    let told = async |path| -> serde_json::Value {
        serde_json::from_str(&sidegate::admin::client::ask(admin, path).await.unwrap()).unwrap()
    };
    assert_eq!(told("/decisions").await["decisions"], serde_json::json!([]));
    addresses(&app, world.names().private_api).await;
    addresses(&app, world.names().public_api).await;
    let hostile = Name::from_labels([&b"\"><script>x\n"[..], b"example", b"com"]).unwrap();
    client::ask(app.dns_addresses()[0], &hostile, RecordType::A).await.unwrap();
    let mut stream = TcpStream::connect(app.forward_addresses()[0].1).await.unwrap();
    stream.write_all(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n").await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    drop(stream);

    // It ends once the forwarder has seen its client go.
    let text = async {
        loop {
            let text = sidegate::admin::client::ask(admin, "/decisions").await.unwrap();
            if text.contains("address_literal") {
                break text;
            }
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(10), text).await.unwrap();
    assert!(text.contains(r#""\"><script>x\\010.example.com""#), "{text}");
    let decisions = told("/decisions").await;
    let decisions = decisions["decisions"].as_array().unwrap();
    let of = |by: &str, name: serde_json::Value| {
        let mut all = decisions.iter().filter(|one| one["by"] == by && one["name"] == name);
        all.next().unwrap_or_else(|| panic!("{by} {name} is not there: {text}"))
    };
    let private = of("dns", world.names().private_api.into());
    assert_eq!(
        (&private["route"], &private["rule"], &private["found"]),
        (&"endpoint".into(), &2.into(), &"here".into())
    );
    let public = of("dns", world.names().public_api.into());
    assert_eq!(
        (&public["route"], &public["rule"], &public["result"]),
        (&"public".into(), &5.into(), &"NOERROR".into())
    );
    assert_eq!(of("connect", serde_json::Value::Null)["result"], "address_literal");

    let status = told("/status").await;
    assert_eq!(status["readiness"], serde_json::json!({ "state": "ready", "pending": [] }));
    assert_eq!(status["zones"][0]["zone"], "execute-api.us-east-1.amazonaws.com");
    let server = &status["upstreams"][0];
    assert_eq!((&server["group"], server["failures"].as_u64()), (&"public".into(), Some(0)));
    assert!(server["latency_ms"].as_f64().is_some_and(|latency| latency > 0.0), "{server}");
    let counted = |route: &str| status["dns"]["queries"].as_array().unwrap().iter().any(|one| one["route"] == route);
    assert!(counted("endpoint") && counted("public") && !counted("vpc"), "{status}");
    let ended =
        serde_json::json!({ "entrance": "connect", "reason": "address_literal", "count": 1, "up": 0, "down": 0 });
    assert_eq!(status["forwarder"]["ended"], serde_json::json!([ended]));
    assert_eq!(status["forwarder"]["open"][0]["entrance"], "connect");
    for bound in [
        "ignored",
        "shed",
        "greedy",
        "looped",
        "evicted",
        "accept_errors",
        "handshakes_failed",
        "taken_back",
        "foreign",
    ] {
        assert_eq!(status["dns"][bound], 0, "{bound}");
    }
}

#[tokio::test]
async fn a_reload_before_the_first_look_up_is_not_taken_for_one() {
    let world = World::start().await.unwrap();
    let silent_socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent_socket.local_addr().unwrap();
    let rest = REGION.replace("listen = \"\"", "listen = \"127.0.0.1:0\"");
    let mut app = App::start(config(world.public_resolver(), silent, &rest), nowhere()).await.unwrap();
    app.reload(config(world.public_resolver(), silent, &rest)).await.unwrap();
    let pending = sidegate::admin::client::ask(app.admin_address().unwrap(), "/ready").await.unwrap_err();
    assert_eq!(pending, "/ready: pending: endpoint addresses");
    tokio::time::timeout(Duration::from_secs(10), app.is_ready()).await.unwrap();
}
