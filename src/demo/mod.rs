//! A VPC in a box: real DNS and real TLS in one process, on loopback unless told otherwise, with nothing to install.
//!
//! The `demo` command starts a [`World`] and Sidegate in it, then calls [`run`]. Integration tests build their fakes from
//! the same parts. Nothing here knows how Sidegate is built: it is addresses that answer DNS and take connections.
//!
//! - [`World`]: two resolvers and two gates, and the names that lead to them
//! - [`zones`], [`dns_server`]: zone data, and a resolver that serves it
//! - [`gate`], [`certificates`]: a TLS server with API Gateway's 403, and the authority behind its certificate
//! - [`sockets`]: listeners that share a port
//! - [`client`]: a caller that makes an HTTPS call, by DNS or through a forwarder
//! - [`table`]: what came of the calls, told to a manager
//! - [`hints()`], [`wants_colour`]: for the command around it

pub mod certificates;
pub mod client;
pub mod dns_server;
pub mod gate;
mod hints;
mod replies;
pub mod sockets;
pub mod table;
mod world;
pub mod zones;

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use hyper::StatusCode;

pub use hints::{hints, wants_colour};
pub use world::{Addresses, Names, Place, World, public_zones};

use client::Way;
use table::{Api, Cell, Expected, Row};

const SERVED: StatusCode = StatusCode::OK;
const REFUSED: StatusCode = StatusCode::FORBIDDEN;

/// Calls the three APIs through the VPC resolver, then in each of the `ways` that Sidegate offers, and writes the table.
///
/// True if every call came out as it should, in the place that answered as well as in the status.
///
/// # Errors
/// Whatever `out` gives. A call that fails is a row that is not as expected.
pub async fn run(world: &World, ways: &[Way], out: &mut impl Write, colour: bool) -> io::Result<bool> {
    let names = world.names();
    let apis = [
        (Api { what: "Private API", name: names.private_api }, Place::Endpoint),
        (Api { what: "Public API", name: names.public_api }, Place::Internet),
        (Api { what: "Public custom domain", name: names.custom_domain }, Place::Internet),
    ];
    let mut alone = Vec::with_capacity(apis.len());
    for (api, home) in apis {
        // Without Sidegate every name leads to the endpoint, which refuses those that are at home elsewhere.
        let status = if home == Place::Endpoint { SERVED } else { REFUSED };
        let expected = Expected { place: Place::Endpoint, status };
        alone.push(call(world, Way::Dns(world.vpc_resolver()), api.name, expected).await);
    }
    let mut rows = vec![Row { way: "VPC resolver alone", cells: alone }];
    for &way in ways {
        let mut cells = Vec::with_capacity(apis.len());
        for (api, home) in apis {
            cells.push(call(world, way, api.name, Expected { place: home, status: SERVED }).await);
        }
        rows.push(Row { way: label(way), cells });
    }
    let notes = notes(world, ways);
    out.write_all(table::render(&apis.map(|(api, _)| api), &rows, &notes, colour).as_bytes())?;
    out.flush()?;
    Ok(rows.iter().all(Row::as_expected))
}

fn label(way: Way) -> &'static str {
    match way {
        Way::Dns(_) => "Sidegate's DNS",
        Way::Connect(_) => "HTTPS_PROXY",
        Way::Sni(_) => "SNI",
        Way::Http(_) => "plain HTTP",
    }
}

/// What the table does not tell: what its last rows are, and the one destination that does not go without saying.
fn notes(world: &World, ways: &[Way]) -> Vec<String> {
    if ways.iter().all(|way| matches!(way, Way::Dns(_))) {
        return Vec::new();
    }
    let domain = world.names().custom_domain;
    vec![
        "HTTPS_PROXY, SNI and plain HTTP are Sidegate's entrances for programs that do not ask its DNS.".into(),
        format!("{domain} is in no API zone: SNI and plain HTTP pass it on as forward.allow lists it here."),
    ]
}

async fn call(world: &World, way: Way, name: &str, expected: Expected) -> Cell {
    let outcome = world.client().call(way, name).await;
    let place = world.place_of(&outcome);
    Cell::new(outcome, place, expected)
}
