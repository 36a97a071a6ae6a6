//! Knowing: private ids and endpoint addresses, made into the table both planes read.
//!
//! Every source is a task or a call that changes [`Discovery`]; each change publishes one new immutable
//! [`Table`](crate::policy::Table). `app` starts it and hands it a plain `look up` function, so that nothing here knows
//! how DNS is spoken.
//!
//! - `config`: which sources there are
//! - `merge`: [`Discovery`], all that is known, and its table
//! - `learned`: ids that public DNS does not know
//! - `endpoints`: addresses of endpoints, kept fresh
//! - `region`: which region this host is in
//!
//! The static lists and `learned` are built; `[[discovery]]` of kind `file`, `url` and `api-gateway` is read and checked,
//! and named as missing in the table until its source exists.

mod config;
mod endpoints;
mod learned;
mod merge;
mod region;

pub use config::{AddressSource, Config, EndpointConfig, HealthCheck, SourceConfig, SourceKind};
pub use endpoints::{Found, LookUp};
pub use merge::Discovery;
pub use region::{Metadata, RegionError};
