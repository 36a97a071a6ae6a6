//! A connection for one request: one that waits, a place on one that serves several, or a new one.

use std::net::IpAddr;

use tokio::time::{Instant, timeout};

use super::multiplexed::{Http2, Multiplexed};
use super::pool::{Connection, Key, Pool, Slot, WAIT};
use super::share::{Clients, Share};
use super::source::halves;
use super::tls::{Connector, Protocols, is_http2};
use crate::forward::dial::Dialled;
use crate::forward::permit::{Entrance, Permit, Way};
use crate::forward::refusal::{Cause, Refusal};
use crate::forward::service::Service;

/// A way to send one request.
pub(super) enum Route {
    Http1(Connection),
    Http2(Http2),
}

/// Opens connections and finds those that are open.
#[derive(Debug)]
pub(super) struct Connections {
    pool: Pool,
    connector: Connector,
    clients: Clients,
}

impl Connections {
    pub(super) fn new(connector: Connector) -> Self {
        Self { pool: Pool::new(), connector, clients: Clients::default() }
    }

    /// Leave for one more request of a client; held until its answer is over.
    ///
    /// # Errors
    /// Too many of the client's are under way.
    pub(super) fn share(&self, client: IpAddr) -> Result<Share, Refusal> {
        self.clients.share(client)
    }

    /// The permit may be another one afterwards: dialling can teach which way a name goes.
    ///
    /// # Errors
    /// What keeps us from a connection to the server whose name it is.
    pub(super) async fn to(
        &self,
        service: &Service,
        permit: Permit,
        protocols: Protocols,
    ) -> Result<(Route, Permit), Refusal> {
        let key = Key::new(&permit, spoken_on(&permit, protocols));
        if let Some(connection) = self.pool.http2(&key) {
            return Ok((Route::Http2(connection), permit));
        }
        if key.protocols == Protocols::Http1 {
            return self.idle_or_new(service, permit, &key).await;
        }
        // Until it is known that the server speaks HTTP/1.1 only, one connection is opened at a time: it may do for all.
        let waiting_since = Instant::now();
        let opening = self.pool.opening(&key);
        let Ok(mut opening) = timeout(WAIT, opening.lock()).await else {
            let words = format!("{}: no connection to it could be opened in time", permit.destination);
            return Err(Refusal::new(Cause::Overloaded, words));
        };
        if let Some(connection) = self.pool.http2(&key) {
            return Ok((Route::Http2(connection), permit));
        }
        if let Some((at, refusal)) = &opening.failure
            && *at > waiting_since
        {
            return Err(refusal.clone());
        }
        if opening.http1 {
            drop(opening);
            return self.idle_or_new(service, permit, &key).await;
        }
        let opened = self.idle_or_new(service, permit, &key).await;
        opening.http1 = matches!(opened, Ok((Route::Http1(_), _)));
        opening.failure = opened.as_ref().err().map(|refusal| (Instant::now(), refusal.clone()));
        opened
    }

    async fn idle_or_new(&self, service: &Service, permit: Permit, key: &Key) -> Result<(Route, Permit), Refusal> {
        match self.pool.idle(key, self.pool.slot(key).await?) {
            Ok(connection) => Ok((Route::Http1(connection), permit)),
            Err(slot) => self.open(service, permit, key.protocols, slot).await,
        }
    }

    async fn open(
        &self,
        service: &Service,
        permit: Permit,
        protocols: Protocols,
        slot: Slot,
    ) -> Result<(Route, Permit), Refusal> {
        let Dialled { stream, address, permit } = service.router.dial(Entrance::Http, permit).await?;
        let key = Key::new(&permit, spoken_on(&permit, protocols));
        let stream = self.connector.connect(&permit.destination.host, key.protocols, stream).await?;
        if !is_http2(stream.get_ref().1) {
            let (source, writer) = halves(stream);
            let ticket = self.pool.ticket(key, address, slot);
            return Ok((Route::Http1(Connection { source, writer, ticket }), permit));
        }
        let bad = |words| Refusal::new(Cause::BadResponse, format!("{}: HTTP/2: {words}", permit.destination.host));
        let connection = Multiplexed::start(stream, address, slot).await.map_err(bad)?;
        let place = self.pool.share(key, connection).ok_or_else(|| bad("it ended at once".to_owned()))?;
        Ok((Route::Http2(place), permit))
    }
}

/// Endpoints are spoken to in HTTP/1.1: AWS answers no other there.
fn spoken_on(permit: &Permit, protocols: Protocols) -> Protocols {
    if matches!(permit.way, Way::Endpoint(_)) { Protocols::Http1 } else { protocols }
}
