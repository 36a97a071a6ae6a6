//! Which file is to lead where, and the one lock under which it is changed and given back.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::app::Surroundings;
use crate::config::Config;
use crate::interfaces;
use crate::policy::as_seen_from_here;
use crate::resolv_conf::{self, Change, Refusal, Step, Taken, Text, Us, name_servers};

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
    /// What stood in the file before it led to us, as last seen, if that named another server than us.
    seen: Mutex<Option<Vec<u8>>>,
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
        let (listeners, seen, is_over) = (Mutex::new(listeners), Mutex::default(), Mutex::default());
        Ok(Self { path, address, port, listeners, is_kept, seen, is_over })
    }

    /// Takes up which listeners there are now beside the one that the file is to lead to.
    pub(in crate::app) fn follow(&self, other: &Self) {
        *self.listeners.lock().unwrap_or_else(PoisonError::into_inner) = other.listeners();
    }

    /// Hands over to the place of another configuration, if there is one, what was seen of the file.
    ///
    /// # Errors
    /// The file leads to a listener that would go, and it is not ours to make it lead elsewhere.
    pub(in crate::app) async fn make_way(&self, next: Option<&Self>) -> anyhow::Result<()> {
        if let Some(next) = next {
            next.seen.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.seen());
        }
        if self.is_kept || next.is_some_and(|next| next.is_kept) {
            return Ok(());
        }
        let path = self.path.clone();
        let text = tokio::task::spawn_blocking(move || resolv_conf::read(&path)).await?.unwrap_or_default();
        match resolv_conf::look(&text) {
            Text::Taken(Taken { address, leads_there: true, .. })
                if self.is_ours(address) && !next.is_some_and(|next| next.is_ours(address)) =>
            {
                anyhow::bail!(
                    "dns.listen: {} leads to {address}, where nobody would answer any more: keep {}, or run \
                     `sidegate resolv-conf restore` first",
                    self.path.display(),
                    self.listener_at(address)
                )
            }
            _ => Ok(()),
        }
    }

    /// Takes up what stood in a file that leads to us.
    pub(super) fn see(&self, text: &[u8]) {
        let Text::Taken(Taken { former, .. }) = resolv_conf::look(text) else { return };
        if name_servers(&former).into_iter().any(|server| !self.is_ours(server)) {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(former);
        }
    }

    fn seen(&self) -> Option<Vec<u8>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            place.change(|text, us| resolv_conf::install(text, us, replaces))
        });
        let change = change.await??;
        if let Step::Write(text) = &change.step {
            self.see(text);
        }
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
    fn change(&self, decide: impl FnOnce(&[u8], &Us<'_>) -> Step) -> Result<Change, Refusal> {
        // Any of our listeners, whoever listened there when the file was written.
        let (is_us, seen) = (|server| self.is_ours(server), self.seen());
        let us = Us { address: self.address, is_us: &is_us, seen: seen.as_deref() };
        let change = resolv_conf::change(&self.path, |text| decide(text, &us))?;
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
        match self.change(|text, us| resolv_conf::put_back(text, Some(us))) {
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
