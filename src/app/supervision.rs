//! What a supervisor such as systemd hands this process and is told of it: inherited sockets, READY, STATUS, the
//! watchdog. Without one none of this happens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::admin::{Liveness, Readiness, State};
use crate::discovery::{Discovery, Standing};
use crate::inherited::{Inherited, InheritedError};
use crate::notify::{self, Notifier};

/// Once bound, the supervisor is told READY at the latest after this. A required list that does not come is asked for
/// again and again as it is; to be ended and started over for it would only take everything else down with it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often STATUS is looked at; it is sent where it has changed.
const LOOK: Duration = Duration::from_secs(1);
/// What a drain takes at most beyond `linger` and `grace`.
const LAST_STEPS: Duration = Duration::from_secs(15);

/// Who started this process, as far as it says so.
#[derive(Debug, Default)]
pub struct Supervisor {
    pub notifier: Option<Notifier>,
    /// How long it waits for a sign of life.
    pub watchdog: Option<Duration>,
    pub inherited: Inherited,
}

impl Supervisor {
    /// As the environment has it. To be called once, before any thread is started. Sidegate starts no programs, and its
    /// sockets are closed on exec: nobody else comes to see what was meant for it.
    ///
    /// # Errors
    /// A socket that was handed over and that no listener can use.
    pub fn from_environment() -> Result<Self, InheritedError> {
        let notifier = Notifier::from_environment().unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET: nobody is told that this process is ready");
            None
        });
        Ok(Self { notifier, watchdog: notify::watchdog(), inherited: Inherited::from_environment()? })
    }
}

/// Keeps a supervisor informed.
#[derive(Debug, Default)]
pub(super) struct Supervision {
    teller: Option<Arc<Teller>>,
    tasks: JoinSet<()>,
}

/// What STATUS is made of, and what was told.
struct Teller {
    notifier: Notifier,
    readiness: Readiness,
    discovery: watch::Receiver<Arc<Discovery>>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    ready: bool,
    status: String,
    /// Why the last reload was refused, if it was.
    refusal: Option<String>,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").field("notifier", &self.notifier).field("told", &self.told).finish_non_exhaustive()
    }
}

impl Supervision {
    /// Everything is bound and served. Tells what is waited for, READY once that has come, and from then on what changes.
    pub(super) fn start(
        notifier: Option<Notifier>,
        watchdog: Option<Duration>,
        readiness: &Readiness,
        discovery: watch::Receiver<Arc<Discovery>>,
        liveness: Liveness,
    ) -> Self {
        let Some(notifier) = notifier else { return Self::default() };
        let mut tasks = JoinSet::new();
        if let Some(within) = watchdog {
            tasks.spawn(feed(notifier.clone(), within, liveness));
        }
        let teller = Teller { notifier, readiness: readiness.clone(), discovery, told: Mutex::default() };
        let teller = Arc::new(teller);
        tasks.spawn(Arc::clone(&teller).follow());
        Self { teller: Some(teller), tasks }
    }

    pub(super) async fn reload_begins(&self) {
        // Before READY the supervisor knows of a start only.
        if let Some(teller) = self.teller.as_ref().filter(|teller| teller.told(|told| told.ready)) {
            teller.notifier.tell(&[notify::State::Reloading]).await;
        }
    }

    pub(super) async fn reload_ended(&self, outcome: Result<(), String>) {
        let Some(teller) = &self.teller else { return };
        let ready = teller.told(|told| {
            told.refusal = outcome.err();
            told.ready
        });
        if ready {
            teller.tell_ready().await;
        }
    }

    /// Draining begins, and takes no longer than `linger`, `grace` and a little. There is no watchdog any more.
    pub(super) async fn stopping(self, linger: Duration, grace: Duration) {
        let Self { teller, mut tasks } = self;
        tasks.shutdown().await;
        if let Some(teller) = teller {
            let within = notify::State::ExtendTimeout(linger + grace + LAST_STEPS);
            teller.notifier.tell(&[notify::State::Stopping, notify::State::Status("draining"), within]).await;
        }
    }
}

impl Teller {
    async fn follow(self: Arc<Self>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ready = timeout(PATIENCE, async {
            tokio::select! {
                biased;
                () = self.readiness.is_ready() => {}
                () = self.tell_status(&mut looks) => {}
            }
        });
        if ready.await.is_err() {
            tracing::warn!("told the supervisor READY although /ready says no: restarting would not help");
        }
        self.tell_ready().await;
        self.tell_status(&mut looks).await;
    }

    /// Never returns.
    async fn tell_status(&self, looks: &mut tokio::time::Interval) {
        loop {
            looks.tick().await;
            let status = self.status();
            if self.told(|told| told.status != status) {
                self.notifier.tell(&[notify::State::Status(&status)]).await;
                self.told(|told| told.status = status);
            }
        }
    }

    async fn tell_ready(&self) {
        let status = self.status();
        self.notifier.tell(&[notify::State::Ready, notify::State::Status(&status)]).await;
        self.told(|told| (told.ready, told.status) = (true, status));
    }

    fn status(&self) -> String {
        let discovery = Arc::clone(&self.discovery.borrow());
        let endpoints = discovery.address_health();
        let up = |standing| standing != Standing::Down;
        let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let (up, all) =
            addresses.fold((0, 0), |(ups, all), address| (ups + usize::from(up(address.standing)), all + 1));
        let ids = discovery.table().borrow().ids.len();
        let mut parts = match self.readiness.state() {
            State::Ready => Vec::new(),
            State::Pending(pending) => vec![format!("waiting for {}", pending.join(", "))],
            State::Draining => vec!["taken out of service by POST /drain".to_owned()],
        };
        parts.push(format!("{ids} private id{}", if ids == 1 { "" } else { "s" }));
        // Without any, the endpoint's problem says why.
        if all > 0 {
            parts.push(format!("{up} of {all} endpoint addresses up"));
        }
        let problems = endpoints.iter().filter_map(|endpoint| Some((&endpoint.label, endpoint.problem.as_ref()?)));
        parts.extend(problems.map(|(label, problem)| format!("{label}: {problem}")));
        // First, as it is what somebody should act on. The log has all of it.
        let first_line = |why: &String| format!("reload refused: {}", why.lines().next().unwrap_or_default());
        let refusal = self.told(|told| told.refusal.as_ref().map(first_line));
        refusal.into_iter().chain(parts).collect::<Vec<_>>().join("; ")
    }

    fn told<T>(&self, see: impl FnOnce(&mut Told) -> T) -> T {
        see(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells that this process is alive, twice as often as it must, for as long as every UDP listener answers.
async fn feed(notifier: Notifier, within: Duration, liveness: Liveness) {
    let mut turns = interval(within / 2);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut well = true;
    loop {
        turns.tick().await;
        let outcome = liveness().await;
        match &outcome {
            Ok(()) => notifier.tell(&[notify::State::Watchdog]).await,
            Err(reason) if well => tracing::error!("the watchdog is not fed: {reason}"),
            Err(_) => {}
        }
        well = outcome.is_ok();
    }
}

#[cfg(test)]
mod tests;
