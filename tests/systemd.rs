//! The binary under a supervisor as systemd is one: what it tells through NOTIFY_SOCKET, and the sockets it is handed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sidegate::app::{App, Supervisor, Surroundings};
use sidegate::config::{Config, Inputs};
use sidegate::demo::{World, client};
use sidegate::discovery::Metadata;
use sidegate::inherited::Inherited;
use tempfile::TempDir;

/// Whatever is waited for comes within this, or never.
const PATIENCE: Duration = Duration::from_secs(30);
/// TXT of the reserved name, as in RFC 1035 section 4.1.
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06health\x08sidegate\x07invalid\x00\x00\x10\x00\x01";

/// A unit's state as its supervisor holds it: sockets, the notify socket, a configuration.
struct Unit {
    _folder: TempDir,
    configuration: PathBuf,
    ear: UnixDatagram,
    notify: String,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// A process of it; killed where a test ends early.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Unit {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let folder = tempfile::tempdir().unwrap();
        let name = format!("sidegate-unit-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let ear = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
        ear.set_read_timeout(Some(PATIENCE)).unwrap();
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let configuration = folder.path().join("sidegate.toml");
        let unit = Self { _folder: folder, configuration, ear, notify: format!("@{name}"), udp, tcp };
        unit.configure(unit.address(), "");
        unit
    }

