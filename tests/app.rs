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

/// Nothing around: no metadata service, no resolv.conf.
fn nowhere() -> Surroundings {
    let imds = SocketAddr::from(([127, 0, 0, 1], 1));
    Surroundings { metadata: Metadata { ecs: None, imds }, resolv_conf: PathBuf::from("/nonexistent") }
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
