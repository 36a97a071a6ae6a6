//! resolv.conf leads to us: at once by `sidegate resolv-conf install`, for as long as we run by `dns.take_over`. Either way
//! it is noticed when another program makes it lead elsewhere.

mod fight;
mod place;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(super) use self::place::Place;
pub(super) use self::watch::TakeOver;
use super::Surroundings;
use crate::config::Config;
use crate::dns::real_answer::{self, NotResolving};
use crate::resolv_conf::{Step, former_servers};

/// A Sidegate that just came up is given this long until its first answer.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);
/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// How it went with resolv.conf since the start, over all configurations.
#[derive(Debug, Default)]
pub struct Totals {
    foreign_rewrites: AtomicU64,
    writes: AtomicU64,
    leads_to_us: AtomicBool,
}

impl Totals {
    /// How often another program changed the file while it led to us.
    pub fn foreign_rewrites(&self) -> u64 {
        self.foreign_rewrites.load(Ordering::Relaxed)
    }

    /// How often we made it lead to us.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Whether it does now, as far as was seen within the last second.
    pub fn leads_to_us(&self) -> bool {
        self.leads_to_us.load(Ordering::Relaxed)
    }
}

/// What came of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// The file leads to this address from now on, in place of these servers.
    Now { address: IpAddr, former: Vec<IpAddr> },
    /// It does already.
    Already { address: IpAddr },
    /// It leads to another Sidegate, which answers.
    Neighbour { address: IpAddr },
}

/// Points resolv.conf at the Sidegate that runs with this configuration, once that resolves names.
///
/// # Errors
/// No listener on port 53, no answer from it, a file that is not ours to write.
pub async fn install(config: &Config, surroundings: &Surroundings) -> anyhow::Result<Installed> {
    let place = Arc::new(Place::of(config, surroundings)?);
    place.check().await?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = real_answer::ask(place.listener()).await {
        if Instant::now() + PAUSE >= deadline {
            let hint = match error {
                NotResolving::Nobody(_) => ": is `sidegate run` up?",
                NotResolving::NotEnough(_) => "",
            };
            anyhow::bail!("{} stays as it is: {error}{hint}", place.path.display());
        }
        sleep(PAUSE).await;
    }
    let mut change = place.install(false).await?;
    if let Step::Neighbour(address) = change.step {
        if real_answer::is_sidegate(place.listener_at(address)).await.is_ok() {
            return Ok(Installed::Neighbour { address });
        }
        change = place.install(true).await?;
    }
    let address = place.address;
    Ok(match change.step {
        Step::Write(text) => Installed::Now { address, former: former_servers(&text) },
        _ => Installed::Already { address },
    })
}
