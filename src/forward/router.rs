//! From a destination to a connection: the table in force, the destination rules and the dialer, in one place for all
//! entrances.

use std::sync::Arc;

use tokio::sync::watch;

use super::access::Record;
use super::destination::Destination;
use super::dial::{Dialer, Dialled};
use super::permit::{Destinations, Entrance, Permit, is_ours, permit, permit_api_id};
use super::refusal::{Cause, Refusal};
use crate::policy::{HostName, Table, route};

/// Says which way a destination goes, and goes there.
#[derive(Debug)]
pub struct Router {
    pub table: watch::Receiver<Arc<Table>>,
    pub destinations: Destinations,
    pub dialer: Dialer,
}

impl Router {
    /// Whether a destination may be dialled under the table in force, and which way.
    ///
    /// # Errors
    /// As [`permit`].
    pub fn permit(&self, entrance: Entrance, destination: Destination) -> Result<Permit, Refusal> {
        permit(&self.table.borrow(), &self.destinations, entrance, destination)
    }

    /// Whether a name is one that Sidegate exists for.
    pub fn is_ours(&self, host: &HostName) -> bool {
        is_ours(&route(&self.table.borrow(), host))
    }

    /// Whether `x-apigw-api-id` leads where the permit leads.
    ///
    /// # Errors
    /// As [`permit_api_id`].
    pub fn permit_api_id(&self, permit: &Permit, value: &[u8]) -> Result<(), Refusal> {
        permit_api_id(&self.table.borrow(), permit, value)
    }

    /// Connects to what is permitted. If that teaches the table that the name is private, goes there.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub async fn dial(&self, entrance: Entrance, asked: Permit) -> Result<Dialled, Refusal> {
        let (learnable, destination) = (asked.learnable, asked.destination);
        match self.dialer.dial(asked).await {
            Err(refusal) if learnable && refusal.cause == Cause::NoSuchName => {
                match self.permit(entrance, destination)? {
                    learned if learned.way.endpoint().is_some() => self.dialer.dial(learned).await,
                    _ => Err(refusal),
                }
            }
            outcome => outcome,
        }
    }

    /// Both in one, for entrances that connect once for each client.
    ///
    /// # Errors
    /// As [`permit`] and [`Dialer::dial`].
    pub async fn connect(
        &self,
        entrance: Entrance,
        destination: Destination,
        record: &mut Record,
    ) -> Result<Dialled, Refusal> {
        record.asked_for(destination);
        let permit = self.permit(entrance, destination)?;
        record.permitted(&permit);
        // What dialling takes is given back before bytes are relayed, which may be for days.
        let dialled = Box::pin(self.dial(entrance, permit)).await?;
        record.dialled(&dialled);
        Ok(dialled)
    }
}
