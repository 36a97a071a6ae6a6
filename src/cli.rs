//! The commands: what a person or a container runtime types. `main` calls [`main`] and nothing else.
//!
//! Exit codes: 0, 1 for a failure or "not well", 64 for a wrong command line, 78 for a wrong configuration (sysexits.h).

mod check;
mod demo;
mod discover;
mod doctor;
mod resolv_conf;
mod route;
mod run;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use self::route::Asked;
use crate::admin;
use crate::app::Surroundings;
use crate::config::{Config, ConfigErrors, Inputs};
use crate::dns;

/// Something that another try may mend.
const FAILURE: u8 = 1;
/// A wrong command line, EX_USAGE.
const USAGE: u8 = 64;
/// A wrong configuration, EX_CONFIG.
const CONFIG: u8 = 78;
/// `wait` asks this often.
const POLL: Duration = Duration::from_millis(100);
/// `wait` waits no longer than this, a hundred years.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// `health` is over within this.
const HEALTH: Duration = Duration::from_millis(1800);

const ABOUT: &str = "Public and private API Gateway APIs from one VPC, while private DNS stays on";
const MANUAL: &str = "\
Sidegate leads calls of private APIs to the VPC endpoint and all others past it, in either of two ways. As a DNS server: \
names of private APIs get the addresses of the endpoint, everything else is forwarded; `sidegate resolv-conf` points \
resolv.conf at it. As a proxy, for programs that take one: HTTPS_PROXY=http://127.0.0.1:3128.

Without any configuration `sidegate run` answers DNS on 127.0.0.1:5353, takes CONNECT on 127.0.0.1:3128, shows what it knows \
on http://127.0.0.1:9180/, takes the region from AWS_REGION, finds the endpoint through the VPC resolver and learns which \
ids are private from public DNS. `sidegate demo` shows all of it on loopback.

Configuration: --config FILE, else SIDEGATE_CONFIG (a path) or SIDEGATE_CONFIG_TOML (a whole file), else \
/etc/sidegate/sidegate.toml. Every key has a variable, SIDEGATE_POLICY__PRIVATE_API_IDS=a1b2c3d4e5,k1l2m3n4o5, but for \
those of [[endpoint]], [[discovery]] and [[upstream.zone]], which stand in a file.

Exit codes: 0 done, 1 failure or not well, 64 wrong command line, 78 wrong configuration. SIGHUP reloads, SIGTERM drains.";

#[derive(Debug, Parser)]
#[command(name = "sidegate", version, about = ABOUT, after_help = MANUAL)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Read this file instead of /etc/sidegate/sidegate.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve DNS, the proxy and the admin page until SIGTERM (the default)
    Run,
    /// Read the configuration, say whether it is right, and what it means
    Check,
    /// Say which way a name goes, by which rule, and who said so
    Route {
        /// A host name, a URL, or an id alone, which stands for its name in each zone of ours
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say why a call gets a 403, or no answer, and what to do about it
    #[command(after_help = doctor::MANUAL)]
    Doctor {
        #[command(flatten)]
        call: doctor::Call,
    },
    /// Show the problem and its cure in a VPC on loopback
    Demo {
        /// Leave it running, with lines to try
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        alone: demo::Alone,
    },
    /// List the private APIs of this account, for a file or URL that a fleet reads
    #[command(after_help = discover::MANUAL)]
    Discover {
        /// One id a line, or all that is known of each as JSON
        #[arg(long, value_enum, default_value_t = discover::Format::Lines)]
        format: discover::Format,
        /// Replace this file, instead of printing; - is stdout
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Point resolv.conf at the running Sidegate, or put it back as it was
    #[command(after_help = resolv_conf::MANUAL)]
    ResolvConf {
        #[command(subcommand)]
        what: resolv_conf::What,
        /// Change this file
        #[arg(long, value_name = "PATH", default_value = "/etc/resolv.conf", global = true)]
        file: PathBuf,
    },
    /// Wait until the running Sidegate is ready; with --timeout 1, a container's readiness probe
    Wait {
        /// Seconds to wait at most
        #[arg(long, default_value_t = 30)]
        timeout: u64,
    },
    /// Ask the running Sidegate whether it is well, draining or not, for a container's health check
    Health,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. Where even this cannot be printed, the code still speaks.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let config = cli.config.as_deref();
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => with_config(config, |config_read| run::run(config_read, config)),
        Command::Check => with_config(config, |config| check::check(&config)),
        Command::Route { name, json } => match Asked::of(&name) {
            Ok(asked) => with_config(config, |config| {
                block_on(route::route(&config, &Surroundings::of_host(), &asked, json, &mut io::stdout()))
            }),
            Err(error) => wrong_command_line(&error),
        },
        Command::Doctor { call } => {
            let surroundings = Surroundings::of_host();
            match call.read(&surroundings) {
                Ok(read) => with_config(config, |config| {
                    block_on(doctor::doctor(&config, &surroundings, &read, call.json, &mut io::stdout()))
                }),
                Err(error) => wrong_command_line(&error),
            }
        }
        Command::Discover { format, output } => with_config(config, |config| {
            let (surroundings, output) = (Surroundings::of_host(), output.as_deref());
            block_on(discover::discover(&config, &surroundings, format, output, &mut io::stdout()))
        }),
        Command::Demo { keep, alone } => block_on(demo::run(keep, alone)),
        // What is put back stands in the file: no configuration is needed, and a wrong one must not be in the way.
        Command::ResolvConf { what: resolv_conf::What::Restore, file } => resolv_conf::restore(&file),
        Command::ResolvConf { what: resolv_conf::What::Install, file } => with_config(config, |config| {
            let surroundings = Surroundings { resolv_conf: file, ..Surroundings::of_host() };
            block_on(resolv_conf::install(&config, &surroundings))
        }),
        Command::Wait { timeout } => {
            with_config(config, |config| block_on(wait(&config, Duration::from_secs(timeout))))
        }
        Command::Health => with_config(config, |config| block_on(health(&config))),
    }
}

