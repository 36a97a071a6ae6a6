//! Plane 2: the HTTPS forwarder. Three ways in, one dialer.
//!
//! One connection's way: an entrance reads where its client wants to go (a [`Destination`]); [`permit()`] asks the policy
//! and the destination rules for the way; the dialer resolves, checks every address, and connects.
//!
//! - `connect`, `sni`: the entrances; `tunnel`, `closing`: what they share
//! - `destination`, `permit`, `refusal`: where to, whether and which way, why not; `router`: all of it for an entrance
//! - `dial`, `race`, `dead`, `address`, `own`: a connection, from addresses that were checked one by one
//! - `head`, `client_hello`, `alert`: HTTP/1.1 requests and TLS, as bytes
//! - `relay`: bytes both ways
//! - [`access`]: what became of it
//! - [`Plane`], `service`: all of it, started, replaced and drained by `app`

pub mod access;
mod address;
mod alert;
mod client_hello;
mod closing;
mod config;
mod connect;
mod dead;
mod destination;
mod dial;
mod head;
mod http;
mod own;
mod permit;
mod plane;
mod race;
mod refusal;
mod relay;
mod router;
mod service;
mod sni;
mod tunnel;

pub use access::Decided;
pub use address::AddressRules;
pub use client_hello::{ClientHello, HelloError, HelloReader, MAX_HELLO, Reading};
pub use config::{AllowedDestination, Config, Others};
pub use connect::requested;
pub use destination::{Destination, DestinationError};
pub use dial::{Dialer, Dialled, OnAttempt, Resolve, ResolveError, Resolving};
pub use head::{Field, Head, HeadReader, Version};
pub use permit::{Destinations, Entrance, Permit, Way, permit, permit_api_id};
pub use plane::{Counters, Plane, PlaneError, Prepared, Surroundings};
pub use race::{Attempt, AttemptEnd};
pub use refusal::{Cause, Refusal};
pub use service::AtBounds;
