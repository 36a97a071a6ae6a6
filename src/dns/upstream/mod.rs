//! Servers outside: how they are written, reached, judged and chosen.
//!
//! - [`Server`]: an address as an operator writes it
//! - `peer`: one server at work, over `udp`, `stream` (TCP and TLS), `https` or `quic`
//! - [`Port`], [`Line`]: datagrams, or whatever else, to one server from a thread that is no task's, see `listen::asking`
//! - `bootstrap`: where a server is that is known by name
//! - `health`, `group`: which server is asked first, and when the next
//! - `record`: how each server does, for operators
//! - `vpc`: what the VPC's resolver is never asked
//! - [`Upstreams`]: all groups of the plane; the only way out of it

mod bootstrap;
mod exchange;
mod group;
mod health;
mod https;
mod line;
mod peer;
mod port;
mod quic;
mod record;
mod server;
mod stream;
mod udp;
mod upstreams;
mod vpc;

pub use self::group::{First, Sent};
pub use self::line::{Inbox, Line, Received, Ticket};
pub use self::peer::{Peer, Prompt};
pub use self::port::Port;
pub use self::record::ServerRecord;
pub use self::udp::ask as ask_udp;
pub use exchange::{AskError, OwnSockets, Protocol, is_local};
pub use server::{Server, ServerError, Transport};
pub use upstreams::{Upstreams, UpstreamsError};
