//! Why do I get a 403? Asks every resolver about a name, calls it on each path, and says which of the known causes it is.
//!
//! `sidegate doctor` shows what comes of it. `app` hands functions to resolve with; TLS and HTTP are spoken here.
//!
//! - [`Request`]: the call that is to be explained
//! - [`examine()`]: asks and calls; `probe` is one call to one place, of which `redaction`
//!   keeps no secret, `places` knows whose addresses are whose, `name` what
//!   kind of name it is
//! - [`Observations`]: what was seen
//! - [`diagnose`]: what it means. Pure: `reply` reads one HTTP answer, `forbidden` ranks what one of them leaves open,
//!   [`Cause`] names what there is, `advice` what to do
//! - [`notes()`]: what was seen beside the cause

mod advice;
mod cause;
mod examine;
mod forbidden;
mod name;
mod notes;
mod observations;
mod places;
mod probe;
mod redaction;
mod reply;
mod request;
mod verdict;

pub use cause::Cause;
pub use examine::{Ask, Surroundings, Whom, examine};
pub use notes::notes;
pub use observations::{Answer, Observations, Outcome, Place, Policy, PrivateDns, Probe, System, Way};
pub use reply::Reply;
pub use request::{Request, RequestError};
pub use verdict::{Verdict, diagnose, in_words};
