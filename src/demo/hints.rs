//! What to try while the demo is kept running, and whether its output may have colours. The `demo` command calls both.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use super::World;
use super::client::Way;

/// Writes the lines to try: a `dig` at each resolver, a `curl` to each gate and by each entrance among Sidegate's `ways`,
/// and how to stop. `ca` is a file that holds [`World::ca_pem`].
///
/// # Errors
/// Whatever `out` gives.
pub fn hints(world: &World, ways: &[Way], ca: &Path, out: &mut impl Write) -> io::Result<()> {
    let (names, vpc, port, ca) = (world.names(), world.vpc_resolver(), world.https_port(), ca.display());
    let sidegate = ways.iter().filter_map(|way| if let Way::Dns(resolver) = way { Some(*resolver) } else { None });
    writeln!(out, "Ask for yourself: the VPC resolver, then Sidegate.")?;
    for resolver in std::iter::once(vpc).chain(sidegate) {
        writeln!(out, "  dig @{} -p {} {}", resolver.ip(), resolver.port(), names.custom_domain)?;
    }
    writeln!(out, "Call a public API where the VPC resolver sends it, then where Sidegate does.")?;
    let places = [world.endpoint_addresses(), world.gateway_addresses()];
    for address in places.iter().filter_map(|addresses| addresses.first()) {
        let name = names.public_api;
        writeln!(out, "  curl -i --resolve {name}:{port}:{address} --cacert {ca} https://{name}:{port}/")?;
    }
    let calls = |curl: &dyn Fn(&str) -> String| [names.private_api, names.public_api].map(curl);
    for way in ways {
        let (how, calls) = match way {
            Way::Dns(_) => continue,
            Way::Connect(proxy) => (
                "as a proxy, by HTTPS_PROXY",
                calls(&|name| format!("HTTPS_PROXY=http://{proxy} curl -i --cacert {ca} https://{name}/")),
            ),
            Way::Sni(entrance) => (
                "with connections redirected to it, by SNI",
                calls(&|name| format!("curl -i --connect-to ::{entrance} --cacert {ca} https://{name}/")),
            ),
            Way::Http(entrance) => (
                "in plain HTTP, which it turns into HTTPS",
                calls(&|name| format!("curl -i -H 'Host: {name}' http://{entrance}/")),
            ),
        };
        writeln!(out, "Call the private API, then the public one, through Sidegate {how}.")?;
        for call in calls {
            writeln!(out, "  {call}")?;
        }
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
        let at = |port: u16| ([127, 0, 0, 1], port).into();
        let ways = [Way::Dns(at(5353)), Way::Connect(at(3128)), Way::Sni(at(8443)), Way::Http(at(8080))];
        hints(&world, &ways, Path::new("/tmp/ca.pem"), &mut out).unwrap();
        let (dns, https) = (world.vpc_resolver().port(), world.https_port());
        let (name, private) = (world.names().public_api, world.names().private_api);
        let ca = "--cacert /tmp/ca.pem https://";
        let curl_api = format!("curl -i {ca}");
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
                "Call the private API, then the public one, through Sidegate as a proxy, by HTTPS_PROXY.",
                &format!("  HTTPS_PROXY=http://127.0.0.1:3128 {curl_api}{private}/"),
                &format!("  HTTPS_PROXY=http://127.0.0.1:3128 {curl_api}{name}/"),
                "Call the private API, then the public one, through Sidegate with connections redirected to it, by SNI.",
                &format!("  curl -i --connect-to ::127.0.0.1:8443 {ca}{private}/"),
                &format!("  curl -i --connect-to ::127.0.0.1:8443 {ca}{name}/"),
                "Call the private API, then the public one, through Sidegate in plain HTTP, which it turns into HTTPS.",
                &format!("  curl -i -H 'Host: {private}' http://127.0.0.1:8080/"),
                &format!("  curl -i -H 'Host: {name}' http://127.0.0.1:8080/"),
                "Ctrl-C stops it all.",
            ]
        );
    }
}
