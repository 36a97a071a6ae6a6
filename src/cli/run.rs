//! `sidegate run`: starts the whole and sees to its signals.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CONFIG, FAILURE, complain};
use crate::app::{App, Supervisor, Surroundings};
use crate::config::{Config, DEFAULT_FILE, Inputs};
use crate::logging::Logging;
use crate::resolv_conf::Refusal;

/// Threads for everything but the UDP workers: what they do is wait.
const MAX_THREADS: usize = 4;

/// For reads and writes of files under way at the end.
const LAST_READS: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT. `path` is `--config`, to be read again at a reload.
pub(super) fn run(config: Config, path: Option<&Path>) -> ExitCode {
    let logging = Logging::start(&config.log);
    // Before there is any thread.
    let supervisor = match Supervisor::from_environment() {
        Ok(supervisor) => supervisor,
        Err(error) => {
            complain(error);
            return ExitCode::FAILURE;
        }
    };
    raise_open_files();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        let done = runtime.block_on(serve(supervisor, config, path, &logging));
        // A read that hangs on a file system that is gone must not keep the process.
        runtime.shutdown_timeout(LAST_READS);
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format!("{error:#}"));
            code(&error).into()
        }
    }
}

/// With which code a start ends that failed. A `dns.take_over` where the file never may be written is a wrong configuration,
/// which no supervisor should try again.
fn code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref().is_some_and(Refusal::is_lasting) { CONFIG } else { FAILURE }
}

async fn serve(supervisor: Supervisor, config: Config, path: Option<&Path>, logging: &Logging) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut had_file = Inputs::gather(path, std::env::vars_os()).is_ok_and(|inputs| inputs.file.is_some());
    let mut app = App::start_under(supervisor, config, Surroundings::of_host()).await?;
    let quit = app.quit_requested();
    tokio::pin!(quit);
    loop {
        let waiting = tokio::select! {
            wish = signals.next() => match wish {
                Wish::Reload => None,
                Wish::End => break,
            },
            waiting = app.reload_requested() => Some(waiting),
            () = &mut quit => break,
        };
        app.reload_begins().await;
        let outcome = tokio::select! {
            outcome = reload(&mut app, path, logging, &mut had_file) => outcome.map_err(|error| format!("{error:#}")),
            // What it reads may be on a file system that is gone.
            () = signals.end() => break,
        };
        match &outcome {
            Ok(()) => tracing::info!("reloaded"),
            Err(error) => tracing::error!("not reloaded, everything is as before: {error}"),
        }
        app.reload_ended(outcome.clone()).await;
        // Who asked may have gone away.
        waiting.map(|waiting| waiting.send(outcome));
    }
    tokio::select! {
        () = app.drain() => {}
        _ = signals.end() => tracing::warn!("told twice: ending now"),
    }
    Ok(())
}

/// Reads the configuration again and changes to it.
async fn reload(app: &mut App, path: Option<&Path>, logging: &Logging, had_file: &mut bool) -> anyhow::Result<()> {
    let inputs = Inputs::gather(path, std::env::vars_os())?;
    refuse_accidents(&inputs, *had_file)?;
    let config = Config::load(&inputs)?;
    let log = config.log;
    app.reload(config).await?;
    *had_file = inputs.file.is_some();
    logging.reload(&log);
    Ok(())
}

/// A file without a key is one in the making, and one that is gone is about to come back: neither is a wish.
fn refuse_accidents(inputs: &Inputs, had_file: bool) -> anyhow::Result<()> {
    if inputs.is_blank() {
        anyhow::bail!("the configuration file has no key: write it whole, then reload");
    }
    if had_file && inputs.file.is_none() {
        anyhow::bail!("{DEFAULT_FILE} is gone: put it back, or restart to run without");
    }
    Ok(())
}

/// What a signal asks for.
enum Wish {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
        }
    }

    /// Returns at the next signal to end; a hangup waits for [`Signals::next`].
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Raises the soft limit of open files to the hard one: connections are bounded here, not by an old default.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // It may be forbidden; then the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_never_be_taken_over_is_a_wrong_configuration_and_one_that_is_not_there_yet_is_none() {
        let path = std::path::PathBuf::from("/etc/resolv.conf");
        let of = |refusal: Refusal| code(&anyhow::Error::from(refusal).context("dns.take_over"));
        assert_eq!(of(Refusal::NotPermitted { path: path.clone() }), CONFIG);
        assert_eq!(of(Refusal::ReadOnly { path: path.clone() }), CONFIG);
        assert_eq!(of(Refusal::Missing { path }), FAILURE);
        assert_eq!(code(&anyhow::anyhow!("no region")), FAILURE);
    }

    #[test]
    fn a_file_that_is_empty_or_gone_is_no_wish_for_the_defaults() {
        let of = |text: &str| Inputs { file: Some(("f".to_owned(), text.to_owned())), ..Inputs::default() };
        let none = Inputs::default();
        assert!(refuse_accidents(&of("grace = \"1s\""), true).is_ok());
        assert!(refuse_accidents(&of("# later\n"), true).is_err());
        assert!(refuse_accidents(&none, true).unwrap_err().to_string().contains("is gone: put it back"));
        assert!(refuse_accidents(&none, false).is_ok(), "there never was one");
    }
}
