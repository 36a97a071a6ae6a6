//! resolv.conf while Sidegate runs: taken over once names are resolved, kept, and given back. All on loopback and on a file
//! of the test's own; the port that stands for 53 is whichever is free.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use sidegate::app::{App, Installed, Surroundings, install};
use sidegate::config::{Config, Inputs};
use sidegate::demo::client;
use sidegate::demo::dns_server::DnsServer;
use sidegate::demo::zones::Zones;
use sidegate::discovery::Metadata;
use sidegate::policy::Upstream;
use sidegate::resolv_conf::{former_servers, name_servers};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const BEFORE: &[u8] = b"search corp.internal\r\noptions ndots:2\nnameserver 127.0.0.5";
const US: [u8; 4] = [127, 0, 0, 1];
/// Everything here takes a few seconds; beyond this it never will.
const PATIENCE: Duration = Duration::from_secs(30);

/// A resolver of the VPC, and a file that names it.
struct Lab {
    folder: TempDir,
    _vpc: DnsServer,
    port: u16,
}

/// A world in which `db.corp.internal` has one address.
fn zones(db: [u8; 4]) -> Zones {
    let mut zones = Zones::default();
    for zone in [".", "corp.internal"] {
        zones.add_zone(zone).unwrap();
    }
    zones.add_captured_zone("execute-api.us-east-1.amazonaws.com", 60, &[Ipv4Addr::new(10, 0, 1, 10)]).unwrap();
    zones.add_a("db.corp.internal", 60, &[db.into()]).unwrap();
    zones
}

impl Lab {
    async fn new() -> Self {
        let vpc = DnsServer::start([127, 0, 0, 5].into(), zones([10, 5, 5, 5])).await.unwrap();
        let lab = Self { folder: tempfile::tempdir().unwrap(), port: vpc.address().port(), _vpc: vpc };
        fs::write(lab.file(), BEFORE).unwrap();
        lab
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    fn text(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap_or_default()
    }

    fn around(&self) -> Surroundings {
        let imds = SocketAddr::from(([127, 0, 0, 1], 1));
        let metadata = Metadata { ecs: None, imds };
        Surroundings { metadata, resolv_conf: self.file(), name_server_port: self.port }
    }

    /// The port stands for 53, which the rule of configurations about `dns.take_over` does not know.
    fn config(&self, ip: [u8; 4], take_over: bool) -> Config {
        let listen = SocketAddr::from((ip, self.port));
        let toml = format!(
            "state_dir = \"\"\n[policy]\nregion = \"us-east-1\"\nprivate_api_ids = [\"a1b2c3d4e5\"]\n\
             [upstream]\npublic = [\"127.0.0.9\"]\n\
             [dns]\nlisten = [\"{listen}\"]\nworkers = 1\n[forward.connect]\nlisten = []\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n"
        );
        let config = Config::load(&Inputs { file: Some(("test".to_owned(), toml)), environment: Vec::new() }).unwrap();
        Config { take_over, ..config }
    }

    /// Who is installed by the command asks a resolver that is there.
    fn installed(&self, ip: [u8; 4]) -> Config {
        let config = self.config(ip, false);
        Config { default_upstream: Upstream::Vpc, default_upstream_is_set: true, ..config }
    }

    /// Starts one that takes the file over, and waits until it has.
    async fn start(&self, ip: [u8; 4]) -> App {
        let app = App::start(self.config(ip, true), self.around()).await.unwrap();
        timeout(PATIENCE, app.is_ready()).await.unwrap();
        app
    }

    /// Ends it as a panic would, and waits until its address is free again.
    async fn end(&self, app: App) {
        let address = app.dns_addresses()[0];
        drop(app);
        let is_free = || UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
        self.until("its address is free", |_| is_free()).await;
    }

    /// What a program finds that reads the file and asks whom it names.
    async fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let server = name_servers(&self.text())[0];
        client::resolve(SocketAddr::new(server, self.port), name).await.unwrap_or_default()
    }

