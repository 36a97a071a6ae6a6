//! Whether each address of an endpoint lets us connect, from what probes and the forwarder's dialer tell. Pure: who calls
//! brings the time. `addresses` keeps one of these for each endpoint, `probe` asks where `health = "tcp"`.
//!
//! An attempt counts against what an address stands for only if it began after the one before it was counted: whatever
//! failed at the same moment is one piece of news, however many clients it struck.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::config::HealthCheck;
use crate::policy::Addresses;

/// Failures in a row that take an address out: one may be a lost packet.
const FALL: u32 = 2;
/// Successes in a row that bring a probed address back: one may be luck while it comes and goes.
const RISE: u32 = 2;
/// How long an address that is not probed stays out: after that only clients can tell whether it is back.
const REST: Duration = Duration::from_secs(30);
/// Addresses followed at most. An endpoint has one for each subnet and family; what a resolver says beyond that is
/// answered and not watched.
const MAX_FOLLOWED: usize = 64;

/// How an attempt to connect to an address of an endpoint ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    Connected,
    /// In words for an operator.
    Failed(String),
    /// Another address of the endpoint, tried later, has accepted earlier.
    Overtaken,
}

/// What is made of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// It was out for its time and is in again unproven: one more failure takes it out.
    Probation,
    Down,
}

/// What has become of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Down,
    /// As was expected of one on probation.
    DownAgain,
    Up,
}

/// The addresses of one endpoint.
#[derive(Debug)]
pub(super) struct Health {
    check: HealthCheck,
    followed: BTreeMap<IpAddr, State>,
}

/// What is known of one address.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) standing: Standing,
    pub(super) since: Instant,
    pub(super) last_error: Option<String>,
    /// How many attempts in a row spoke against `standing`.
    against: u32,
    /// When the last of them was counted, or when the address came on probation.
    counted: Option<Instant>,
}

impl Health {
    /// Nothing is held against any address yet.
    pub(super) fn new(check: HealthCheck) -> Self {
        Self { check, followed: BTreeMap::new() }
    }

    pub(super) fn check(&self) -> HealthCheck {
        self.check
    }

    /// Follows these addresses from now on: what is known of those that stay is kept, of others forgotten.
    pub(super) fn follow(&mut self, addresses: &Addresses, now: Instant) {
        let mut before = std::mem::take(&mut self.followed);
        let fresh = || State { standing: Standing::Up, since: now, last_error: None, against: 0, counted: None };
        let states = each(addresses).map(|ip| (ip, before.remove(&ip).unwrap_or_else(fresh)));
        self.followed = states.take(MAX_FOLLOWED).collect();
    }

    /// Takes over what another one knows of the same addresses; whether there was any.
    pub(super) fn inherit(&mut self, from: &Self) -> bool {
        let mut is_heir = false;
        if self.check == from.check {
            for (ip, state) in &mut self.followed {
                if let Some(known) = from.followed.get(ip) {
                    state.clone_from(known);
                    is_heir = true;
                }
            }
        }
        is_heir
    }

    /// Counts an attempt that began at `begun`, and says what has become of the address by that.
    pub(super) fn count(&mut self, ip: IpAddr, end: AttemptEnd, begun: Instant, now: Instant) -> Option<Change> {
        let state = self.followed.get_mut(&ip)?;
        let failure = match (end, self.check) {
            (AttemptEnd::Connected, _) => None,
            (AttemptEnd::Failed(why), _) => Some(why),
            // The next probe knows better than a race.
            (AttemptEnd::Overtaken, HealthCheck::Tcp) => return None,
            (AttemptEnd::Overtaken, HealthCheck::Off) => Some("another address was faster".to_owned()),
        };
        let (next, needed, change) = match (state.standing, &failure) {
            (Standing::Up, None) | (Standing::Down, Some(_)) => {
                state.against = 0;
                state.last_error = failure.or(state.last_error.take());
                return None;
            }
            (Standing::Up, Some(_)) => (Standing::Down, FALL, Change::Down),
            (Standing::Probation, Some(_)) => (Standing::Down, 1, Change::DownAgain),
            (Standing::Probation, None) => (Standing::Up, 1, Change::Up),
            (Standing::Down, None) => (Standing::Up, if self.check == HealthCheck::Tcp { RISE } else { 1 }, Change::Up),
        };
        if state.counted.is_some_and(|counted| begun < counted) {
            return None;
        }
        (state.against, state.counted) = (state.against + 1, Some(now));
        state.last_error = failure.or(state.last_error.take());
        if state.against < needed {
            return None;
        }
        (state.standing, state.since, state.against) = (next, now, 0);
        Some(change)
    }

    /// When the next address that is not probed comes back on probation.
    pub(super) fn next_return(&self) -> Option<Instant> {
        let rests = |state: &&State| self.check == HealthCheck::Off && state.standing == Standing::Down;
        self.followed.values().filter(rests).map(|state| state.since + REST).min()
    }

    /// Brings back on probation whose time is over.
    pub(super) fn end_rests(&mut self, now: Instant) {
        for state in self.followed.values_mut() {
            if self.check == HealthCheck::Off && state.standing == Standing::Down && state.since + REST <= now {
                (state.standing, state.since, state.counted) = (Standing::Probation, now, Some(now));
            }
        }
    }

    /// What is known of an address; nothing of one that is not followed.
    pub(super) fn of(&self, ip: IpAddr) -> Option<&State> {
        self.followed.get(&ip)
    }

    /// The addresses followed.
    pub(super) fn followed(&self) -> impl Iterator<Item = IpAddr> {
        self.followed.keys().copied()
    }

    fn is_in(&self, ip: IpAddr) -> bool {
        self.of(ip).is_none_or(|state| state.standing != Standing::Down)
    }

    /// Whether addresses are followed, and none of them is up. One on probation is not: nobody has connected to it since.
    pub(super) fn is_none_up(&self) -> bool {
        !self.followed.is_empty() && self.followed.values().all(|state| state.standing != Standing::Up)
    }

    /// Those of an endpoint's addresses that are to be answered and dialled: all of them while none is up, as the fault may
    /// be ours, and no answer would be worse than a wrong one.
    pub(super) fn usable(&self, known: &Addresses) -> Addresses {
        if self.is_none_up() {
            return known.clone();
        }
        let (v4, near_v4) = self.in_of(&known.v4, known.near_v4);
        let (v6, near_v6) = self.in_of(&known.v6, known.near_v6);
        Addresses { v4, v6, near_v4, near_v6, ..known.clone() }
    }

    /// The addresses of one family that are not down, and how many of the first `near` are among them.
    fn in_of<A: Copy + Into<IpAddr>>(&self, all: &[A], near: usize) -> (Vec<A>, usize) {
        let is_in = |address: &&A| self.is_in((**address).into());
        let left = all.iter().filter(is_in).copied().collect();
        (left, all.iter().take(near).filter(is_in).count())
    }
}

/// Every address, of both families.
pub(super) fn each(addresses: &Addresses) -> impl Iterator<Item = IpAddr> {
    addresses.v4.iter().copied().map(IpAddr::V4).chain(addresses.v6.iter().copied().map(IpAddr::V6))
}

#[cfg(test)]
mod tests;
