//! What a supervisor hears.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::time::{Instant, advance, sleep};

use super::*;

/// A supervisor's end.
struct Ear {
    _folder: TempDir,
    socket: UnixDatagram,
    notifier: Notifier,
}

impl Ear {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { _folder: folder, socket, notifier: Notifier::to(path.as_os_str()).unwrap() }
    }

    /// What has come by now.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| {
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .collect()
    }
}

fn liveness(alive: &Arc<AtomicBool>) -> Liveness {
    let alive = Arc::clone(alive);
    Arc::new(move || {
        let alive = alive.load(Ordering::Relaxed);
        Box::pin(async move { if alive { Ok(()) } else { Err("127.0.0.1:53 does not answer".to_owned()) } })
    })
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_twice_as_often_as_it_must_and_not_while_a_listener_is_silent() {
    let (ear, alive) = (Ear::new(), Arc::new(AtomicBool::new(true)));
    let feeding = tokio::spawn(feed(ear.notifier.clone(), Duration::from_secs(30), liveness(&alive)));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(ear.heard(), vec!["WATCHDOG=1\n"; 5], "at 0, 15, 30, 45 and 60 s");
    alive.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert!(ear.heard().is_empty());
    alive.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(ear.heard(), ["WATCHDOG=1\n"]);
    feeding.abort();
}

async fn discovery() -> Arc<Discovery> {
    use crate::config::{Config, Inputs};
    let toml = "[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [\"a1b2c3d4e5\", \"f6g7h8i9j0\"]\n\
                [[endpoint]]\naddresses = [\"10.0.1.10\", \"10.0.2.10\"]\n";
    let inputs = Inputs { file: Some(("test".to_owned(), toml.to_owned())), environment: Vec::new() };
    let imds = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let metadata = crate::discovery::Metadata { ecs: None, imds };
    let around = crate::app::Surroundings { metadata, resolv_conf: "/nonexistent".into(), name_server_port: 53 };
    let config = crate::app::configs::discovery_config(&Config::load(&inputs).unwrap(), &around).await.unwrap();
    Arc::new(Discovery::new(config).unwrap())
}

/// Supervision of a process that has bound everything, and what keeps it from being ready.
async fn supervised(ear: &Ear) -> (Supervision, Readiness, crate::admin::Block, watch::Sender<Arc<Discovery>>) {
    let (readiness, discovery) = (Readiness::default(), watch::Sender::new(discovery().await));
    let block = readiness.block("list of file /etc/ids");
    readiness.bound();
    let alive = liveness(&Arc::new(AtomicBool::new(true)));
    let supervision = Supervision::start(Some(ear.notifier.clone()), None, &readiness, discovery.subscribe(), alive);
    (supervision, readiness, block, discovery)
}

const KNOWN: &str = "2 private ids; 2 of 2 endpoint addresses up";

#[tokio::test(start_paused = true)]
async fn ready_comes_as_soon_as_nothing_is_waited_for_and_status_says_what_is() {
    let ear = Ear::new();
    let (supervision, readiness, block, _discovery) = supervised(&ear).await;
    sleep(Duration::from_millis(3500)).await;
    let waiting = format!("waiting for list of file /etc/ids; {KNOWN}");
    assert_eq!(ear.heard(), [format!("STATUS={waiting}\n")], "once, as nothing changes");
    drop(block);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(ear.heard(), [format!("READY=1\nSTATUS={KNOWN}\n")]);
    sleep(Duration::from_secs(10)).await;
    assert!(ear.heard().is_empty());
    readiness.drain();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ear.heard(), [format!("STATUS=taken out of service by POST /drain; {KNOWN}\n")]);
    supervision.stopping(Duration::from_secs(5), Duration::from_secs(20)).await;
    assert_eq!(ear.heard(), ["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=40000000\n"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_does_not_come_holds_the_unit_up_for_fifteen_seconds_and_no_longer() {
    let ear = Ear::new();
    let (_supervision, _readiness, _block, _discovery) = supervised(&ear).await;
    let began = Instant::now();
    sleep(Duration::from_secs(14)).await;
    assert_eq!(ear.heard().len(), 1);
    advance(Duration::from_secs(2)).await;
    sleep(Duration::from_millis(1)).await;
    let status = format!("waiting for list of file /etc/ids; {KNOWN}");
    assert_eq!(ear.heard(), [format!("READY=1\nSTATUS={status}\n")], "after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_told_from_its_begin_to_its_end_and_a_refusal_stays_until_the_next_one() {
    let ear = Ear::new();
    let (supervision, _readiness, block, _discovery) = supervised(&ear).await;
    sleep(Duration::from_millis(1)).await;
    ear.heard();
    supervision.reload_begins().await;
    supervision.reload_ended(Ok(())).await;
    assert!(ear.heard().is_empty(), "READY would end the start");
    drop(block);
    sleep(Duration::from_millis(1)).await;
    ear.heard();
    supervision.reload_begins().await;
    supervision.reload_ended(Err("sidegate.toml:1:1: no such key\n  | x = 1".to_owned())).await;
    sleep(Duration::from_secs(3)).await;
    let heard = ear.heard();
    assert!(heard[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
    assert_eq!(heard[1..], [format!("READY=1\nSTATUS=reload refused: sidegate.toml:1:1: no such key; {KNOWN}\n")]);
    supervision.reload_begins().await;
    supervision.reload_ended(Ok(())).await;
    assert_eq!(ear.heard()[1], format!("READY=1\nSTATUS={KNOWN}\n"));
}

#[tokio::test]
async fn without_a_supervisor_nothing_runs() {
    let discovery = watch::Sender::new(discovery().await);
    let alive = liveness(&Arc::default());
    let supervision =
        Supervision::start(None, Some(Duration::from_secs(1)), &Readiness::default(), discovery.subscribe(), alive);
    assert!(supervision.tasks.is_empty());
    supervision.stopping(Duration::ZERO, Duration::ZERO).await;
}
