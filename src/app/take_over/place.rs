//! Which file is to lead where, and the one lock under which it is changed and given back.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::Surroundings;
use crate::config::Config;
use crate::interfaces;
use crate::policy::as_seen_from_here;
use crate::resolv_conf::{self, Change, Refusal, Step, Text};

/// resolv.conf, and our address in it.
#[derive(Debug)]
pub(in crate::app) struct Place {
    pub(super) path: PathBuf,
    pub(super) address: IpAddr,
    port: u16,
    /// Our listeners on that port, as they were asked for. A file that leads to any of them is ours.
    listeners: Mutex<Vec<SocketAddr>>,
    /// Whether the file is ours to keep and to give back (`dns.take_over`). If not, we only look.
    is_kept: bool,
    /// Whether the file was given back for good: a write that is late must not come after that.
    is_over: Mutex<bool>,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        let key = |place: &Self| (place.address, place.port, place.is_kept);
        // One to keep leads to its one address, however many others there are.
        self.path == other.path && key(self) == key(other) && (self.is_kept || self.listeners() == other.listeners())
    }
}

impl Place {
    /// # Errors
    /// No listener on the one port that resolv.conf knows.
    pub(in crate::app) fn of(config: &Config, surroundings: &Surroundings) -> anyhow::Result<Self> {
        let port = surroundings.name_server_port;
        let listen = &config.dns.listen;
        let listeners: Vec<SocketAddr> = listen.iter().copied().filter(|listener| listener.port() == port).collect();
        let ips: Vec<IpAddr> = listeners.iter().map(|listener| as_seen_from_here(*listener).ip()).collect();
        // Loopback is there whatever becomes of the network.
        let best = ips.iter().find(|ip| ip.is_loopback()).or(ips.first());
        let address = best.copied().ok_or_else(|| {
            let listed = listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            anyhow::anyhow!(
                "resolv.conf knows port {port} alone, and dns.listen is {}: add \"127.0.0.1:{port}\"",
                if listed.is_empty() { "empty" } else { &listed }
            )
        })?;
        let (path, is_kept) = (surroundings.resolv_conf.clone(), config.take_over);
        Ok(Self { path, address, port, listeners: Mutex::new(listeners), is_kept, is_over: Mutex::default() })
    }

    /// Takes up which listeners there are now beside the one that the file is to lead to.
    pub(in crate::app) fn follow(&self, other: &Self) {
        *self.listeners.lock().unwrap_or_else(PoisonError::into_inner) = other.listeners();
    }

    fn listeners(&self) -> Vec<SocketAddr> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Whether a file with this server leads to one of our listeners.
    pub(super) fn is_ours(&self, server: IpAddr) -> bool {
        let own = || interfaces::networks().into_iter().map(|(address, _)| address).collect::<Vec<_>>();
        let reached = |own: &[IpAddr]| {
            let server = self.listener_at(server);
            self.listeners().into_iter().any(|listener| interfaces::reaches(server, listener, own))
        };
        server == self.address || reached(&own())
    }

    /// Where the file leads, if that is one of our listeners.
    fn ours_in(&self, text: &[u8]) -> Option<IpAddr> {
        match resolv_conf::look(text) {
            Text::Taken(taken) => Some(taken.address).filter(|address| self.is_ours(*address)),
            _ => None,
        }
    }

    pub(super) fn listener(&self) -> SocketAddr {
        self.listener_at(self.address)
    }

    pub(super) fn listener_at(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port)
    }

    /// Whether the file could be written.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(in crate::app) async fn check(&self) -> anyhow::Result<()> {
        let path = self.path.clone();
        Ok(tokio::task::spawn_blocking(move || resolv_conf::check(&path)).await??)
    }

    /// Makes the file lead to our address; another Sidegate that has it gives way only if `replaces`.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) async fn install(self: &Arc<Self>, replaces: bool) -> anyhow::Result<Change> {
        let place = Arc::clone(self);
        let change = tokio::task::spawn_blocking(move || {
            let is_over = place.is_over.lock().unwrap_or_else(PoisonError::into_inner);
            if *is_over {
                return Ok(Change { before: Vec::new(), step: Step::Nothing, was_locked: false });
            }
            place.change(|text| {
                // One of ours is no other, whoever listened there when the file was written.
                let replaces = replaces || place.ours_in(text).is_some();
                resolv_conf::install(text, place.address, replaces)
            })
        });
        let change = change.await??;
        if change.step == Step::Unknown {
            return Err(Refusal::Unknown { path: self.path.clone() }.into());
        }
        Ok(change)
    }

    /// As a write under way.
    #[cfg(test)]
    pub(super) fn hang(&self) -> std::sync::MutexGuard<'_, bool> {
        self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks.
    fn change(&self, decide: impl FnOnce(&[u8]) -> Step) -> Result<Change, Refusal> {
        let change = resolv_conf::change(&self.path, decide)?;
        if change.was_locked {
            tracing::warn!(path = %self.path.display(), "another program keeps resolv.conf locked: not waited for any longer");
        }
        Ok(change)
    }

    /// Gives the file back for good, if it is we who have it. Whether it was. Blocks.
    pub(super) fn give_back(&self) -> bool {
        if !self.is_kept {
            return false;
        }
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *is_over, true) {
            return false;
        }
        match self.change(|text| resolv_conf::put_back(text, self.ours_in(text).or(Some(self.address)))) {
            Ok(Change { step: Step::Write(_), .. }) => {
                tracing::info!(path = %self.path.display(), "resolv.conf is as it was");
                true
            }
            Ok(_) => false,
            Err(refusal) => {
                tracing::error!("resolv.conf is not put back: {refusal}");
                false
            }
        }
    }
}
