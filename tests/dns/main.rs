//! What the DNS plane promises on real sockets: a whole [`Plane`](sidegate::dns::Plane) on loopback between clients and
//! scripted upstream servers.
//!
//! - `wire`, `upstream`, `gate`: queries and replies, fake servers, the plane under test
//! - `forwarding`: what survives the way through, and what must not
//! - `hostile`: forged replies
//! - `failover`, `memory`: servers that fail, answers kept; `prompt`: what a worker asks by itself
//! - `chains`, `learning`: the CNAME rule, ids learned from public DNS
//! - `addresses`, `forwarder`: what the dialer is told; zone names that resolve to the forwarder
//! - `encrypted`, `egress`: upstreams over TLS, HTTPS and QUIC; through an egress proxy
//! - `refusals`: what never goes upstream; loops
//! - `streams`: TCP; `counting`: what is counted
//! - `secure`: clients over TLS and HTTPS, and our certificate for them; `dot`, `doh`: what they get; `certificates`: another
//!   one while we serve; `every_listener`: what holds on all of them
//! - `whole_vpc`: the VPC's resolver asks us for all names of our zones
//! - `lifecycle`, `handover`: bind, reload, drain; sockets that are not ours to empty
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panicking, and clippy.toml's leave for tests does not reach helpers"
)]

mod addresses;
mod certificates;
mod chains;
mod counting;
mod decisions;
mod doh;
mod dot;
mod egress;
mod encrypted;
mod every_listener;
mod failover;
mod forwarder;
mod forwarding;
mod gate;
mod handover;
mod hostile;
mod learning;
mod lifecycle;
mod memory;
mod prompt;
mod refusals;
mod secure;
mod streams;
mod upstream;
mod whole_vpc;
mod wire;
