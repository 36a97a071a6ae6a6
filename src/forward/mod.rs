//! Plane 2: the HTTPS forwarder. Three ways in, one dialer.
//!
//! One connection's way: an entrance reads where its client wants to go (a [`Destination`]); [`permit`] asks the policy
//! and the destination rules for the way; the dialer resolves, checks every address, and connects.
//!
//! - `destination`, `permit`, `refusal`: where to, whether and which way, why not
//! - `head`, `alert`: HTTP/1.1 requests and TLS alerts, as bytes

mod alert;
mod config;
mod destination;
mod head;
mod permit;
mod refusal;

pub use config::{AllowedDestination, Config, Others};
pub use destination::{Destination, DestinationError};
pub use permit::{Destinations, Entrance, Permit, Way, permit, permit_api_id};
pub use refusal::{Cause, Refusal};
