//! The whole, in one process, beside an endpoint one of whose addresses lets nobody in: what DNS answers, where CONNECT
//! leads, and what a reload keeps.
//!
//! The clock is the runtime's: it is put forward to the next probe, and runs as clocks do in between.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use sidegate::app::{App, Surroundings};
use sidegate::config::{Config, Inputs};
use sidegate::demo::World;
use sidegate::demo::client;
use sidegate::demo::dns_server::DnsServer;
use sidegate::demo::sockets::tcp_on_one_port;
use sidegate::demo::zones::Zones;
use sidegate::discovery::{Metadata, Standing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 12));
const DEAD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// A VPC, and a listener where its endpoint is; at the same port of `DEAD` is none.
struct Lab {
    world: World,
    port: u16,
    _good: TcpListener,
}

impl Lab {
    async fn new() -> Self {
        let mut both = tcp_on_one_port(&[GOOD, DEAD], 0).await.unwrap();
        both.truncate(1);
        let good = both.remove(0);
        Self { world: World::start().await.unwrap(), port: good.local_addr().unwrap().port(), _good: good }
    }

    fn config(&self, vpc: SocketAddr, endpoint: &str) -> Config {
        let (public, port) = (self.world.public_resolver(), self.port);
        let toml = format!(
            "[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [\"a1b2c3d4e5\"]\n[admin]\nlisten = \"\"\n\
             [[endpoint]]\nport = {port}\n{endpoint}\n[upstream]\npublic = [\"{public}\"]\nvpc = [\"{vpc}\"]\n\
             [dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n[forward]\npublic_networks = [\"127.0.0.0/8\"]\n[forward.connect]\nlisten = [\"127.0.0.1:0\"]\n"
        );
        Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap()
    }

    fn with_addresses(&self, addresses: &[IpAddr]) -> Config {
        self.config(
            self.world.vpc_resolver(),
            &format!("addresses = {:?}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>()),
        )
    }

    /// What a client of DNS gets for the private API.
    async fn answered(&self, app: &App) -> Vec<IpAddr> {
        let mut addresses = client::resolve(app.dns_addresses()[0], self.world.names().private_api).await.unwrap();
        addresses.sort();
        addresses
    }

    /// Asks for a tunnel to the private API, and gets one.
    async fn connect(&self, app: &App) {
        let mut stream = TcpStream::connect(app.forward_addresses()[0].1).await.unwrap();
        let target = self.world.names().private_api;
        let request = format!("CONNECT {target}:443 HTTP/1.1\r\nHost: {target}:443\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 13];
        tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 ");
    }
}

async fn start(config: Config) -> App {
    let imds = SocketAddr::from(([127, 0, 0, 1], 1));
    let nowhere = Surroundings {
        metadata: Metadata { ecs: None, imds },
        resolv_conf: PathBuf::from("/nonexistent"),
        name_server_port: 53,
    };
    let app = App::start(config, nowhere).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), app.is_ready()).await.unwrap();
    app
}

async fn put_forward(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

/// Puts the clock forward from probe to probe until the table has these addresses, for a minute at most.
async fn probe_until(app: &App, wanted: &[IpAddr]) {
    let mut table = app.table();
    for _ in 0..12 {
        put_forward(Duration::from_secs(5)).await;
        let has = |table: &std::sync::Arc<sidegate::policy::Table>| {
            table.endpoints()[0].addresses.v4.iter().copied().map(IpAddr::V4).eq(wanted.iter().copied())
        };
        if let Ok(changed) = tokio::time::timeout(Duration::from_millis(200), table.wait_for(has)).await {
            changed.unwrap();
            return;
        }
    }
    panic!("never {wanted:?}");
}

#[tokio::test]
async fn a_dead_address_is_not_answered_until_it_is_back_and_connect_works_all_the_time() {
    let lab = Lab::new().await;
    let app = start(lab.with_addresses(&[DEAD, GOOD])).await;
    assert_eq!(lab.answered(&app).await, [DEAD, GOOD], "nobody has tried yet");
    lab.connect(&app).await;
    probe_until(&app, &[GOOD]).await;
    assert_eq!(lab.answered(&app).await, [GOOD]);
    lab.connect(&app).await;
    let _back = TcpListener::bind((DEAD, lab.port)).await.unwrap();
    probe_until(&app, &[DEAD, GOOD]).await;
    assert_eq!(lab.answered(&app).await, [DEAD, GOOD]);
    lab.connect(&app).await;
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_of_addresses_that_stay() {
    let lab = Lab::new().await;
    let mut app = start(lab.with_addresses(&[DEAD, GOOD])).await;
    probe_until(&app, &[GOOD]).await;
    let more = IpAddr::from([127, 0, 0, 13]);
    app.reload(lab.with_addresses(&[DEAD, GOOD, more])).await.unwrap();
    assert_eq!(lab.answered(&app).await, [GOOD, more]);
    let _back = TcpListener::bind((DEAD, lab.port)).await.unwrap();
    let _more = TcpListener::bind((more, lab.port)).await.unwrap();
    probe_until(&app, &[DEAD, GOOD, more]).await;
}

/// The dialer is the only one who tries addresses that AWS names; it tells, also after a reload.
#[tokio::test]
async fn an_address_from_dns_that_lets_no_client_in_rests_and_comes_back() {
    let lab = Lab::new().await;
    let mut zones = Zones::default();
    let [good, dead] = [GOOD, DEAD].map(|ip| ip.to_string().parse().unwrap());
    zones.add_captured_zone(lab.world.names().zone, 60, &[dead, good]).unwrap();
    let vpc = DnsServer::start(Ipv4Addr::LOCALHOST.into(), zones).await.unwrap();
    let mut app = start(lab.config(vpc.address(), "")).await;
    app.reload(lab.config(vpc.address(), "")).await.unwrap();
    for _ in 0..4 {
        lab.connect(&app).await;
    }
    assert_eq!(
        lab.answered(&app).await,
        [DEAD, GOOD],
        "one failure, as the dialer tries the address last from then on"
    );
    put_forward(Duration::from_secs(31)).await;
    for _ in 0..4 {
        lab.connect(&app).await;
    }
    assert_eq!(lab.answered(&app).await, [GOOD]);
    let dead = &app.address_health()[0].addresses.iter().find(|one| one.address == DEAD).cloned().unwrap();
    assert_eq!(dead.standing, Standing::Down);
    put_forward(Duration::from_secs(31)).await;
    let mut table = app.table();
    let is_back = table.wait_for(|table| table.endpoints()[0].addresses.v4.len() == 2);
    tokio::time::timeout(Duration::from_secs(10), is_back).await.unwrap().unwrap();
}
