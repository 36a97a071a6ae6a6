//! Servers outside: how they are written, reached, judged and chosen.
//!
//! - [`Server`]: an address as an operator writes it
//! - `peer`: one server at work, over `udp`, `stream` (TCP and TLS) or `encrypted` (HTTPS and QUIC)
//! - `bootstrap`: the addresses of servers that have a name
//! - `health`, `group`: which server is asked first, and when the next
//! - [`Upstreams`]: all groups of the plane; the only way out of it

mod bootstrap;
mod encrypted;
mod exchange;
mod group;
mod health;
mod peer;
mod server;
mod stream;
mod udp;
mod upstreams;

pub use self::udp::ask as ask_udp;
pub use exchange::{AskError, OwnSockets};
pub use server::{Host, Server, ServerError, Transport};
pub use upstreams::{Upstreams, UpstreamsError};
