//! The program under test: a configuration, an environment of its own, and no way beyond loopback.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What it is to log it logs within this, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a configuration, and the environment that the program will have.
pub struct Program {
    directory: TempDir,
    toml: String,
    environment: Vec<(String, String)>,
}

/// How it ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Program {
    /// Everything that it could ask by itself is a port of loopback on which nobody listens.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let closed = closed_port();
        let toml = format!(
            "state_dir = \"\"\n[policy]\nregion = \"us-east-1\"\n[upstream]\npublic = [\"127.0.0.1:{closed}\"]\nvpc = \
             [\"127.0.0.1:{closed}\"]\n[[endpoint]]\naddresses = [\"127.0.0.9\"]\nhealth = \"off\"\n"
        );
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let program = Self { directory, toml, environment: Vec::new() };
        program
            .with("HOME", home.to_str().unwrap())
            .with("AWS_EC2_METADATA_DISABLED", "true")
            .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("http://127.0.0.1:{closed}"))
    }

    /// One that asks this API Gateway.
    pub fn asking(endpoint_url: &str) -> Self {
        Self::new().configured(&format!("[[discovery]]\nkind = \"api-gateway\"\nendpoint_url = \"{endpoint_url}\"\n"))
    }

    /// With keys in the environment.
    pub fn with_keys(self) -> Self {
        self.with("AWS_ACCESS_KEY_ID", "AKIDFROMENV").with("AWS_SECRET_ACCESS_KEY", "secret-from-env")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// More of the configuration.
    pub fn configured(mut self, toml: &str) -> Self {
        writeln!(self.toml, "{toml}").unwrap();
        self
    }

    /// The `vpc` upstream.
    pub fn with_vpc(mut self, server: &str) -> Self {
        let start = self.toml.find("vpc = [").unwrap();
        let end = start + self.toml[start..].find(']').unwrap();
        self.toml.replace_range(start..=end, &format!("vpc = [\"{server}\"]"));
        self
    }

    /// A file in its directory.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let config = self.file("sidegate.toml", &self.toml);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidegate"));
        command.env_clear().envs(self.environment.iter().cloned()).args(arguments).arg("--config").arg(config);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        Ended { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// With standard output where a shell would have redirected it.
    pub fn run_into(&self, stdout: File, arguments: &[&str]) -> Ended {
        let Output { status, stderr, .. } = self.command(arguments).stdout(stdout).output().unwrap();
        Ended { code: status.code(), out: String::new(), err: String::from_utf8(stderr).unwrap() }
    }

    /// In its directory, with mounts of its own that these shell words make. `None` where this user may not mount.
    pub fn run_with_mounts(&self, mount: &str, arguments: &[&str]) -> Option<Ended> {
        let may = Command::new("unshare").args(["-rm", "true"]).output().is_ok_and(|ended| ended.status.success());
        let plain = self.command(arguments);
        let mut mounted = Command::new("unshare");
        mounted.args(["-rm", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")]);
        mounted
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        mounted.envs(self.environment.iter().cloned()).current_dir(self.directory.path());
        let Output { status, stdout, stderr } = may.then(|| mounted.output().unwrap())?;
        let text = |octets| String::from_utf8(octets).unwrap();
        Some(Ended { code: status.code(), out: text(stdout), err: text(stderr) })
    }

    /// What `sidegate run` logs, from its start to the first line with these words.
    pub fn logs_until(&self, words: &str) -> String {
        let mut running = self.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(running.stderr.take().unwrap());
        let reader = thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let (deadline, mut log) = (Instant::now() + PATIENCE, String::new());
        while !log.contains(words)
            && let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            log.push_str(&line);
            log.push('\n');
        }
        running.kill().unwrap();
        drop(lines);
        let _ = reader.join().unwrap();
        running.wait().unwrap();
        assert!(log.contains(words), "{log}");
        log
    }

    /// What `sidegate discover --format json` prints.
    pub fn discovered(&self) -> Vec<serde_json::Value> {
        let ended = self.run(&["discover", "--format", "json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// What `sidegate discover` says when it fails.
    pub fn refused(&self) -> String {
        let ended = self.run(&["discover"]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        ended.err
    }
}

/// A port of loopback that nobody listens on.
pub fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
