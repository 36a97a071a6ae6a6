//! What was decided about single queries, for whoever looks on: `service` notes them, `app` shows them as `/decisions`.

use super::query::Query;
use super::tally::{Found, Way};
use crate::policy::{HostName, Rule, Table, route};

/// One query that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    pub name: HostName,
    pub qtype: u16,
    pub way: Way,
    /// The rule that decided; `None` for a client that is not in `clients`, whose name nobody has looked at.
    pub rule: Option<Rule>,
    pub found: Found,
    /// The response code of the reply.
    pub rcode: u16,
}

impl Decided {
    /// What to note of a query that was answered, by the table it was answered from. Called only while somebody looks, so
    /// that it may parse and decide a second time. What is asked of a listener's own health is left out: that is a prober's,
    /// not a client's.
    #[cold]
    pub(super) fn of(packet: &[u8], table: &Table, way: Way, found: Found, rcode: u16) -> Option<Self> {
        let query = Query::parse(packet).ok()?;
        let rule = match way {
            Way::Health => return None,
            Way::Refused => None,
            _ => Some(route(table, &query.name).rule),
        };
        Some(Self { name: query.name, qtype: query.qtype, way, rule, found, rcode })
    }
}
