//! Knowing: private ids and endpoint addresses, made into the table both planes read.
//!
//! Every source is a task or a call that changes [`Discovery`]; each change publishes one new immutable
//! [`Table`](crate::policy::Table). `app` starts it and hands it a plain `look up` function, so that nothing here knows
//! how DNS is spoken.
//!
//! - `config`: which sources there are
//! - `merge`: [`Discovery`], all that is known, and its table; `compose`: the parts of that table
//! - `source`: a source that gives lists of ids; `sources`: all of them, run
//! - `list`, `guard`, `last_good`: a list as text, which of its changes are believed, where it is kept
//! - `learned`: ids that public DNS does not know
//! - `endpoints`: addresses of endpoints, kept fresh
//! - `addresses`: those of them that let us connect, by `health`, which `probe` and the forwarder's dialer feed
//! - `region`, `zone`: which region and which availability zone this host is in

mod addresses;
mod compose;
mod config;
mod endpoints;
mod guard;
mod health;
mod last_good;
mod learned;
mod list;
mod merge;
mod probe;
mod region;
mod source;
mod sources;
mod status;
mod zone;

pub use addresses::{AddressHealth, EndpointHealth};
pub use config::{AddressSource, Config, EndpointConfig, HealthCheck, SourceConfig, SourceKind, learns};
pub use endpoints::{Found, LookUp};
pub use guard::{Held, loses_most};
pub use health::{AttemptEnd, Standing};
pub use list::{Entry, List, ListError, MAX_BYTES};
pub use merge::Discovery;
pub use region::{Metadata, RegionError};
pub use source::{Outcome, Schedule, Snapshot};
pub use sources::{PrivateApis, Tools, discover};
pub use status::{Counters, SourceStatus};
