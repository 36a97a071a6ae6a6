//! What to try while the demo is kept running, and whether its output may have colours. The `demo` command calls both.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;

use super::World;

/// Writes the lines to try: a `dig` at each resolver, a `curl` to each gate, and how to stop. `ca` is a file that
/// holds [`World::ca_pem`].
///
/// # Errors
/// Whatever `out` gives.
pub fn hints(world: &World, sidegate: SocketAddr, ca: &Path, out: &mut impl Write) -> io::Result<()> {
    let (names, vpc, port) = (world.names(), world.vpc_resolver(), world.https_port());
    writeln!(out, "Ask for yourself: the VPC resolver, then Sidegate.")?;
    for resolver in [vpc, sidegate] {
        writeln!(out, "  dig @{} -p {} {}", resolver.ip(), resolver.port(), names.custom_domain)?;
    }
    writeln!(out, "Call a public API where the VPC resolver sends it, then where Sidegate does.")?;
    let places = [world.endpoint_addresses(), world.gateway_addresses()];
    for address in places.iter().filter_map(|addresses| addresses.first()) {
        let (name, ca) = (names.public_api, ca.display());
        writeln!(out, "  curl -i --resolve {name}:{port}:{address} --cacert {ca} https://{name}:{port}/")?;
    }
    writeln!(out, "Ctrl-C stops it all.")
}

/// Whether output to `out` should have colours: it is a terminal, and `NO_COLOR` is unset or empty (no-color.org).
pub fn wants_colour(out: &impl IsTerminal) -> bool {
    colour(out.is_terminal(), std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()))
}

fn colour(terminal: bool, refused: bool) -> bool {
    terminal && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_user_did_not_refuse_them() {
        assert!(colour(true, false));
        assert!(!colour(true, true));
        assert!(!colour(false, false));
    }

    #[tokio::test]
    async fn the_hints_name_every_address_that_one_needs() {
        let world = World::start().await.unwrap();
        let mut out = Vec::new();
        hints(&world, ([127, 0, 0, 1], 5353).into(), Path::new("/tmp/ca.pem"), &mut out).unwrap();
        let (dns, https) = (world.vpc_resolver().port(), world.https_port());
        let name = world.names().public_api;
        let curl = |address: &str| {
            format!("  curl -i --resolve {name}:{https}:{address} --cacert /tmp/ca.pem https://{name}:{https}/")
        };
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "Ask for yourself: the VPC resolver, then Sidegate.",
                &format!("  dig @127.0.0.2 -p {dns} api.example.com"),
                "  dig @127.0.0.1 -p 5353 api.example.com",
                "Call a public API where the VPC resolver sends it, then where Sidegate does.",
                &curl("127.0.0.11"),
                &curl("127.0.0.21"),
                "Ctrl-C stops it all.",
            ]
        );
    }
}
