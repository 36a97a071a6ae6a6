//! What is known of every endpoint's addresses, and which of them the table has: those that are not down.
//!
//! `endpoints` sets what DNS says, `probe` and the forwarder's dialer (by way of `app`) tell how attempts to connect
//! ended; a table is published only where that changes what is answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::config::{EndpointConfig, HealthCheck};
use super::health::{AttemptEnd, Change, Health, Standing, each};
use super::merge::{Discovery, State};
use crate::policy::{Addresses, Endpoint, EndpointIndex, Table};

/// One endpoint.
#[derive(Debug)]
pub(super) struct Followed {
    /// Every address, also those that are down.
    pub(super) known: Addresses,
    pub(super) health: Health,
    /// How people tell it from others.
    label: String,
    port: u16,
    /// The log says that no address is up, and none has been since.
    told_none_up: bool,
}

/// What is known of an endpoint's addresses, for an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointHealth {
    /// Its id, or the region it stands for.
    pub label: String,
    /// Its TCP port.
    pub port: u16,
    pub check: HealthCheck,
    /// Nearest first in each family, IPv4 first.
    pub addresses: Vec<AddressHealth>,
    /// No address is up: each is down or was not connected to since, and every one is answered for that.
    pub is_all_down: bool,
    /// When the DNS answer they came from runs out; `None` for static addresses.
    pub fresh_until: Option<Instant>,
    /// Why there is none, or why these are old; in words for an operator.
    pub problem: Option<String>,
}

/// What is known of one address, for an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct AddressHealth {
    pub address: IpAddr,
    /// In a subnet or the availability zone of this host.
    pub is_near: bool,
    pub standing: Standing,
    /// Since when it stands so; `None` for one of too many to be followed.
    pub since: Option<Instant>,
    /// What went wrong last, however long ago; in words for an operator.
    pub last_error: Option<String>,
}

impl Followed {
    /// Nothing is held against these addresses yet.
    pub(super) fn new(config: &EndpointConfig, endpoint: &Endpoint, now: Instant) -> Self {
        let (known, label, port) = (endpoint.addresses.clone(), endpoint.label(), endpoint.port);
        let mut health = Health::new(config.health);
        health.follow(&known, now);
        Self { known, health, label, port, told_none_up: false }
    }

    fn to_health(&self) -> EndpointHealth {
        let address = |(address, is_near): (IpAddr, bool)| {
            let state = self.health.of(address);
            AddressHealth {
                address,
                is_near,
                standing: state.map_or(Standing::Up, |state| state.standing),
                since: state.map(|state| state.since),
                last_error: state.and_then(|state| state.last_error.clone()),
            }
        };
        let known = &self.known;
        let is_near = |position: usize| match position.checked_sub(known.v4.len()) {
            None => position < known.near_v4,
            Some(position) => position < known.near_v6,
        };
        EndpointHealth {
            label: self.label.clone(),
            port: self.port,
            check: self.health.check(),
            addresses: each(known).enumerate().map(|(at, ip)| address((ip, is_near(at)))).collect(),
            is_all_down: self.health.is_none_up(),
            fresh_until: known.fresh_until,
            problem: known.problem.clone(),
        }
    }

    /// Says once that no address is up, and that all are used nevertheless.
    fn tell_if_none_up(&mut self) {
        let is_none_up = self.health.is_none_up();
        if is_none_up && !self.told_none_up {
            let label = &self.label;
            tracing::warn!("no address of {label} is up: all of them stay in use; is the endpoint available?");
        }
        self.told_none_up = is_none_up;
    }

    fn tell(&self, address: SocketAddr, change: Change) {
        let label = &self.label;
        let why = self.health.of(address.ip()).and_then(|state| state.last_error.as_deref()).unwrap_or_default();
        match change {
            Change::Down => tracing::warn!(
                "{address} of {label} is down: {why}: look at the endpoint's security groups and at the routes from here"
            ),
            // It is known to be, until it lets somebody in.
            Change::DownAgain => tracing::debug!("{address} of {label} is still down: {why}"),
            Change::Up => tracing::info!("{address} of {label} is up again"),
        }
    }
}

