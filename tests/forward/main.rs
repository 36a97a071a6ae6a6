//! What the forwarder promises on real sockets: a whole [`Plane`](sidegate::forward::Plane) on loopback between clients
//! and the places that they want to reach.
//!
//! - `lab`: the plane under test, the places, clients of them
//! - `connect`, `sni`: the entrances
//! - `http2`: CONNECT over HTTP/2, a tunnel in each stream
//! - `destinations`: where nobody gets to
//! - `stalling`: clients that are slow, silent or gone
//! - `lifecycle`: reload and drain
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking, and clippy.toml's leave for tests does not reach helpers"
)]

mod connect;
mod destinations;
mod http2;
mod lab;
mod lifecycle;
mod sni;
mod stalling;
