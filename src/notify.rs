//! What this process tells systemd, or whatever else supervises it, about itself: sd_notify(3).
//!
//! One datagram for each thing that happened, to the socket that NOTIFY_SOCKET names. `app` says what and when.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

/// Octets of a STATUS line; it is to be read at a glance.
const MAX_STATUS: usize = 300;
/// How often, and how many times, a socket whose queue is full is tried again: ten seconds in all.
const AGAIN: Duration = Duration::from_millis(50);
const TRIES: usize = 200;

/// Who is to be told; clones tell the same.
#[derive(Debug, Clone)]
pub struct Notifier {
    socket: Arc<UnixDatagram>,
    supervisor: SocketAddr,
}

/// Something to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// The start is over, or a reload.
    Ready,
    /// A reload begins. Tells the time as well, which systemd wants from version 253 on with Type=notify-reload.
    Reloading,
    Stopping,
    /// For people, in one line.
    Status(&'a str),
    /// Alive.
    Watchdog,
    /// What goes on now may take so long.
    ExtendTimeout(Duration),
}

impl Notifier {
    /// Whoever NOTIFY_SOCKET names; nobody where it is absent.
    ///
    /// # Errors
    /// No address of a Unix socket, or no socket to be had.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        name.map(|name| Self::to(&name)).transpose()
    }

    /// A path, or the name of an abstract socket behind an `@`.
    ///
    /// # Errors
    /// As [`Notifier::from_environment`].
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let supervisor = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Arc::new(socket), supervisor })
    }

    /// Tells all of `states` at once. A supervisor that is gone is no trouble of ours.
    pub async fn tell(&self, states: &[State<'_>]) {
        let message = message(states);
        for _ in 0..TRIES {
            match self.socket.send_to_addr(message.as_bytes(), &self.supervisor) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(AGAIN).await,
                Err(error) => return tracing::debug!(%error, "the supervisor cannot be told: {}", message.trim_end()),
                Ok(_) => return,
            }
        }
        tracing::warn!("the supervisor does not listen: it was not told {}", message.trim_end());
    }
}

/// How long the supervisor waits for [`State::Watchdog`] before it takes this process for dead; `None` if it does not.
pub fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let of_us = env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC").filter(|&microseconds| of_us && microseconds > 0).map(Duration::from_micros)
}

fn message(states: &[State<'_>]) -> String {
    let mut message = String::new();
    for state in states {
        // A String takes whatever is written.
        let _ = match state {
            State::Ready => writeln!(message, "READY=1"),
            State::Reloading => writeln!(message, "RELOADING=1\nMONOTONIC_USEC={}", monotonic().as_micros()),
            State::Stopping => writeln!(message, "STOPPING=1"),
            State::Status(text) => writeln!(message, "STATUS={}", line(text)),
            State::Watchdog => writeln!(message, "WATCHDOG=1"),
            State::ExtendTimeout(time) => writeln!(message, "EXTEND_TIMEOUT_USEC={}", time.as_micros()),
        };
    }
    message
}

/// One line of it: what stands on a line of its own is a variable to the supervisor.
fn line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_STATUS {
        line.truncate(line.floor_char_boundary(MAX_STATUS - "...".len()));
        line.push_str("...");
    }
    line
}

/// The clock that systemd compares with.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_and_an_abstract_name_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("sidegate-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (socket, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{abstract_name}").into()),
        ] {
            Notifier::to(&name).unwrap().tell(&[State::Ready, State::Status("2 ids")]).await;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1\nSTATUS=2 ids\n", "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_supervisor_that_is_gone_costs_nothing() {
        Notifier::to(OsStr::new("/nonexistent/notify")).unwrap().tell(&[State::Watchdog]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_full_queue_does_not_take_is_told_later() {
        let name = format!("sidegate-test-full-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier::to(OsStr::new(&format!("@{name}"))).unwrap();
        while notifier.socket.send_to_addr(b"x", &notifier.supervisor).is_ok() {}
        let told = tokio::spawn(async move { notifier.tell(&[State::Ready]).await });
        sleep(AGAIN * 3).await;
        let mut buffer = [0; 64];
        loop {
            socket.set_nonblocking(told.is_finished()).unwrap();
            let length = socket.recv(&mut buffer).expect("it comes at the end");
            if &buffer[..length] == b"READY=1\n" {
                break;
            }
            sleep(AGAIN).await;
        }
    }

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(message(&[State::Status("a\nREADY=1\n b")]), "STATUS=a READY=1 b\n");
        assert!(message(&[State::Status(&"ä".repeat(500))]).len() <= MAX_STATUS + "STATUS=\n".len());
    }

    #[test]
    fn a_reload_tells_the_time_that_systemd_compares_with() {
        let text = message(&[State::Reloading]);
        let microseconds: u128 = text.trim().strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(microseconds > 0 && monotonic().as_micros() >= microseconds);
    }
}