impl Discovery {
    /// What is known of every endpoint's addresses, in the order of the configuration.
    pub fn address_health(&self) -> Vec<EndpointHealth> {
        self.state().endpoints.iter().map(Followed::to_health).collect()
    }

    /// An attempt to connect to an address of an endpoint, at its own port, began at `begun` and has ended now. What this
    /// host is to blame for must not be told.
    pub fn attempted(&self, address: SocketAddr, begun: Instant, end: &AttemptEnd) {
        let now = now();
        let mut state = self.state();
        for index in 0..state.endpoints.len() {
            let Some(followed) = state.endpoints.get_mut(index).filter(|one| one.port == address.port()) else {
                continue;
            };
            if let Some(change) = followed.health.count(address.ip(), end.clone(), begun, now) {
                followed.tell(address, change);
                match change {
                    Change::Down => _ = self.counters.went_down.fetch_add(1, Ordering::Relaxed),
                    Change::Up => _ = self.counters.came_up.fetch_add(1, Ordering::Relaxed),
                    Change::DownAgain => {}
                }
                self.health_changed.notify_one();
                self.publish_usable(&mut state, EndpointIndex(index));
            }
        }
    }

    /// Every address of an endpoint, also those that are down.
    pub(super) fn addresses(&self, EndpointIndex(index): EndpointIndex) -> Addresses {
        self.state().endpoints.get(index).map(|followed| followed.known.clone()).unwrap_or_default()
    }

    /// Sets what was found for an endpoint. A TTL that starts anew changes no route.
    pub(super) fn set_addresses(&self, index: EndpointIndex, addresses: Addresses) {
        let mut state = self.state();
        if let Some(followed) = state.endpoints.get_mut(index.0) {
            followed.known = addresses;
            followed.health.follow(&followed.known, now());
            self.health_changed.notify_one();
            self.publish_usable(&mut state, index);
        }
    }

    /// Takes over what `before` knows of addresses that stay, at the same port.
    pub(super) fn inherit_health(&self, before: &Self) {
        let (mut state, before) = (self.state(), before.state());
        for index in 0..state.endpoints.len() {
            let Some(followed) = state.endpoints.get_mut(index) else { continue };
            for was in before.endpoints.iter().filter(|was| was.port == followed.port) {
                let is_heir = followed.health.inherit(&was.health);
                // What was told is no news; that a reload took the last one that was up is.
                followed.told_none_up |= is_heir && was.told_none_up;
            }
            self.publish_usable(&mut state, EndpointIndex(index));
        }
    }

    /// When the next address comes back on probation.
    pub(super) fn next_return(&self) -> Option<Instant> {
        self.state().endpoints.iter().filter_map(|followed| followed.health.next_return()).min()
    }

    /// Brings back on probation whose time is over.
    pub(super) fn end_rests(&self) {
        let now = now();
        let mut state = self.state();
        for index in 0..state.endpoints.len() {
            if let Some(followed) = state.endpoints.get_mut(index) {
                followed.health.end_rests(now);
                self.publish_usable(&mut state, EndpointIndex(index));
            }
        }
    }

    /// The addresses to probe, with their ports.
    pub(super) fn probed(&self) -> Vec<SocketAddr> {
        let state = self.state();
        let probed = state.endpoints.iter().filter(|followed| followed.health.check() == HealthCheck::Tcp);
        probed.flat_map(|one| one.health.followed().map(|ip| SocketAddr::new(ip, one.port))).collect()
    }

    /// Puts what is usable of an endpoint into the table, where that differs. Under the lock of the state, so that none
    /// overtakes another.
    fn publish_usable(&self, state: &mut State, index: EndpointIndex) {
        let Some(followed) = state.endpoints.get_mut(index.0) else { return };
        followed.tell_if_none_up();
        let usable = followed.health.usable(&followed.known);
        let current = self.table().borrow().endpoints().get(index.0).map(|endpoint| endpoint.addresses.clone());
        let Some(current) = current.filter(|current| *current != usable) else { return };
        let change = |table: &mut Table| table.set_addresses(index, usable.clone());
        if (Addresses { fresh_until: usable.fresh_until, ..current }) == usable {
            self.publish_quietly(change);
        } else {
            self.publish(change);
        }
    }
}

/// Tests stop the clock.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
