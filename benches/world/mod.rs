//! The table that the benches ask: one endpoint in us-east-1 and so many private ids.
#![allow(dead_code, reason = "each bench is a crate of its own, and uses its part")]

use std::net::Ipv4Addr;
use std::sync::Arc;

use sidegate::policy::{Addresses, ApiId, Endpoint, Knowledge, Names, Origin, PrivateIds, Table};

/// The name of the first id of every table.
pub const PRIVATE_NAME: &str = "a000000000.execute-api.us-east-1.amazonaws.com";
/// A name whose id no table has.
pub const UNKNOWN_NAME: &str = "zzzzzzzzzz.execute-api.us-east-1.amazonaws.com";
/// A name that has nothing to do with us.
pub const OTHER_NAME: &str = "www.example.com";

/// One endpoint with two IPv4 addresses, and `ids` private ids.
pub fn table(ids: usize) -> Table {
    let endpoint = Endpoint {
        region: "us-east-1".parse().unwrap(),
        vpce_id: None,
        addresses: Addresses {
            v4: vec![Ipv4Addr::new(10, 0, 1, 10), Ipv4Addr::new(10, 0, 2, 10)],
            ..Addresses::default()
        },
        port: 443,
    };
    let mut private = PrivateIds::default();
    for number in 0..ids {
        let id: ApiId = id_of(number).parse().unwrap();
        private.add(&id, Knowledge::of(&Origin::Static));
    }
    let mut table = Table::new(vec![endpoint], Arc::new(Names::default()), None).unwrap();
    table.ids = Arc::new(private);
    table
}

/// The id with this number.
pub fn id_of(number: usize) -> String {
    format!("a{number:09}")
}

/// The name of an id of the table; [`PRIVATE_NAME`] is that of number 0.
pub fn name_of(number: usize) -> String {
    format!("{}.execute-api.us-east-1.amazonaws.com", id_of(number))
}