    async fn until(&self, what: &str, mut true_of: impl FnMut(&[u8]) -> bool) {
        let waited = timeout(PATIENCE, async {
            while !true_of(&self.text()) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: {}", String::from_utf8_lossy(&self.text()));
    }
}

fn ip(octets: [u8; 4]) -> IpAddr {
    octets.into()
}

/// Serves what comes up between reloads, as `run` does.
async fn attend(app: &mut App, until: impl Future<Output = ()>) {
    tokio::select! {
        () = until => {}
        _ = app.reload_requested() => panic!("nobody asked for a reload"),
    }
}

#[tokio::test]
async fn the_file_leads_here_while_we_run_its_servers_are_the_vpcs_and_then_it_is_as_it_was() {
    let lab = Lab::new().await;
    let app = lab.start(US).await;
    assert_eq!(name_servers(&lab.text()), [ip(US)]);
    assert_eq!(former_servers(&lab.text()), [ip([127, 0, 0, 5])]);
    assert_eq!(lab.resolve("db.corp.internal").await, [ip([10, 5, 5, 5])], "vpc is the default upstream");
    assert_eq!(lab.resolve("a1b2c3d4e5.execute-api.us-east-1.amazonaws.com").await, [ip([10, 0, 1, 10])]);
    assert!(app.take_over_totals().leads_to_us());

    // Who read the file before it was put back still finds somebody.
    let dns = app.dns_addresses()[0];
    let totals = app.take_over_totals();
    let draining = tokio::spawn(app.drain());
    lab.until("the file is as it was", |text| text == BEFORE && !totals.leads_to_us()).await;
    assert_eq!(client::resolve(dns, "db.corp.internal").await.unwrap(), [ip([10, 5, 5, 5])]);
    timeout(PATIENCE, draining).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_is_killed_leaves_a_file_in_which_the_next_one_finds_the_servers_never_itself() {
    let lab = Lab::new().await;
    let app = lab.start(US).await;
    let left = lab.text();
    lab.end(app).await;
    assert_eq!(lab.text(), BEFORE, "an end of any kind puts it back");
    fs::write(lab.file(), &left).unwrap();
    // Without take_over, as under a unit: the servers and the default upstream are those of a file taken over.
    let app = App::start(lab.config(US, false), lab.around()).await.unwrap();
    timeout(PATIENCE, app.is_ready()).await.unwrap();
    assert_eq!(lab.resolve("db.corp.internal").await, [ip([10, 5, 5, 5])]);
    assert_eq!(lab.text(), left);
    let around = lab.around();
    let again = install(&lab.config(US, false), &around).await.unwrap();
    assert_eq!((again, lab.text()), (Installed::Already { address: ip(US) }, left));
}

#[tokio::test]
async fn another_programs_rewrite_is_counted_and_redone_and_its_servers_are_asked_from_then_on() {
    let lab = Lab::new().await;
    let mut app = lab.start(US).await;
    let totals = app.take_over_totals();
    assert_eq!((totals.foreign_rewrites(), totals.writes()), (0, 1));
    let _dhcp = DnsServer::start_at(([127, 0, 0, 6], lab.port).into(), zones([10, 6, 6, 6])).await.unwrap();
    // By another file in its place, as DHCP clients do.
    let beside = lab.folder.path().join("new");
    fs::write(&beside, "nameserver 127.0.0.6\n").unwrap();
    fs::rename(beside, lab.file()).unwrap();
    let redone = lab.until("taken over again", |text| name_servers(text) == [ip(US)] && totals.writes() == 2);
    attend(&mut app, redone).await;
    assert_eq!((totals.foreign_rewrites(), totals.writes()), (1, 2));
    assert_eq!(former_servers(&lab.text()), [ip([127, 0, 0, 6])]);
    assert_eq!(lab.resolve("db.corp.internal").await, [ip([10, 6, 6, 6])]);
    drop(app);
    assert_eq!(lab.text(), b"nameserver 127.0.0.6\n");
}

#[tokio::test]
async fn without_take_over_a_rewrite_of_what_was_installed_is_counted_and_left_as_it_is() {
    let lab = Lab::new().await;
    let config = lab.installed(US);
    let mut app = App::start(config.clone(), lab.around()).await.unwrap();
    timeout(PATIENCE, app.is_ready()).await.unwrap();
    let totals = app.take_over_totals();
    let seen = || (totals.leads_to_us(), totals.foreign_rewrites());
    install(&config, &lab.around()).await.unwrap();
    let installed = lab.text();
    lab.until("seen without a reload", |_| seen() == (true, 0)).await;
    // As a lease is renewed; then with a second server, which some programs would ask as well.
    let second = [b"nameserver 127.0.0.6\n".as_slice(), &installed].concat();
    for (before, rewritten) in [BEFORE.to_vec(), second].into_iter().enumerate() {
        fs::write(lab.file(), &rewritten).unwrap();
        lab.until("counted", |_| seen() == (false, before as u64 + 1)).await;
        sleep(Duration::from_millis(2500)).await;
        assert_eq!((lab.text(), seen()), (rewritten, (false, before as u64 + 1)), "not written, and counted once");
        fs::write(lab.file(), &installed).unwrap();
        lab.until("led here again", |_| seen() == (true, before as u64 + 1)).await;
    }
    // A reload in which nothing of this changes forgets nothing, and the end is not ours to prepare.
    app.reload(config).await.unwrap();
    assert_eq!(seen(), (true, 2));
    drop(app);
    assert_eq!((lab.text(), totals.writes(), totals.leads_to_us()), (installed, 0, false));
}

#[tokio::test]
async fn servers_that_another_program_puts_in_are_asked_without_a_reload_whoever_takes_the_file() {
    let lab = Lab::new().await;
    let config = lab.installed(US);
    let mut app = App::start(config.clone(), lab.around()).await.unwrap();
    timeout(PATIENCE, app.is_ready()).await.unwrap();
    install(&config, &lab.around()).await.unwrap();
    assert_eq!(lab.resolve("db.corp.internal").await, [ip([10, 5, 5, 5])]);
    let asked = async |db| {
        while lab.resolve("db.corp.internal").await != [ip(db)] {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let again = async |before: &[u8], db| {
        fs::write(lab.file(), before).unwrap();
        let installed = install(&config, &lab.around()).await.unwrap();
        assert!(matches!(installed, Installed::Now { .. }), "{installed:?}");
        timeout(PATIENCE, asked(db)).await.unwrap();
    };
    let dhcp = DnsServer::start_at(([127, 0, 0, 6], lab.port).into(), zones([10, 6, 6, 6])).await.unwrap();
    attend(&mut app, again(b"nameserver 127.0.0.6\n", [10, 6, 6, 6])).await;
    // Where those of before are gone it can be installed again only because they are not asked any more.
    drop(dhcp);
    let _third = DnsServer::start_at(([127, 0, 0, 7], lab.port).into(), zones([10, 7, 7, 7])).await.unwrap();
    attend(&mut app, again(b"nameserver 127.0.0.7\n", [10, 7, 7, 7])).await;
}

#[tokio::test]
async fn a_listener_that_an_installed_file_leads_to_does_not_go_by_a_reload() {
    let lab = Lab::new().await;
    let config = lab.installed(US);
    let mut app = App::start(config.clone(), lab.around()).await.unwrap();
    timeout(PATIENCE, app.is_ready()).await.unwrap();
    install(&config, &lab.around()).await.unwrap();
    let (installed, us, other) = (lab.text(), SocketAddr::from((US, lab.port)), [127, 0, 0, 2]);
    let mut without = lab.installed(US);
    without.dns.listen.clear();
    for gone in [lab.installed(other), without] {
        let error = format!("{:#}", app.reload(gone).await.unwrap_err());
        let wanted =
            format!("where nobody would answer any more: keep {us}, or run `sidegate resolv-conf restore` first");
        assert!(error.starts_with("dns.listen: ") && error.ends_with(&wanted), "{error}");
        assert_eq!((app.dns_addresses(), lab.text()), (vec![us], installed.clone()));
        assert_eq!(lab.resolve("db.corp.internal").await, [ip([10, 5, 5, 5])]);
    }
    // More listeners, or one by which the same address answers, are about something else.
    let mut more = config.clone();
    more.dns.listen.push((other, lab.port).into());
    app.reload(more).await.unwrap();
    fs::write(lab.file(), BEFORE).unwrap();
    app.reload(lab.installed(other)).await.unwrap();
    assert_eq!(app.dns_addresses(), [SocketAddr::from((other, lab.port))]);
}

#[tokio::test]
async fn who_writes_the_file_anew_from_what_it_reads_in_it_does_not_make_us_forget_the_servers() {
    let lab = Lab::new().await;
    // One that others installed, whose configuration then turns it on.
    let config = lab.installed(US);
    let mut app = App::start(config.clone(), lab.around()).await.unwrap();
    timeout(PATIENCE, app.is_ready()).await.unwrap();
    install(&config, &lab.around()).await.unwrap();
    let totals = app.take_over_totals();
    lab.until("seen", |_| totals.leads_to_us()).await;
    let parsed = b"search corp.internal\noptions ndots:2\nnameserver 127.0.0.1\n";
    fs::write(lab.file(), parsed).unwrap();
    app.reload(lab.config(US, true)).await.unwrap();
    for writes in 1..3 {
        lab.until("taken over again", |text| text != parsed && totals.writes() == writes).await;
        assert_eq!(former_servers(&lab.text()), [ip([127, 0, 0, 5])]);
        fs::write(lab.file(), parsed).unwrap();
    }
    lab.end(app).await;
    assert_eq!(lab.text(), BEFORE, "also where we end before we have looked");
}

#[tokio::test]
async fn two_in_one_task_do_not_fight_and_the_one_left_takes_over() {
    let lab = Lab::new().await;
    let first = lab.start(US).await;
    let taken = lab.text();
    let other = [127, 0, 0, 2];
    let second = lab.start(other).await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(lab.text(), taken);
    assert!(!second.take_over_totals().leads_to_us());
    let from_second = client::resolve(SocketAddr::from((other, lab.port)), "db.corp.internal").await.unwrap();
    assert_eq!(from_second, [ip([10, 5, 5, 5])], "it asks the former servers, not its neighbour");
    drop(first);
    lab.until("the second has it", |text| name_servers(text) == [ip(other)]).await;
    assert_eq!(second.take_over_totals().foreign_rewrites(), 0);
    lab.end(second).await;
    assert_eq!(lab.text(), BEFORE);
    // One that was killed has left its form behind, and does not answer.
    fs::write(lab.file(), &taken).unwrap();
    let second = lab.start(other).await;
    assert_eq!(name_servers(&lab.text()), [ip(other)]);
    drop(second);
    assert_eq!(lab.text(), BEFORE);
}

#[tokio::test]
async fn a_file_that_leads_to_another_listener_of_ours_is_ours_to_keep_and_to_put_back() {
    let lab = Lab::new().await;
    let other = [127, 0, 0, 2];
    let killed = lab.start(other).await;
    let left = lab.text();
    lab.end(killed).await;
    fs::write(lab.file(), &left).unwrap();
    let mut config = lab.config(US, true);
    config.dns.listen.push((other, lab.port).into());
    let mut app = App::start(config.clone(), lab.around()).await.unwrap();
    timeout(PATIENCE, app.is_ready()).await.unwrap();
    assert_eq!((name_servers(&lab.text()), app.take_over_totals().leads_to_us()), (vec![ip(US)], true));
    // What is put back is whatever leads to us when we end, also to one that a reload has brought.
    let third = [127, 0, 0, 3];
    config.dns.listen.push((third, lab.port).into());
    app.reload(config).await.unwrap();
    assert_eq!(name_servers(&lab.text()), [ip(US)]);
    fs::write(lab.file(), String::from_utf8(left).unwrap().replace("127.0.0.2", "127.0.0.3")).unwrap();
    lab.end(app).await;
    assert_eq!(lab.text(), BEFORE);
}

#[tokio::test]
async fn nothing_is_changed_before_names_are_resolved_and_ready_waits_for_it() {
    let lab = Lab::new().await;
    // Nobody is there yet.
    fs::write(lab.file(), "nameserver 127.0.0.7\n").unwrap();
    let config = lab.config(US, true);
    let mut app = App::start(config.clone(), lab.around()).await.unwrap();
    let refused = install(&config, &lab.around()).await.unwrap_err().to_string();
    assert!(refused.contains("stays as it is") && refused.contains("SERVFAIL for amazonaws.com ("), "{refused}");
    assert!(!refused.contains("is `sidegate run` up?"), "it is up: {refused}");
    for reloaded in [false, true] {
        if reloaded {
            app.reload(lab.config([127, 0, 0, 2], true)).await.unwrap();
        }
        let pending = sidegate::admin::client::ask(app.admin_address().unwrap(), "/ready").await.unwrap_err();
        assert!(pending.contains("dns.take_over"), "{pending}");
    }
    assert_eq!(lab.text(), b"nameserver 127.0.0.7\n");
    let _late = DnsServer::start_at(([127, 0, 0, 7], lab.port).into(), zones([10, 7, 7, 7])).await.unwrap();
    timeout(PATIENCE, app.is_ready()).await.unwrap();
    assert_eq!(name_servers(&lab.text()), [ip([127, 0, 0, 2])]);
}

#[tokio::test]
async fn whoever_keeps_the_file_locked_neither_stops_us_nor_keeps_it_from_being_put_back() {
    let lab = Lab::new().await;
    let lock = fs::File::open(lab.file()).unwrap();
    lock.lock().unwrap();
    let app = lab.start(US).await;
    assert_eq!(name_servers(&lab.text()), [ip(US)]);
    lab.end(app).await;
    assert_eq!(lab.text(), BEFORE, "an end of any kind");
    let app = lab.start(US).await;
    timeout(PATIENCE, app.drain()).await.unwrap();
    assert_eq!(lab.text(), BEFORE, "an end in good order");
}

#[tokio::test]
async fn a_file_that_is_gone_leads_nobody_here_and_is_taken_over_again_once_it_is_back() {
    let lab = Lab::new().await;
    let app = lab.start(US).await;
    let totals = app.take_over_totals();
    fs::remove_file(lab.file()).unwrap();
    lab.until("seen", |_| !totals.leads_to_us()).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!((totals.leads_to_us(), totals.foreign_rewrites()), (false, 1), "counted once");
    fs::write(lab.file(), BEFORE).unwrap();
    lab.until("taken over again", |text| name_servers(text) == [ip(US)] && totals.leads_to_us()).await;
    assert_eq!((totals.foreign_rewrites(), totals.writes()), (1, 2));
    lab.end(app).await;
    assert_eq!(lab.text(), BEFORE);
}

#[tokio::test]
async fn who_answers_but_is_no_sidegate_is_not_installed() {
    let lab = Lab::new().await;
    let error = install(&lab.config([127, 0, 0, 5], false), &lab.around()).await.unwrap_err().to_string();
    assert!(error.contains("is no Sidegate") && !error.contains("is `sidegate run` up?"), "{error}");
    let error = install(&lab.config([127, 0, 0, 8], false), &lab.around()).await.unwrap_err().to_string();
    assert!(error.contains("does not answer") && error.ends_with(": is `sidegate run` up?"), "{error}");
    assert_eq!(lab.text(), BEFORE);
}

#[tokio::test]
async fn a_reload_turns_it_on_and_off_and_follows_the_listener() {
    let lab = Lab::new().await;
    let mut app = App::start(lab.config(US, false), lab.around()).await.unwrap();
    app.reload(lab.config(US, true)).await.unwrap();
    lab.until("on", |text| name_servers(text) == [ip(US)]).await;
    let other = [127, 0, 0, 2];
    app.reload(lab.config(other, true)).await.unwrap();
    lab.until("moved", |text| name_servers(text) == [ip(other)]).await;
    assert_eq!(former_servers(&lab.text()), [ip([127, 0, 0, 5])]);
    // One that cannot be done changes nothing.
    app.reload(lab.config([127, 0, 0, 5], true)).await.unwrap_err();
    lab.until("still there", |text| name_servers(text) == [ip(other)]).await;
    app.reload(lab.config(other, false)).await.unwrap();
    assert_eq!(lab.text(), BEFORE);
}

#[tokio::test]
async fn who_has_read_the_file_before_a_reload_moved_it_still_gets_answers_until_it_is_read_again() {
    let lab = Lab::new().await;
    let mut app = lab.start(US).await;
    let (us, other) = (SocketAddr::from((US, lab.port)), [127, 0, 0, 2]);
    let asked = tokio::spawn(async move {
        let mut wrong = 0;
        for _ in 0..150 {
            let answer = client::resolve(us, "db.corp.internal").await;
            wrong += usize::from(answer.unwrap_or_default() != [ip([10, 5, 5, 5])]);
            sleep(Duration::from_millis(10)).await;
        }
        wrong
    });
    sleep(Duration::from_millis(200)).await;
    // Away, back to a listener that is about to close, and away again.
    for to in [other, US, other] {
        app.reload(lab.config(to, true)).await.unwrap();
        lab.until("moved", |text| name_servers(text) == [ip(to)]).await;
        assert_eq!(app.dns_addresses(), [SocketAddr::from((to, lab.port))]);
    }
    assert_eq!(asked.await.unwrap(), 0);
    let is_closed = || UdpSocket::bind(us).is_ok() && TcpListener::bind(us).is_ok();
    assert!(!is_closed());
    let closed = lab.until("closed in the end", |_| is_closed());
    attend(&mut app, closed).await;
    assert_eq!(lab.resolve("db.corp.internal").await, [ip([10, 5, 5, 5])]);
}

#[tokio::test]
async fn a_reload_about_something_else_does_not_ask_for_a_file_that_may_be_written() {
    let lab = Lab::new().await;
    let mut app = lab.start(US).await;
    fs::remove_file(lab.file()).unwrap();
    let mut config = lab.config(US, true);
    config.grace = Duration::from_secs(7);
    app.reload(config).await.unwrap();
    let error = app.reload(lab.config([127, 0, 0, 2], true)).await.unwrap_err();
    assert!(format!("{error:#}").contains("is not there: create it"), "{error:#}");
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_said_before_anything_starts() {
    let lab = Lab::new().await;
    let mut config = lab.config(US, true);
    let missing = Surroundings { resolv_conf: lab.folder.path().join("none"), ..lab.around() };
    let error = format!("{:#}", App::start(config.clone(), missing).await.unwrap_err());
    assert!(error.starts_with("dns.take_over: ") && error.contains("is not there: create it"), "{error}");
    config.dns.listen = vec![([127, 0, 0, 1], lab.port ^ 1).into()];
    let error = format!("{:#}", App::start(config, lab.around()).await.unwrap_err());
    assert!(error.contains(&format!("knows port {} alone", lab.port)), "{error}");
    assert_eq!(lab.text(), BEFORE);
}
