//! Plane 2: the HTTPS forwarder. Three ways in, one dialer.
//!
//! One connection's way: an entrance reads where its client wants to go (a [`Destination`]); [`permit`] asks the policy
//! and the destination rules for the way; the dialer resolves, checks every address, and connects.
//!
//! - `destination`, `permit`, `refusal`: where to, whether and which way, why not
//! - `dial`, `race`, `dead`, `address`: a connection, from addresses that were checked one by one
//! - `head`, `alert`: HTTP/1.1 requests and TLS alerts, as bytes

mod address;
mod alert;
mod config;
mod dead;
mod destination;
mod dial;
mod head;
pub mod http;
mod permit;
mod race;
mod refusal;

pub use address::AddressRules;
pub use config::{AllowedDestination, Config, Others};
pub use destination::{Destination, DestinationError};
pub use dial::{Dialer, Dialled, Family, Resolve, ResolveError, Resolving};
pub use permit::{Destinations, Entrance, Permit, Way, permit, permit_api_id};
pub use refusal::{Cause, Refusal};
