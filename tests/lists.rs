//! Lists of ids, as a whole process knows them: what is private follows a file, a reload, a restart without the file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde_json::Value;
use sidegate::app::{App, Surroundings};
use sidegate::config::{Config, Inputs};
use sidegate::demo::World;
use sidegate::demo::client;
use sidegate::discovery::Metadata;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A list applies within two seconds; beyond this it never will.
const PATIENCE: Duration = Duration::from_secs(10);

struct Lab {
    world: World,
    folder: TempDir,
}

impl Lab {
    async fn new() -> Self {
        Self { world: World::start().await.unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn list(&self) -> PathBuf {
        self.folder.path().join("ids")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn write(&self, ids: &[&str]) {
        let beside = self.folder.path().join("ids.new");
        std::fs::write(&beside, ids.join("\n")).unwrap();
        std::fs::rename(beside, self.list()).unwrap();
    }

    fn config(&self, source: &str) -> Config {
        let (list, state) = (self.list(), self.state());
        let (public, vpc) = (self.world.public_resolver(), self.world.vpc_resolver());
        let toml = format!(
            "state_dir = {state:?}\n[policy]\nregion = \"us-east-1\"\n[upstream]\npublic = [\"{public}\"]\nvpc = [\"{vpc}\"]\n\
             [dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n[forward.connect]\nlisten = []\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[[discovery]]\nkind = \"file\"\npath = {list:?}\n{source}\n"
        );
        Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap()
    }

    async fn start(&self, source: &str) -> App {
        let imds = SocketAddr::from(([127, 0, 0, 1], 1));
        let around = Surroundings {
            metadata: Metadata { ecs: None, imds },
            resolv_conf: "/nonexistent".into(),
            name_server_port: 53,
        };
        App::start(self.config(source), around).await.unwrap()
    }

    /// Whether the public API of the world is taken for a private one.
    async fn is_private(&self, app: &App) -> bool {
        let mut addresses = client::resolve(app.dns_addresses()[0], self.world.names().public_api).await.unwrap();
        addresses.sort();
        addresses == self.world.endpoint_addresses()
    }

    fn id(&self) -> &str {
        self.world.names().public_api.split('.').next().unwrap()
    }
}

async fn ready(app: &App) {
    timeout(PATIENCE, app.is_ready()).await.unwrap();
}

async fn ask(app: &App, name: &str) -> Message {
    client::ask(app.dns_addresses()[0], &Name::from_str(name).unwrap(), RecordType::A).await.unwrap()
}

/// Waits until so many ids are known.
async fn known(app: &App, ids: usize) {
    let mut table = app.table();
    let reached = table.wait_for(|table| table.ids.len() == ids && table.not_ready.is_none());
    timeout(PATIENCE, reached).await.unwrap().unwrap();
}

async fn status(app: &App) -> Value {
    let text = sidegate::admin::client::ask(app.admin_address().unwrap(), "/status").await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Waits until a list is on disk: it is in force before.
async fn kept_in(folder: &Path) {
    let is_list = |file: &PathBuf| file.extension() == Some("json".as_ref());
    timeout(PATIENCE, async {
        while !folder.exists() || !files(folder).iter().any(is_list) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn what_is_private_follows_the_file_and_status_says_from_where() {
    let lab = Lab::new().await;
    lab.write(&["a1b2c3d4e5"]);
    let app = lab.start("").await;
    ready(&app).await;
    assert!(!lab.is_private(&app).await);
    lab.write(&["a1b2c3d4e5", lab.id()]);
    known(&app, 2).await;
    assert!(lab.is_private(&app).await);
    let status = status(&app).await;
    let said = &status["ids"]["listed"][1];
    assert_eq!((status["ids"]["count"].as_u64(), said["id"].as_str()), (Some(2), Some(lab.id())));
    assert_eq!(said["said"][0]["origin"], format!("file {}", lab.list().display()));
    assert!(said["said"][0]["since"].as_str().unwrap().ends_with('Z'), "{said}");
    lab.write(&["a1b2c3d4e5"]);
    known(&app, 1).await;
    assert!(!lab.is_private(&app).await);
}

#[tokio::test]
async fn until_a_required_file_is_there_unknown_ids_are_not_ready_and_then_they_are() {
    let lab = Lab::new().await;
    let app = lab.start("interval = \"1s\"").await;
    let reply = ask(&app, lab.world.names().public_api).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let pending = sidegate::admin::client::ask(app.admin_address().unwrap(), "/ready").await.unwrap_err();
    assert!(pending.contains(&format!("list of file {}", lab.list().display())), "{pending}");
    lab.write(&["a1b2c3d4e5"]);
    ready(&app).await;
    known(&app, 1).await;
    assert!(!lab.is_private(&app).await);
}

#[tokio::test]
async fn without_a_file_that_is_not_required_unknown_ids_are_public_after_the_first_attempt() {
    let lab = Lab::new().await;
    let app = lab.start("required = false").await;
    ready(&app).await;
    known(&app, 0).await;
    assert!(!lab.is_private(&app).await);
    let status = status(&app).await;
    assert!(status["sources"][0]["error"].as_str().unwrap().contains("no such file"), "{status}");
}

#[tokio::test]
async fn a_list_that_is_broken_or_gone_changes_nothing() {
    let lab = Lab::new().await;
    lab.write(&[lab.id()]);
    let app = lab.start("interval = \"1s\"").await;
    ready(&app).await;
    known(&app, 1).await;
    for broken in [Some("a1b2c3d4e5\nNot An Id\n"), None] {
        match broken {
            Some(text) => std::fs::write(lab.list(), text).unwrap(),
            None => std::fs::remove_file(lab.list()).unwrap(),
        }
        let failures = |status: &Value| status["sources"][0]["failures"].as_u64().unwrap();
        let before = failures(&status(&app).await);
        timeout(PATIENCE, async {
            while failures(&status(&app).await) == before {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(lab.is_private(&app).await);
    }
    let error = status(&app).await["sources"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("no such file"), "{error}");
}

#[tokio::test]
async fn a_start_without_the_file_begins_with_the_last_good_list() {
    let lab = Lab::new().await;
    lab.write(&[lab.id()]);
    let app = lab.start("").await;
    known(&app, 1).await;
    // The list is in force before it is on disk.
    timeout(PATIENCE, async {
        while !lab.state().exists() || !files(&lab.state()).iter().any(|file| file.extension() == Some("json".as_ref()))
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    drop(app);
    std::fs::remove_file(lab.list()).unwrap();
    let app = lab.start("").await;
    ready(&app).await;
    assert!(lab.is_private(&app).await);
    let known = status(&app).await;
    let source = &known["sources"][0];
    assert_eq!((source["from_disk"].as_bool(), source["ids"].as_u64()), (Some(true), Some(1)), "{source}");
    drop(app);
    for file in files(&lab.state()) {
        std::fs::write(file, "{").unwrap();
    }
    let app = lab.start("").await;
    let reply = ask(&app, lab.world.names().public_api).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "a corrupt one is none");
}

#[tokio::test]
async fn a_reload_keeps_lists_of_sources_that_stay() {
    let lab = Lab::new().await;
    lab.write(&[lab.id()]);
    let mut app = lab.start("").await;
    ready(&app).await;
    known(&app, 1).await;
    kept_in(&lab.state()).await;
    std::fs::remove_file(lab.list()).unwrap();
    std::fs::remove_dir_all(lab.state()).unwrap();
    app.reload(lab.config("interval = \"5s\"")).await.unwrap();
    assert!(lab.is_private(&app).await);
}

#[tokio::test]
async fn who_posts_a_reload_hears_how_it_went() {
    let lab = Lab::new().await;
    lab.write(&[]);
    let mut app = lab.start("").await;
    let admin = app.admin_address().unwrap();
    let post = || async move {
        let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
        stream.write_all(b"POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    };
    for outcome in [Ok(()), Err("line 7: no such key".to_owned())] {
        let posted = tokio::spawn(post());
        let waiting = timeout(PATIENCE, app.reload_requested()).await.unwrap();
        app.reload_ended(outcome.clone()).await;
        waiting.send(outcome.clone()).unwrap();
        let reply = posted.await.unwrap();
        let (status, body) = if outcome.is_ok() { ("200", "reloaded\n") } else { ("422", "line 7: no such key\n") };
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")) && reply.ends_with(body), "{reply}");
    }
    let status = status(&app).await;
    assert_eq!(status["reloads"], serde_json::json!({ "succeeded": 1, "refused": 1 }));
}

#[tokio::test]
async fn a_reload_moves_the_admin_listener_or_is_refused_whole() {
    let lab = Lab::new().await;
    lab.write(&[]);
    let mut app = lab.start("").await;
    let before = app.admin_address().unwrap();
    let mut moved = lab.config("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    moved.admin.listen = Some(taken.local_addr().unwrap());
    let error = app.reload(moved.clone()).await.unwrap_err().to_string();
    assert!(error.starts_with("admin.listen: cannot bind"), "{error}");
    assert_eq!(app.admin_address(), Some(before));
    let mut wider = lab.config("");
    wider.admin.listen = Some(([0, 0, 0, 0], before.port()).into());
    let error = app.reload(wider).await.unwrap_err().to_string();
    assert!(error.contains(&format!("overlaps {before} of this process: restart for this change")), "{error}");
    drop(taken);
    app.reload(moved.clone()).await.unwrap();
    assert_eq!(app.admin_address(), moved.admin.listen);
    status(&app).await;
    timeout(PATIENCE, async { while tokio::net::TcpStream::connect(before).await.is_ok() {} }).await.unwrap();
    moved.admin.listen = None;
    app.reload(moved).await.unwrap();
    assert_eq!(app.admin_address(), None);
}

#[tokio::test]
async fn removals_of_more_than_half_wait_their_time_however_often_the_file_changes() {
    let lab = Lab::new().await;
    let ids: Vec<String> = (10..30).map(|i| format!("a1b2c3d4{i}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    lab.write(&ids);
    let app = lab.start("interval = \"3s\"").await;
    known(&app, 20).await;
    let mut table = app.table();
    let begun = Instant::now();
    lab.write(&[]);
    timeout(PATIENCE, async {
        while status(&app).await["sources"][0]["held"].is_null() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let as_of = status(&app).await["sources"][0]["as_of"].clone();
    lab.write(&ids[..1]);
    timeout(PATIENCE, table.wait_for(|table| table.ids.len() == 1)).await.unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_ne!(status(&app).await["sources"][0]["as_of"], as_of, "which stands still while something is held");
}

#[tokio::test]
async fn a_reload_moves_what_is_kept_who_may_ask_and_what_live_asks() {
    let lab = Lab::new().await;
    lab.write(&[lab.id()]);
    let mut app = lab.start("interval = \"1s\"").await;
    ready(&app).await;
    let admin = app.admin_address().unwrap();
    let mut moved = lab.config("interval = \"1s\"");
    let elsewhere = lab.folder.path().join("elsewhere");
    moved.state_dir = Some(elsewhere.clone());
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    moved.dns.listen = vec![port];
    app.reload(moved.clone()).await.unwrap();
    sidegate::admin::client::ask(admin, "/live").await.unwrap();
    kept_in(&elsewhere).await;
    assert!(asked_by_name(admin, "sidegate.corp").await.starts_with("HTTP/1.1 403"));
    moved.admin.hosts = vec!["sidegate.corp".parse().unwrap()];
    app.reload(moved).await.unwrap();
    assert!(asked_by_name(admin, "sidegate.corp").await.starts_with("HTTP/1.1 200"));
}

/// What admin says to a request for `/ready` under this Host.
async fn asked_by_name(admin: SocketAddr, host: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
    let request = format!("GET /ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}
