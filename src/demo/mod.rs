//! A VPC in a box: real DNS and real TLS on loopback, in one process, with nothing to install.
//!
//! The `demo` command starts a [`World`] and Sidegate in it, then calls [`run`]. Integration tests build their fakes from
//! the same parts. Nothing here knows how Sidegate is built: it is an address that answers DNS.
//!
//! - [`World`]: two resolvers and two gates, and the names that lead to them
//! - [`zones`], [`dns_server`]: zone data, and a resolver that serves it
//! - [`gate`], [`certificates`]: a TLS server with API Gateway's 403, and the authority behind its certificate
//! - [`sockets`]: listeners that share a port
//! - [`client`]: a caller that resolves a name and makes an HTTPS call
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
use std::net::SocketAddr;

use hyper::StatusCode;

pub use hints::{hints, wants_colour};
pub use world::{Names, World, public_zones};

use table::{Cell, Expected, Place, Row};

const SERVED: StatusCode = StatusCode::OK;
const REFUSED: StatusCode = StatusCode::FORBIDDEN;

/// Calls the three APIs through the VPC resolver, then through the resolver at `sidegate`, and writes the table.
///
/// True if every call came out as it should, in the place that answered as well as in the status.
///
/// # Errors
/// Whatever `out` gives. A call that fails is a row that is not as expected.
pub async fn run(world: &World, sidegate: SocketAddr, out: &mut impl Write, colour: bool) -> io::Result<bool> {
    let names = world.names();
    let apis = [
        ("Private API", names.private_api, Place::Endpoint),
        ("Public API", names.public_api, Place::Internet),
        ("Custom domain of a public API", names.custom_domain, Place::Internet),
    ];
    let mut alone = Vec::with_capacity(apis.len());
    for (_, name, home) in apis {
        // Without Sidegate every name leads to the endpoint, which refuses those that are at home elsewhere.
        let status = if home == Place::Endpoint { SERVED } else { REFUSED };
        alone.push(call(world, world.vpc_resolver(), name, Expected { place: Place::Endpoint, status }).await);
    }
    let mut rows = Vec::with_capacity(apis.len());
    for ((what, name, home), vpc_alone) in apis.into_iter().zip(alone) {
        let with_sidegate = call(world, sidegate, name, Expected { place: home, status: SERVED }).await;
        rows.push(Row { what, name, vpc_alone, with_sidegate });
    }
    out.write_all(table::render(&rows, colour).as_bytes())?;
    out.flush()?;
    Ok(rows.iter().all(Row::as_expected))
}

async fn call(world: &World, resolver: SocketAddr, name: &str, expected: Expected) -> Cell {
    let outcome = world.client().call(resolver, name).await;
    Cell::new(outcome, expected, &world.endpoint_addresses(), &world.gateway_addresses())
}
