//! Plane 1: DNS. Answers what the policy answers, forwards everything else.
//!
//! One query's way: `listen` reads it, `respond` answers it from the [`Table`](crate::policy::Table) or the `cache`, or
//! names an upstream group; then `resolver` asks that group once, however many wait, applies the CNAME rule (`chain`),
//! remembers, and the listener renders the reply.
//!
//! - `wire`, `query`, `message`, `frame`: bytes in
//! - `reply`, `answer`: bytes out
//! - [`respond()`]: the heart; no I/O
//! - `question`, `cache`, `relevance`, `chain`, `resolver`: what is asked, remembered, dropped, cut, and in what order
//! - `shares`: how much of it one client may have; `encrypted`: what replies over TLS have beyond others
//! - `addresses`, `forwarder`: what the forwarder's dialer asks; zone names that resolve to the forwarder
//! - [`upstream`]: servers outside
//! - [`listen`], `service`: sockets, and what they share
//! - `tally`: how many queries were answered, by the way they went; `decided`: the last of them, while somebody looks
//! - [`health`], [`real_answer`]: is a listener alive, and does it resolve?
//! - [`Plane`]: all of it, started, replaced and drained by `app`

mod addresses;
mod answer;
mod cache;
mod chain;
mod config;
mod decided;
mod encrypted;
mod forwarder;
mod frame;
pub mod health;
pub mod listen;
mod message;
mod plane;
mod query;
mod question;
pub mod real_answer;
mod relevance;
mod reply;
mod resolver;
mod respond;
mod service;
mod shares;
mod tally;
pub mod upstream;
mod wire;

pub use addresses::LookUpError;
pub use cache::Cache;
pub use config::{Config, Encrypted, Upstreams, ZoneAnswer};
pub use decided::Decided;
pub use listen::Over;
pub use message::{Message, Record};
pub use plane::{Plane, PlaneError};
pub use question::Question;
pub use reply::ReplyLimit;
pub use resolver::{Existence, Observer, Resolved, Resolver, ResolverCounters};
pub use respond::{HEALTH_NAME, Outcome, Responded, Sources, respond};
pub use service::{Counters, Pending, Service, Tls};
pub use shares::{MAX_OF_CLIENT, Shares};
pub use tally::{Found, Tally, Total, Transport, Way, rcode_label};
pub use wire::{ExtendedError, Malformed, rcode, rtype};
