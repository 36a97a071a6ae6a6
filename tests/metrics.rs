//! `/metrics` of a whole Sidegate in a VPC in a box: what a scraper gets after traffic that is known.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "metrics/exposition.rs"]
mod exposition;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sidegate::app::{App, Surroundings};
use sidegate::config::{Config, Inputs};
use sidegate::demo::World;
use sidegate::demo::client::{self, Way};
use sidegate::discovery::Metadata;
use sidegate::forward::Entrance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::exposition::Exposition;

/// A Sidegate between the resolvers and gates of a world.
struct Lab {
    world: World,
    app: App,
    folder: tempfile::TempDir,
}

impl Lab {
    async fn start() -> Self {
        let (world, folder) = (World::start().await.unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("ids"), "a1b2c3d4e5\nz1z2z3z4z5\n").unwrap();
        let imds = SocketAddr::from(([127, 0, 0, 1], 1));
        let surroundings = Surroundings {
            metadata: Metadata { ecs: None, imds },
            resolv_conf: PathBuf::from("/nonexistent"),
            name_server_port: 53,
        };
        let app = App::start(config(&world, folder.path(), ""), surroundings).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), app.is_ready()).await.unwrap();
        Self { world, app, folder }
    }

    fn dns(&self) -> SocketAddr {
        self.app.dns_addresses()[0]
    }

    fn connect(&self) -> SocketAddr {
        self.app.forward_addresses().into_iter().find(|(entrance, _)| *entrance == Entrance::Connect).unwrap().1
    }

    async fn scrape(&self) -> Exposition {
        let text = sidegate::admin::client::ask(self.app.admin_address().unwrap(), "/metrics").await.unwrap();
        Exposition::parse(&format!("{text}\n")).unwrap()
    }

    /// Scrapes once the connections of [`traffic`] have ended: they are counted after their last byte.
    async fn scrape_when_ended(&self) -> Exposition {
        for _ in 0..3000 {
            let scraped = self.scrape().await;
            let is_of = |series: &str| series.starts_with("sidegate_forward_connections_total{entrance=\"connect\"");
            let ended: f64 = scraped.counters().filter(|(series, _)| is_of(series)).map(|(_, count)| count).sum();
            if ended == 4.0 && scraped.value(OPEN) == Some(0.0) {
                return scraped;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the connections do not end: {:?}", self.scrape().await.value(OPEN))
    }
}

const OPEN: &str = "sidegate_forward_open_connections{entrance=\"connect\"}";

fn config(world: &World, folder: &Path, more_public: &str) -> Config {
    let (public, vpc, port) = (world.public_resolver(), world.vpc_resolver(), world.https_port());
    let ids = folder.join("ids").display().to_string();
    let toml = format!(
        "state_dir = \"\"\n[policy]\nregion = \"us-east-1\"\n\
         [[endpoint]]\naddresses = [\"127.0.0.11\", \"127.0.0.12\"]\nhealth = \"off\"\nport = {port}\n\
         [upstream]\npublic = [\"{public}\"{more_public}]\nvpc = [\"{vpc}\"]\n\
         [[upstream.zone]]\nname = \"corp.internal\"\nservers = [\"{vpc}\"]\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n\
         [forward]\npublic_port = {port}\npublic_networks = [\"127.0.0.0/8\"]\n\
         [forward.connect]\nlisten = [\"127.0.0.1:0\"]\n\
         [[discovery]]\nkind = \"file\"\npath = \"{ids}\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n"
    );
    Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap()
}

/// Some of everything.
async fn traffic(lab: &Lab) {
    let names = lab.world.names();
    for _ in 0..3 {
        client::resolve(lab.dns(), names.private_api).await.unwrap();
    }
    for _ in 0..2 {
        client::resolve(lab.dns(), names.public_api).await.unwrap();
        client::resolve(lab.dns(), names.internal).await.unwrap();
    }
    assert!(client::resolve(lab.dns(), &format!("x.{}", names.private_api)).await.is_err());
    assert!(client::resolve(lab.dns(), "absent.example.com").await.is_err());
    for name in [names.private_api, names.private_api, names.public_api] {
        let outcome = lab.world.client().call(Way::Connect(lab.connect()), name).await;
        assert_eq!(outcome.reply.unwrap().status.as_u16(), 200, "{name}");
    }
    let mut refused = TcpStream::connect(lab.connect()).await.unwrap();
    refused.write_all(b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n").await.unwrap();
    refused.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_scrape_after_known_traffic_has_exactly_these_counts() {
    let lab = Lab::start().await;
    traffic(&lab).await;
    let scraped = lab.scrape_when_ended().await;
    let server = |address: SocketAddr| format!("udp://{address}");
    let (public, vpc) = (server(lab.world.public_resolver()), server(lab.world.vpc_resolver()));
    let source = format!("file {}", lab.folder.path().join("ids").display());
    let expected = [
        ("sidegate_ready", 1.0),
        ("sidegate_dns_queries_total{transport=\"udp\",route=\"endpoint\",rcode=\"NOERROR\"}", 3.0),
        ("sidegate_dns_queries_total{transport=\"udp\",route=\"public\",rcode=\"NOERROR\"}", 2.0),
        ("sidegate_dns_queries_total{transport=\"udp\",route=\"public\",rcode=\"NXDOMAIN\"}", 1.0),
        ("sidegate_dns_queries_total{transport=\"udp\",route=\"zone\",rcode=\"NOERROR\"}", 2.0),
        ("sidegate_dns_queries_total{transport=\"udp\",route=\"nonexistent\",rcode=\"NXDOMAIN\"}", 1.0),
        ("sidegate_dns_queries_total{transport=\"tcp\",route=\"endpoint\",rcode=\"NOERROR\"}", 0.0),
        ("sidegate_dns_cache_hits_total{route=\"public\"}", 1.0),
        ("sidegate_dns_cache_misses_total{route=\"public\"}", 2.0),
        ("sidegate_dns_cache_hits_total{route=\"zone\"}", 1.0),
        ("sidegate_dns_cache_misses_total{route=\"zone\"}", 1.0),
        ("sidegate_dns_cache_max_bytes", 16_777_216.0),
        ("sidegate_dns_answer_duration_seconds_count{group=\"public\"}", 2.0),
        ("sidegate_dns_answer_duration_seconds_count{group=\"zone\"}", 1.0),
        ("sidegate_dns_answer_duration_seconds_count{group=\"vpc\"}", 0.0),
        ("sidegate_dns_questions_in_flight", 0.0),
        ("sidegate_dns_drops_total{reason=\"no_query\"}", 0.0),
        ("sidegate_forward_connections_total{entrance=\"connect\",reason=\"address_literal\"}", 1.0),
        (OPEN, 0.0),
        ("sidegate_forward_connect_duration_seconds_count{entrance=\"connect\",way=\"endpoint\"}", 2.0),
        ("sidegate_forward_connect_duration_seconds_count{entrance=\"connect\",way=\"public\"}", 1.0),
        ("sidegate_private_ids", 2.0),
        ("sidegate_list_missing", 0.0),
        ("sidegate_endpoint_addresses{endpoint=\"the endpoint of us-east-1\",standing=\"up\"}", 2.0),
        ("sidegate_endpoint_addresses{endpoint=\"the endpoint of us-east-1\",standing=\"down\"}", 0.0),
        (&format!("sidegate_source_ids{{source=\"{source}\"}}"), 2.0),
        (&format!("sidegate_source_reads_total{{source=\"{source}\",result=\"failed\"}}"), 0.0),
        (&format!("sidegate_source_failing{{source=\"{source}\"}}"), 0.0),
        // The query for AAAA that the forwarder makes beside its A is one more.
        (
            &format!(
                "sidegate_dns_upstream_results_total{{group=\"zone:corp.internal\",server=\"{vpc}\",result=\"answered\"}}"
            ),
            1.0,
        ),
        (&format!("sidegate_dns_upstream_failures_in_row{{group=\"public\",server=\"{public}\"}}"), 0.0),
    ];
    for (series, value) in expected {
        assert_eq!(scraped.value(series), Some(value), "{series}");
    }
    let carried = |direction: &str| {
        scraped
            .value(&format!("sidegate_forward_bytes_total{{entrance=\"connect\",direction=\"{direction}\"}}"))
            .unwrap()
    };
    assert!(carried("up") > 500.0 && carried("down") > 500.0);
    assert!(scraped.value("sidegate_dns_cache_entries").unwrap() >= 3.0);
    assert!(scraped.value(&format!("sidegate_source_age_seconds{{source=\"{source}\"}}")).unwrap() < 600.0);
    assert!(scraped.value("process_resident_memory_bytes").unwrap() > 1_000_000.0);
}

#[tokio::test]
async fn no_counter_goes_backwards_over_a_reload() {
    let mut lab = Lab::start().await;
    traffic(&lab).await;
    let before = lab.scrape_when_ended().await;
    // Another server makes a new cache, and everything about sources and endpoints is built anew.
    lab.app.reload(config(&lab.world, lab.folder.path(), ", \"127.0.0.1:9\"")).await.unwrap();
    lab.app.reload_ended(Ok(())).await;
    let after = lab.scrape().await;
    for (series, count) in before.counters() {
        assert!(
            after.value(series).is_some_and(|now| now >= count),
            "{series}: {count}, then {:?}",
            after.value(series)
        );
    }
    assert_eq!(after.value("sidegate_reloads_total{result=\"succeeded\"}"), Some(1.0));
    assert_eq!(after.value("sidegate_dns_cache_entries"), Some(0.0), "it is another cache");
}

#[tokio::test]
async fn what_clients_send_never_becomes_a_label_nor_adds_series_without_end() {
    let lab = Lab::start().await;
    traffic(&lab).await;
    let before: BTreeSet<String> = lab.scrape_when_ended().await.series().map(str::to_owned).collect();
    for number in 0..200 {
        // Names with quotes, line ends and braces in their labels; any type, any opcode.
        let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 12];
        query.extend(format!("evil{number:03}\"\n}}{{{{").as_bytes());
        query.extend([3, b'c', b'o', b'm', 0, 0, number, 0, 1]);
        query[2] |= (number % 16) << 3;
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(lab.dns()).await.unwrap();
        socket.send(&query).await.unwrap();
        let mut client = TcpStream::connect(lab.connect()).await.unwrap();
        let request = format!("CONNECT evil{number}\"{{.example:443 HTTP/1.1\r\nHost: evil{number}\r\nX: \"\n\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
    let after = lab.scrape().await;
    let new: Vec<&str> = after.series().filter(|series| !before.contains(*series)).collect();
    assert!(new.iter().all(|series| !series.contains("evil")), "{new:?}");
    assert!(new.len() < 30, "{new:?}");
}

#[tokio::test]
async fn metrics_md_names_exactly_the_metrics_that_there_are() {
    let lab = Lab::start().await;
    traffic(&lab).await;
    let scraped = lab.scrape_when_ended().await;
    let told: BTreeSet<(String, String, String)> = scraped.families().collect();
    let text = std::fs::read_to_string("METRICS.md").unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().replace('`', ""));
        let (name, kind, labels) = (cells.next()?, cells.next()?, cells.next()?);
        ["counter", "gauge", "histogram"].contains(&&*kind).then_some((name, kind, labels))
    });
    let documented: BTreeSet<_> = rows.collect();
    let missing: Vec<_> = told.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&told).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in METRICS.md: {missing:#?}\nonly in METRICS.md: {gone:#?}");
}
