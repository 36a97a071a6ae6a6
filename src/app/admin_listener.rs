//! The admin listener as part of the whole: bound first, served later, gone when dropped.

use std::net::SocketAddr;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{Answers, Gate, Server};
use crate::inherited::Inherited;
use crate::tcp_listener::{bind_advice, overlap};

/// A bound admin listener.
#[derive(Debug)]
pub(super) struct AdminListener {
    asked: SocketAddr,
    address: SocketAddr,
    /// Until it is served.
    server: Option<Server>,
    stop: CancellationToken,
}

impl AdminListener {
    /// `ours` are the listeners that this process has already.
    pub(super) fn bind(
        asked: SocketAddr,
        ours: &[SocketAddr],
        inherited: &Inherited,
        gate: watch::Receiver<Gate>,
        answers: Answers,
    ) -> anyhow::Result<Self> {
        let bound = inherited.tcp(asked).and_then(|handed| match handed {
            Some(listener) => Server::on(listener, gate, answers),
            None => Server::bind(asked, gate, answers),
        });
        let server = bound.map_err(|error| {
            let ours = ours.iter().copied().find(|ours| overlap(*ours, asked));
            let advice = bind_advice(&error, &asked, &ours);
            anyhow::anyhow!("admin.listen: cannot bind {asked}: {advice}; \"\" is for none")
        })?;
        Ok(Self { asked, address: server.address()?, server: Some(server), stop: CancellationToken::new() })
    }

    /// The address of the configuration; its port may be 0.
    pub(super) fn asked(&self) -> SocketAddr {
        self.asked
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn serve(&mut self) {
        if let Some(server) = self.server.take() {
            tracing::info!(address = %self.address, "admin listens");
            tokio::spawn(server.serve(self.stop.clone()));
        }
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
