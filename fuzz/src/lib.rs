//! What Sidegate does with bytes it did not choose: one target for each kind, each with a judge of its own.
//!
//! A target is a function of bytes that panics where a promise is broken. libFuzzer drives it (`targets/`, by `fuzz/run`), and so
//! does any toolchain (`tests/replay.rs`, in `.ci/run`), over `seeds/` and over `regressions/`, which keeps what was found.
//!
//! - [`respond`]: a client's query; judged by [`model`], the policy's table a second time, and by hickory-proto
//! - [`replies`]: an upstream's reply, taken in, kept, served
//! - [`host_names`], [`client_hello`], [`connect`], [`id_lists`], [`config`]: texts and first bytes
//! - [`world`]: the small worlds that the first two play in

pub mod client_hello;
pub mod config;
pub mod connect;
pub mod host_names;
pub mod id_lists;
pub mod model;
pub mod replies;
pub mod respond;
pub mod world;

/// What is fuzzed: panics where a promise is broken.
pub type Target = fn(&[u8]);

/// All targets, by the name that their folders have.
pub const TARGETS: [(&str, Target); 7] = [
    ("respond", respond::run),
    ("replies", replies::run),
    ("host_names", host_names::run),
    ("client_hello", client_hello::run),
    ("connect", connect::run),
    ("id_lists", id_lists::run),
    ("config", config::run),
];
