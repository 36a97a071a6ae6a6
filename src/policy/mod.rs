//! The core both planes share: which way does a name go?
//!
//! Pure data and one pure function, [`route()`]: no I/O, no async, no clock. `config` and `discovery` build a
//! [`Table`], `dns` asks it for every question, `forward` for every connection.
//!
//! - [`HostName`], [`ApiId`], [`Region`], [`VpceId`]: values that cannot be wrong once they exist
//! - [`Networks`]: who may use a listener
//! - [`Partition`]: which DNS suffix belongs to a region
//! - [`Table`]: everything known at one moment; immutable, swapped as a whole
//! - [`PrivateIds`]: the ids known to be private, with who says so
//! - [`ApiZones`]: every form that a zone of API Gateway may have
//! - [`route()`]: the table of rules 0 to 7

mod api_zones;
mod host_name;
mod identifiers;
mod networks;
mod partition;
mod private_ids;
mod route;
mod table;

pub use api_zones::ApiZones;
pub use host_name::{HostName, HostNameError};
pub use identifiers::{ApiId, IdentifierError, Region, VpceId};
pub use networks::{Family, Network, NetworkError, Networks, as_seen_from_here, canonical, is_globally_routable};
pub use partition::{Partition, SpecialForm, special_form};
pub use private_ids::{Binding, Knowledge, Origin, PrivateIds, Statements};
pub use route::{Decision, Route, Rule, Upstream, route};
pub use table::{Addresses, Endpoint, EndpointIndex, Names, NotReady, Table, TableError, Zone};
