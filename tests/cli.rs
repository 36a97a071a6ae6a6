//! The commands as a person or a container runtime meets them: what they print, and how they exit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A configuration file in a directory of its own.
struct Lab {
    _directory: TempDir,
    file: PathBuf,
}

impl Lab {
    fn new(toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sidegate.toml");
        std::fs::write(&file, toml).unwrap();
        Self { _directory: directory, file }
    }

    /// The command with this file and nothing of the environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare();
        command.args(arguments).arg("--config").arg(&self.file);
        command
    }
}

fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidegate"));
    command.env_clear();
    command
}

fn run(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A port of loopback that was free a moment ago.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A resolv.conf as `install` leaves it.
fn taken_over(before: &[u8]) -> Vec<u8> {
    let address = [127, 0, 0, 1].into();
    let us = sidegate::resolv_conf::Us { address, is_us: &|server| server == address, seen: None };
    match sidegate::resolv_conf::install(before, &us, false) {
        sidegate::resolv_conf::Step::Write(taken) => taken,
        other => panic!("{other:?}"),
    }
}

#[test]
fn resolv_conf_is_put_back_whatever_the_configuration_is_and_left_alone_where_it_is_not_ours() {
    let lab = Lab::new("no_such_key = 1");
    let file = lab.file.with_file_name("resolv.conf");
    let before = b"search a\r\nnameserver 10.0.0.2";
    let taken = taken_over(before);
    std::fs::write(&file, taken).unwrap();
    let restore = || run(lab.command(&["resolv-conf", "restore", "--file", file.to_str().unwrap()]));
    let (code, out, _) = restore();
    assert_eq!((code, out), (Some(0), format!("{} is as it was\n", file.display())));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let (code, out, _) = restore();
    assert_eq!(code, Some(0));
    assert!(out.ends_with("does not lead to a Sidegate: nothing to put back\n"), "{out}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_restore_that_is_killed_at_any_moment_leaves_a_file_that_the_next_one_puts_right() {
    let lab = Lab::new("");
    let file = lab.file.with_file_name("resolv.conf");
    let before = b"search a\nnameserver 10.0.0.2";
    let taken = taken_over(before);
    let restore = || lab.command(&["resolv-conf", "restore", "--file", file.to_str().unwrap()]);
    for pause in 0..30 {
        std::fs::write(&file, &taken).unwrap();
        let mut child = restore().stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(pause * 200));
        child.kill().unwrap();
        child.wait().unwrap();
        let left = std::fs::read(&file).unwrap();
        assert!(!sidegate::resolv_conf::name_servers(&left).is_empty(), "{:?}", String::from_utf8_lossy(&left));
        assert_eq!(run(restore()).0, Some(0));
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}

#[test]
fn resolv_conf_cannot_lead_to_another_port_than_53() {
    let lab = Lab::new(&listening(5300, ""));
    let file = lab.file.with_file_name("resolv.conf");
    std::fs::write(&file, "nameserver 10.0.0.2\n").unwrap();
    let (code, _, error) = run(lab.command(&["resolv-conf", "install", "--file", file.to_str().unwrap()]));
    assert_eq!(code, Some(1));
    let wanted = "sidegate: resolv.conf knows port 53 alone, and dns.listen is 127.0.0.1:5300: add \"127.0.0.1:53\"\n";
    assert_eq!(error, wanted);
    assert_eq!(std::fs::read(&file).unwrap(), b"nameserver 10.0.0.2\n");
}

/// Static ids and endpoint; upstreams that nobody serves.
fn listening(dns: u16, admin: &str) -> String {
    format!(
        r#"
[policy]
region = "us-east-1"
private_api_ids = ["a1b2c3d4e5"]
always_public = ["public1"]
[[endpoint]]
vpce_id = "vpce-0123456789abcdef0"
addresses = ["10.0.1.10", "10.0.2.10"]
health = "off"
[upstream]
public = ["udp://127.0.0.1:9"]
vpc = ["udp://127.0.0.1:9"]
[[upstream.zone]]
name = "corp.internal"
servers = ["tcp://127.0.0.1:9"]
[dns]
listen = ["127.0.0.1:{dns}"]
workers = 1
[forward.connect]
listen = []
[admin]
listen = "{admin}"
"#
    )
}

/// A running `sidegate run`, killed when dropped.
struct Running {
    child: Child,
    dns: SocketAddr,
}

impl Running {
    fn start(lab: &Lab) -> Self {
        let mut child = lab.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains("dns listens")).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.split("address=").nth(1).unwrap().trim().parse().unwrap();
        Self { child, dns: address }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn answers_for(&self, name: &str) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut query = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        socket.send_to(&query, self.dns).unwrap();
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).unwrap();
        assert!(length > 12 && reply[..2] == [1, 2]);
        u16::from_be_bytes([reply[6], reply[7]])
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_wrong_command_line_exits_64_and_help_exits_0() {
    let half_a_world = &["demo", "--vpc", "10.77.0.2", "--ca", "ca.pem"];
    for arguments in [&["nonsense"][..], &["route"], &["--nonsense"], &["route", "a..b"], half_a_world] {
        let mut command = bare();
        command.args(arguments);
        assert_eq!(run(command).0, Some(64), "{arguments:?}");
    }
    for arguments in ["--help", "--version"] {
        let mut command = bare();
        command.arg(arguments);
        assert_eq!(run(command).0, Some(0));
    }
}

#[test]
fn help_names_every_way_in_as_the_defaults_have_it_and_what_no_variable_can_set() {
    let mut command = bare();
    command.arg("--help");
    let help = run(command).1.split_whitespace().collect::<Vec<_>>().join(" ");
    let config = sidegate::config::Config::load(&sidegate::config::Inputs::default()).unwrap();
    let (proxy, admin) = (config.forward.connect_listen[0], config.admin.listen.unwrap());
    for words in [
        format!("DNS on {}", config.dns.listen[0]),
        format!("HTTPS_PROXY=http://{proxy}"),
        format!("CONNECT on {proxy}"),
        format!("http://{admin}/"),
        "[[endpoint]], [[discovery]] and [[upstream.zone]]".to_owned(),
    ] {
        assert!(help.contains(&words), "{words}: {help}");
    }
}

#[test]
fn check_says_what_a_right_configuration_means() {
    let (code, out, err) = run(Lab::new(&listening(5300, "")).command(&["check"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    insta::assert_snapshot!(out, @r"
    The configuration is right.
      dns              127.0.0.1:5300
      dns.tls          off
      dns.https        off
      forward.connect  off
      forward.sni      off
      forward.http     off
      admin            off
      region           us-east-1
      upstream.default public, or vpc where resolv.conf is taken over
      endpoint         1
      ids              1 id listed, 0 sources
    ");
    // A listener on port 53 is what leads resolv.conf to us; nothing is bound or written here.
    let all = "[policy]\nregion = \"us-east-1\"\n[dns]\nlisten = [\"127.0.0.1:53\"]\ntake_over = true\n\
        tls_certificate = \"/c.pem\"\ntls_key = \"/k.pem\"\ntls.listen = [\"127.0.0.1:853\"]\nhttps.listen = [\"127.0.0.1:8053\"]\n\
        [forward]\nsni.listen = [\"127.0.0.1:443\"]\nhttp.listen = [\"127.0.0.1:80\", \"[::1]:80\"]\n";
    let (code, out, err) = run(Lab::new(all).command(&["check"]));
    assert_eq!(code, Some(0));
    assert!(err.lines().count() == 1 && err.contains("/c.pem"), "there are no such files here: {err}");
    for line in [
        "dns.tls          127.0.0.1:853",
        "dns.https        127.0.0.1:8053",
        "forward.connect  127.0.0.1:3128",
        "forward.sni      127.0.0.1:443",
        "forward.http     127.0.0.1:80, [::1]:80",
        "upstream.default vpc, as dns.take_over is on",
    ] {
        assert!(out.contains(&format!("  {line}\n")), "{line}: {out}");
    }
    let set = listening(5300, "").replace("[upstream]", "[upstream]\ndefault = \"vpc\"");
    assert!(run(Lab::new(&set).command(&["check"])).1.contains("  upstream.default vpc\n"));
}

#[test]
fn a_wrong_configuration_exits_78_from_every_command_that_reads_it() {
    let lab = Lab::new("[dns]\nlisten = 53\nlisen = []\n");
    for command in ["run", "check", "wait", "health"] {
        let (code, _, err) = run(lab.command(&[command]));
        assert_eq!(code, Some(78), "{command}");
        assert!(err.contains("sidegate.toml:2:10") && err.contains("sidegate.toml:3:1"), "{err}");
        assert!(err.ends_with("2 errors in the configuration\n"), "{err}");
    }
}

#[test]
fn route_prints_decision_rule_origin_and_where_the_name_leads() {
    let lab = Lab::new(&listening(5300, ""));
    let route = |name: &str| {
        let (code, out, err) = run(lab.command(&["route", name]));
        assert_eq!((code, err.as_str()), (Some(0), ""));
        out
    };
    insta::assert_snapshot!(route("A1B2C3D4E5.execute-api.us-east-1.amazonaws.com."), @r"
    name       a1b2c3d4e5.execute-api.us-east-1.amazonaws.com
    decision   endpoint
    rule       2, an API id known to be private
    origin     policy.private_api_ids
    to         vpce-0123456789abcdef0
    addresses  10.0.1.10, 10.0.2.10
    ");
    insta::assert_snapshot!(route("public1.execute-api.us-east-1.amazonaws.com"), @r"
    name       public1.execute-api.us-east-1.amazonaws.com
    decision   public
    rule       0, listed by name in the configuration
    origin     policy.always_public
    to         upstream public
    servers    udp://127.0.0.1:9
    ");
    insta::assert_snapshot!(route("x.a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"), @r"
    name       x.a1b2c3d4e5.execute-api.us-east-1.amazonaws.com
    decision   does not exist
    rule       4, below a private name
    origin     policy.private_api_ids
    ");
    insta::assert_snapshot!(route("db.corp.internal"), @r"
    name       db.corp.internal
    decision   zone
    rule       6, under a zone with servers of its own
    to         upstream zone corp.internal
    servers    tcp://127.0.0.1:9
    ");
    insta::assert_snapshot!(route("a1.execute-api.eu-west-1.amazonaws.com"), @r"
    name       a1.execute-api.eu-west-1.amazonaws.com
    decision   public
    rule       7, everything else
    to         upstream public
    servers    udp://127.0.0.1:9
    note       an API of a region without an [[endpoint]]
    ");
}

#[test]
fn route_takes_a_url_and_an_id_alone_in_each_zone() {
    let second = "[[endpoint]]\nregion = \"eu-west-1\"\naddresses = [\"10.1.1.10\"]\nhealth = \"off\"\n";
    let lab = Lab::new(&format!("{}{second}", listening(5300, "")));
    let route = |arguments: &[&str]| {
        let (code, out, err) = run(lab.command(&[&["route"], arguments].concat()));
        assert_eq!((code, err.as_str()), (Some(0), ""));
        out
    };
    insta::assert_snapshot!(route(&["https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/prod?token=hush"]), @r"
    name       a1b2c3d4e5.execute-api.us-east-1.amazonaws.com
    decision   endpoint
    rule       2, an API id known to be private
    origin     policy.private_api_ids
    to         vpce-0123456789abcdef0
    addresses  10.0.1.10, 10.0.2.10
    note       the host of what was given; nothing else of it matters
    ");
    let both = route(&["a1b2c3d4e5"]);
    let names = both.lines().filter_map(|line| line.strip_prefix("name       ")).collect::<Vec<_>>();
    let zones = ["execute-api.us-east-1.amazonaws.com", "execute-api.eu-west-1.amazonaws.com"];
    assert_eq!(names, zones.map(|zone| format!("a1b2c3d4e5.{zone}")), "{both}");
    for zone in zones {
        assert!(
            both.contains(&format!(
                "\nnote       an id alone stands for its name in each zone of ours, here in {zone}\n"
            ))
        );
    }
    let json = route(&["a1b2c3d4e5", "--json"]);
    let values: Result<Vec<serde_json::Value>, _> = serde_json::Deserializer::from_str(&json).into_iter().collect();
    assert_eq!(values.unwrap().len(), 2, "one object after another: {json}");
    let (code, _, err) = run(lab.command(&["route", "a..b/x?token=hush"]));
    assert_eq!(code, Some(64));
    assert_eq!(err, "sidegate: \"a..b\": a name has no empty label: remove the doubled or leading dot\n");
}

#[test]
fn route_prints_the_same_as_json() {
    let lab = Lab::new(&listening(5300, ""));
    let name = "any1-vpce-0123456789abcdef0.execute-api.us-east-1.amazonaws.com";
    let (code, out, _) = run(lab.command(&["route", "--json", name]));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!((&value["decision"], &value["rule"]), (&"endpoint".into(), &3.into()));
    assert_eq!(value["addresses"], serde_json::json!(["10.0.1.10", "10.0.2.10"]));
}

#[test]
fn a_running_sidegate_tells_the_route_of_a_name_as_the_command_does() {
    let admin = format!("127.0.0.1:{}", free_port());
    let lab = Lab::new(&listening(0, &admin));
    let _running = Running::start(&lab);
    assert_eq!(run(lab.command(&["wait"])).0, Some(0));
    for name in [
        "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
        "x.a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
        "public1.execute-api.us-east-1.amazonaws.com",
        "other1.execute-api.us-east-1.amazonaws.com",
        "execute-api.us-east-1.amazonaws.com",
        "db.corp.internal",
        "www.example.com",
        "a1.execute-api.eu-west-1.amazonaws.com",
    ] {
        let (code, told, _) = run(lab.command(&["route", "--json", name]));
        assert_eq!(code, Some(0));
        assert_eq!(get(&admin, &format!("/route?name={name}")), told, "{name}");
    }
}

/// The body of what an admin listener answers.
fn get(admin: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn health_and_wait_fail_fast_while_nothing_runs() {
    let admin = format!("127.0.0.1:{}", free_port());
    for toml in [listening(free_port(), &admin), listening(free_port(), "")] {
        let started = Instant::now();
        assert_eq!(run(Lab::new(&toml).command(&["health"])).0, Some(1));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
    // Where nothing could be asked, nothing was found well.
    let proxy = format!("[dns]\nlisten = []\n[forward.connect]\nlisten = [\"127.0.0.1:{}\"]\n", free_port());
    let nothing = "[dns]\nlisten = []\n[forward.connect]\nlisten = []\n";
    for (toml, complaint) in [(nothing, "there is nothing to ask"), (&proxy, "takes no connection")] {
        let toml = format!("[policy]\nregion = \"us-east-1\"\n{toml}[admin]\nlisten = \"\"\n");
        let (code, _, err) = run(Lab::new(&toml).command(&["health"]));
        assert!(code == Some(1) && err.contains(complaint), "{code:?} {err}");
    }
    let lab = Lab::new(&listening(free_port(), &admin));
    let (code, _, err) = run(lab.command(&["wait", "--timeout", "0"]));
    assert_eq!(code, Some(1));
    assert!(err.starts_with("sidegate: not ready after 0 s"), "{err}");
}

#[test]
fn who_is_taken_out_of_service_is_well_and_not_ready() {
    let admin = format!("127.0.0.1:{}", free_port());
    let lab = Lab::new(&listening(0, &admin));
    let running = Running::start(&lab);
    assert_eq!(run(lab.command(&["wait"])).0, Some(0));
    let mut stream = std::net::TcpStream::connect(&admin).unwrap();
    write!(stream, "POST /drain HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    assert!(std::io::read_to_string(stream).unwrap().starts_with("HTTP/1.1 200 "));
    // By a liveness probe it would be killed, with everything that it serves on.
    let (code, _, err) = run(lab.command(&["health"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let (code, _, err) = run(lab.command(&["wait", "--timeout", "1"]));
    assert_eq!((code, err.as_str()), (Some(1), "sidegate: not ready after 1 s: /ready: draining\n"));
    assert_eq!(running.answers_for("a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"), 2);
    // Who waits for something is not well yet: others wait for it to be.
    drop(running);
    let required = "[[discovery]]\nkind = \"file\"\npath = \"/nonexistent/ids\"\nrequired = true\n";
    let lab = Lab::new(&format!("{}{required}", listening(0, &admin)));
    let _running = Running::start(&lab);
    let (code, _, err) = run(lab.command(&["health"]));
    assert_eq!(code, Some(1));
    assert!(err.starts_with("sidegate: /ready: pending: "), "{err}");
}

#[test]
fn check_names_each_source_and_how_often_it_is_read() {
    let sources = "[[discovery]]\nkind = \"file\"\npath = \"/srv/ids\"\ninterval = \"90s\"\n[[discovery]]\nkind = \
                   \"learned\"\n";
    let (code, out, _) = run(Lab::new(&format!("{}{sources}", listening(0, ""))).command(&["check"]));
    assert_eq!(code, Some(0));
    let expected = "  ids              1 id listed, 2 sources\n  source           file /srv/ids, every 90s\n  source           \
                    learned\n";
    assert!(out.ends_with(expected), "{out}");
}

#[test]
fn check_says_that_ids_are_learned_and_which_files_a_start_would_miss() {
    let tls = "[dns]\nlisten = []\ntls_certificate = \"/nonexistent/chain.pem\"\ntls_key = \"/nonexistent/key.pem\"\n\
               tls.listen = [\"127.0.0.1:0\"]\n[forward]\nextra_roots = [\"/nonexistent/roots.pem\"]\n";
    let toml = format!("[policy]\nregion = \"us-east-1\"\n{tls}");
    let (code, out, err) = run(Lab::new(&toml).command(&["check"]));
    assert_eq!(code, Some(0));
    assert!(
        out.ends_with(
            "  source           learned, as nothing lists ids: one that public DNS does not know is private\n"
        )
    );
    for missing in ["chain.pem", "roots.pem"] {
        let told = err.lines().any(|line| line.starts_with("sidegate: warning: ") && line.contains(missing));
        assert!(told, "{missing}: {err}");
    }
}

#[test]
fn a_running_sidegate_is_waited_for_found_well_reloaded_and_drained() {
    let admin = format!("127.0.0.1:{}", free_port());
    let lab = Lab::new(&listening(0, &admin));
    let mut running = Running::start(&lab);
    assert_eq!(run(lab.command(&["wait"])).0, Some(0));
    assert_eq!(run(lab.command(&["health"])).0, Some(0));
    let (private, later) =
        ("a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", "later1.execute-api.us-east-1.amazonaws.com");
    assert_eq!((running.answers_for(private), running.answers_for(later)), (2, 0));

    let changed = listening(0, &admin).replace("\"a1b2c3d4e5\"", "\"a1b2c3d4e5\", \"later1\"");
    std::fs::write(&lab.file, changed).unwrap();
    running.signal(Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(10);
    while running.answers_for(later) == 0 {
        assert!(Instant::now() < deadline, "the reload did not arrive");
    }
    for refused in ["", "# nothing but a comment\n", "[policy]\nregion = \"mars-north-1\"\n"] {
        std::fs::write(&lab.file, refused).unwrap();
        running.signal(Signal::HUP);
        assert_eq!((running.answers_for(private), running.answers_for(later)), (2, 2));
    }
    running.signal(Signal::TERM);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn a_second_sidegate_on_the_same_port_exits_1_and_names_address_and_key() {
    let mut running = Running::start(&Lab::new(&listening(0, "")));
    let second = Lab::new(&listening(running.dns.port(), ""));
    let (code, _, err) = run(second.command(&["run"]));
    assert_eq!(code, Some(1));
    let expected = format!("dns.listen: cannot bind {}: another process has this address", running.dns);
    assert!(err.contains(&expected), "{err}");
    running.signal(Signal::INT);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn the_demo_comes_out_as_it_should() {
    let mut command = bare();
    command.arg("demo");
    let (code, out, err) = run(command);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out.matches("endpoint -> 403 Forbidden").count(), 2, "two calls fail without Sidegate: {out}");
    for way in ["Sidegate's DNS ", "HTTPS_PROXY   ", "SNI   ", "plain HTTP   "] {
        let row = out.lines().find(|line| line.starts_with(way)).unwrap();
        let results = (row.matches("endpoint -> 200 OK").count(), row.matches("internet -> 200 OK").count());
        assert_eq!(results, (1, 2), "and none with it: {out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
}

#[test]
fn a_demo_that_is_kept_leaves_nothing_behind_whoever_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let temporary = tempfile::tempdir().unwrap();
        let left = || std::fs::read_dir(temporary.path()).unwrap().count();
        let mut command = bare();
        command.args(["demo", "--keep"]).env("TMPDIR", temporary.path()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // The last of the lines to try.
        let shown = lines.by_ref().any(|line| line.contains("Ctrl-C"));
        assert!(shown && left() == 1);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!((child.wait().unwrap().code(), left()), (Some(0), 0), "{signal:?}");
    }
}