    fn address(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    fn configure(&self, dns: SocketAddr, more: &str) {
        let text = format!(
            "state_dir = \"\"\n{more}\n[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [\"a1b2c3d4e5\"]\n\
             [[endpoint]]\naddresses = [\"127.0.0.9\"]\nhealth = \"off\"\n\
             [upstream]\npublic = [\"udp://127.0.0.1:9\"]\nvpc = [\"udp://127.0.0.1:9\"]\n\
             [dns]\nlisten = [\"{dns}\"]\nworkers = 2\n[forward.connect]\nlisten = []\n[admin]\nlisten = \"127.0.0.1:0\"\n"
        );
        std::fs::write(&self.configuration, text).unwrap();
    }

    /// Starts the binary with the sockets as descriptors 3 and 4. A shell puts them there and tells its own number, which
    /// stays the same: from here it would take code that is not safe.
    fn start(&self, environment: &[(&str, &str)]) -> Process {
        let pid = environment.iter().find(|(name, _)| *name == "LISTEN_PID").map_or("$$", |(_, value)| value);
        let script = format!("exec 3<&0 4<&1 </dev/null >&2; LISTEN_PID={pid} exec \"$0\" run --config \"$1\"");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_sidegate")]).arg(&self.configuration);
        command.env_clear().env("NOTIFY_SOCKET", &self.notify).envs(environment.iter().copied());
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "dns-udp:dns-tcp");
        let (udp, tcp) = (self.udp.try_clone().unwrap(), self.tcp.try_clone().unwrap());
        command.stdin(Stdio::from(OwnedFd::from(udp))).stdout(Stdio::from(OwnedFd::from(tcp)));
        Process(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// What is heard next, watchdog aside.
    fn hears(&self) -> String {
        loop {
            let next = self.hears_anything();
            if next != "WATCHDOG=1\n" {
                return next;
            }
        }
    }

    fn hears_anything(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.ear.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Skips STATUS until READY has come, and gives its message.
    fn hears_ready(&self) -> String {
        loop {
            let next = self.hears();
            if next.starts_with("READY=1\n") {
                return next;
            }
            assert!(next.starts_with("STATUS="), "{next}");
        }
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Exit code and what it wrote.
    fn ends(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

/// A client that has asked.
fn asked(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(QUESTION, address).unwrap();
    client
}

fn is_answered(client: &UdpSocket) -> bool {
    let mut reply = [0; 512];
    client.recv(&mut reply).is_ok_and(|length| length > QUESTION.len() && reply[..2] == QUESTION[..2])
}

#[test]
fn a_unit_hears_in_order_that_it_is_ready_reloads_and_stops() {
    let unit = Unit::new();
    let mut process = unit.start(&[("WATCHDOG_USEC", "1000000")]);
    assert_eq!(unit.hears_ready(), "READY=1\nSTATUS=1 private id; 1 of 1 endpoint addresses up\n");
    assert!(is_answered(&asked(unit.address())), "READY is not said before it is so");
    for _ in 0..2 {
        while unit.hears_anything() != "WATCHDOG=1\n" {}
    }

    process.signal(Signal::HUP);
    let reloading = unit.hears();
    let microseconds = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
    assert!(microseconds.parse::<u64>().unwrap() > 0);
    assert_eq!(unit.hears(), "READY=1\nSTATUS=1 private id; 1 of 1 endpoint addresses up\n");

    unit.configure(unit.address(), "no_such_key = 1");
    process.signal(Signal::HUP);
    assert!(unit.hears().starts_with("RELOADING=1\n"));
    let refused = unit.hears();
    assert!(refused.starts_with("READY=1\nSTATUS=reload refused: "), "{refused}");
    assert!(refused.contains("no_such_key") && refused.lines().count() == 2, "{refused}");
    // A socket that nobody would read is refused as well.
    unit.configure("127.0.0.1:0".parse().unwrap(), "");
    process.signal(Signal::HUP);
    assert!(unit.hears().starts_with("RELOADING=1\n"));
    let refused = unit.hears();
    assert!(refused.contains("reload refused: inherited socket dns-udp, UDP 127.0.0.1:"), "{refused}");

    process.signal(Signal::TERM);
    assert_eq!(unit.hears(), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=35000000\n");
    assert_eq!(process.ends().0, Some(0));
}

#[test]
fn what_is_asked_between_two_processes_waits_for_the_second() {
    let unit = Unit::new();
    let mut first = unit.start(&[]);
    unit.hears_ready();
    first.signal(Signal::TERM);
    assert_eq!(first.ends().0, Some(0));
    let clients: Vec<UdpSocket> = (0..50).map(|_| asked(unit.address())).collect();
    let mut stream = TcpStream::connect(unit.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[&(QUESTION.len() as u16).to_be_bytes(), QUESTION].concat()).unwrap();
    let _second = unit.start(&[]);
    assert!(clients.iter().all(is_answered));
    stream.read_exact(&mut [0; 2]).unwrap();
}

#[tokio::test]
async fn what_waited_is_answered_once_the_endpoint_is_known() {
    let world = World::start().await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let toml = format!(
        "[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [\"a1b2c3d4e5\"]\n\
         [upstream]\npublic = [\"{}\"]\nvpc = [\"{}\"]\n[dns]\nlisten = [\"{address}\"]\n\
         [forward.connect]\nlisten = []\n[admin]\nlisten = \"\"\n",
        world.public_resolver(),
        world.vpc_resolver()
    );
    let config = Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    let asked: Vec<_> = (0..20).map(|_| tokio::spawn(client::resolve(address, world.names().private_api))).collect();
    tokio::task::yield_now().await;
    let sockets = vec![("udp".to_owned(), udp.into()), ("tcp".to_owned(), tcp.into())];
    let supervisor = Supervisor { inherited: Inherited::of(sockets).unwrap(), ..Supervisor::default() };
    let metadata = Metadata { ecs: None, imds: SocketAddr::from(([127, 0, 0, 1], 1)) };
    let around = Surroundings { metadata, resolv_conf: "/nonexistent".into(), name_server_port: 53 };
    let _app = App::start_under(supervisor, config, around).await.unwrap();
    for asked in asked {
        let mut addresses = asked.await.unwrap().unwrap();
        addresses.sort();
        assert_eq!(addresses, world.endpoint_addresses());
    }
}

#[test]
fn what_waits_in_the_queue_while_a_process_ends_is_answered_by_it_or_by_the_next() {
    let unit = Unit::new();
    let mut process = unit.start(&[]);
    unit.hears_ready();
    // It cannot read now; once it goes on, it is to end before anything else.
    process.signal(Signal::STOP);
    process.signal(Signal::TERM);
    let clients: Vec<UdpSocket> = (0..200).map(|_| asked(unit.address())).collect();
    process.signal(Signal::CONT);
    assert_eq!(process.ends().0, Some(0));
    let _second = unit.start(&[]);
    assert!(clients.iter().all(is_answered));
}

#[test]
fn a_socket_that_no_listener_has_ends_the_start_and_names_the_key() {
    let unit = Unit::new();
    unit.configure("127.0.0.1:0".parse().unwrap(), "");
    let (code, said) = unit.start(&[]).ends();
    let expected =
        format!("inherited socket dns-udp, UDP {}: no listener has it: add it to dns.listen", unit.address());
    assert_eq!(code, Some(1));
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn sockets_for_another_process_are_not_touched() {
    let unit = Unit::new();
    let (code, said) = unit.start(&[("LISTEN_PID", "1")]).ends();
    assert_eq!(code, Some(1));
    assert!(said.contains("dns.listen: cannot bind"), "{said}");
}

#[test]
fn the_watchdog_goes_hungry_while_a_udp_listener_gets_nothing() {
    let unit = Unit::new();
    let mut process = unit.start(&[("WATCHDOG_USEC", "200000")]);
    unit.hears_ready();
    let mut log = process.0.stderr.take().unwrap();
    // The socket is one and the same: what does not come from there is not let in any more.
    unit.udp.connect("127.0.0.1:9").unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("the watchdog is not fed") {
        let mut buffer = [0; 1024];
        let length = log.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&said));
        said.extend(&buffer[..length]);
    }
    // Everything told before.
    unit.ear.set_nonblocking(true).unwrap();
    while unit.ear.recv(&mut [0; 4096]).is_ok() {}
    std::thread::sleep(Duration::from_millis(500));
    let fed = std::iter::from_fn(|| unit.ear.recv(&mut [0; 4096]).ok()).count();
    assert_eq!(fed, 0, "it does not answer");
    rustix::net::connect_unspec(&unit.udp).unwrap();
    unit.ear.set_nonblocking(false).unwrap();
    while unit.hears_anything() != "WATCHDOG=1\n" {}
}

#[test]
fn quitquitquit_ends_it_as_sigterm_does() {
    let unit = Unit::new();
    // An address that no other process of this machine takes: a port that was free a moment ago may be taken by now.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let admin = format!("127.{}.{middle}.{low}:9180", 64 + high % 64);
    let text = std::fs::read_to_string(&unit.configuration).unwrap();
    let text = text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{admin}\""));
    std::fs::write(&unit.configuration, text).unwrap();
    let mut process = unit.start(&[]);
    unit.hears_ready();
    let post = |path: &str| {
        let mut stream = TcpStream::connect(&admin).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    };
    assert!(post("/drain").starts_with("HTTP/1.1 200 OK\r\n"));
    let status = unit.hears();
    assert!(status.starts_with("STATUS=taken out of service by POST /drain; "), "{status}");
    assert!(is_answered(&asked(unit.address())), "all is served");
    assert!(post("/quitquitquit").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(unit.hears().starts_with("STOPPING=1\n"));
    assert_eq!(process.ends().0, Some(0));
}