/// Loads the configuration; where it is wrong, says everything that is wrong with it.
fn with_config(path: Option<&Path>, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match load(path) {
        Ok(config) => command(config),
        Err(errors) => {
            complain(errors);
            CONFIG.into()
        }
    }
}

fn load(path: Option<&Path>) -> Result<Config, ConfigErrors> {
    Config::load(&Inputs::gather(path, std::env::vars_os())?)
}

/// Says what went wrong. Where standard error is closed, the exit code is all there is.
fn complain(problem: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "sidegate: {problem}");
}

/// Where clap is not to say it, since it prints what was typed.
fn wrong_command_line(error: &anyhow::Error) -> ExitCode {
    complain(format!("{error:#}"));
    USAGE.into()
}

/// Prints a line; a reader that has gone away is no failure of ours.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A number of things, in the singular where there is one.
fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn block_on(command: impl Future<Output = anyhow::Result<bool>>) -> ExitCode {
    let done = Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(command));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn wait(config: &Config, patience: Duration) -> anyhow::Result<bool> {
    let admin = config.admin.listen.ok_or_else(|| anyhow::anyhow!("admin.listen is off: there is nothing to ask"))?;
    let deadline = Instant::now() + patience.min(FOREVER);
    loop {
        let Err(reason) = admin::client::ask(admin, "/ready").await else { return Ok(true) };
        if Instant::now() + POLL >= deadline {
            anyhow::bail!("not ready after {} s: {reason}", patience.as_secs());
        }
        sleep(POLL).await;
    }
}

/// Alive, and ready or draining; where admin is off, alive, as DNS or, where that is off too, the forwarder shows.
async fn health(config: &Config) -> anyhow::Result<bool> {
    let asked = async {
        match config.admin.listen {
            Some(admin) => admin::client::is_well(admin).await?,
            None if !config.dns.listen.is_empty() => {
                for listener in &config.dns.listen {
                    dns::health::ask(*listener).await?;
                }
            }
            None => {
                let entrances: Vec<_> = config.forward.listeners().map(|(_, listener)| listener).collect();
                if entrances.is_empty() {
                    return Err(
                        "admin.listen and dns.listen are off, and so is the forwarder: there is nothing to ask".into(),
                    );
                }
                for listener in entrances {
                    let connected = TcpStream::connect(listener).await;
                    connected.map_err(|error| format!("{listener} takes no connection: {error}"))?;
                }
            }
        }
        Ok::<_, String>(())
    };
    match tokio::time::timeout(HEALTH, asked).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(reason)) => Err(anyhow::anyhow!(reason)),
        Err(_) => Err(anyhow::anyhow!("no answer in time")),
    }
}
