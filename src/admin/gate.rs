//! Who may ask the admin listener what. A reload replaces it.
//!
//! Clients must be in `clients`; this host always may, whatever they are: its own health checks come from loopback. Whatever tells or changes more than health is for this host only. A request must name a
//! host that is an IP literal, localhost or in `admin.hosts`, so that no web page can reach us by a name of its own (DNS
//! rebinding); a page of another site must not change anything either, which it tries with its own `Origin` (RFC 6454).

use std::net::{IpAddr, SocketAddr};

use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Request, header};

use crate::policy::{HostName, Networks};

/// What any client may ask for.
const FOR_ALL: [&str; 4] = ["/startup", "/ready", "/live", "/metrics"];

/// Who may ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    pub clients: Networks,
    /// Names that a Host header may carry beside IP literals and localhost.
    pub hosts: Vec<HostName>,
}

impl Gate {
    /// Whether an address may connect at all.
    pub(super) fn admits_client(&self, client: SocketAddr) -> bool {
        is_this_host(client) || self.clients.contains(client.ip())
    }

    /// # Errors
    /// Why this client may not ask for this, and what to do.
    pub(super) fn admits<B>(&self, request: &Request<B>, client: SocketAddr) -> Result<(), &'static str> {
        let Some(host) = single(request.headers(), header::HOST).filter(|host| self.knows(host)) else {
            return Err("this Host is not known here: add it to admin.hosts");
        };
        if !FOR_ALL.contains(&request.uri().path()) && !is_this_host(client) {
            return Err("for this host only: ask from where it runs");
        }
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if changes && request.headers().contains_key(header::ORIGIN) {
            let origin = single(request.headers(), header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
            if origin.is_none_or(|origin| !origin.eq_ignore_ascii_case(host)) {
                return Err("from a page of another site: ask without Origin");
            }
        }
        Ok(())
    }

    fn knows(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let host = authority.host().trim_matches(['[', ']']);
        host.parse::<IpAddr>().is_ok()
            || host.parse().is_ok_and(|name: HostName| name.to_string() == "localhost" || self.hosts.contains(&name))
    }
}

fn is_this_host(client: SocketAddr) -> bool {
    client.ip().to_canonical().is_loopback()
}

/// The value of a field that must stand once.
fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().method(method).uri(path);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    fn admits(method: &str, path: &str, headers: &[(&str, &str)], client: &str) -> bool {
        let gate = Gate { clients: Networks::private(), hosts: vec!["sidegate.corp".parse().unwrap()] };
        gate.admits(&request(method, path, headers), client.parse().unwrap()).is_ok()
    }

    #[test]
    fn health_and_metrics_are_for_every_client_and_all_else_for_this_host() {
        let host = [("host", "10.0.0.5:9180")];
        for path in ["/startup", "/ready", "/live", "/metrics"] {
            assert!(admits("GET", path, &host, "10.0.0.9:5000"), "{path}");
        }
        let paths = ["/status", "/decisions", "/route?name=a.example", "/reload", "/drain", "/quitquitquit", "/"];
        for path in paths.into_iter().chain(["/ready/", "/metrics/", "/anything"]) {
            assert!(!admits("GET", path, &host, "10.0.0.9:5000"), "{path}");
            assert!(!admits("POST", path, &host, "10.0.0.9:5000"), "{path}");
            assert!(admits("GET", path, &host, "127.0.0.1:5000"), "{path}");
            assert!(admits("GET", path, &host, "[::ffff:127.0.0.1]:5000"), "{path}");
        }
    }

    #[test]
    fn this_host_may_connect_whatever_clients_says() {
        let gate = Gate { clients: Networks::new(vec!["10.0.0.0/8".parse().unwrap()]), hosts: Vec::new() };
        for (client, may) in [("127.0.0.1", true), ("127.9.9.9", true), ("::1", true), ("::ffff:127.0.0.1", true)]
            .into_iter()
            .chain([("10.1.1.1", true), ("192.168.0.1", false), ("203.0.113.1", false)])
        {
            assert_eq!(gate.admits_client(SocketAddr::new(client.parse().unwrap(), 5000)), may, "{client}");
        }
        let ready = request("GET", "/ready", &[("host", "127.0.0.1")]);
        assert!(gate.admits(&ready, "127.0.0.1:5000".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let from =
            |origin| admits("POST", "/reload", &[("host", "127.0.0.1:9180"), ("origin", origin)], "127.0.0.1:5000");
        assert!(from("http://127.0.0.1:9180"));
        for origin in ["http://evil.example", "https://127.0.0.1:9180", "http://127.0.0.1", "null", ""] {
            assert!(!from(origin), "{origin}");
        }
        let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")];
        assert!(!admits("POST", "/reload", &twice, "127.0.0.1:5000"));
        assert!(admits("POST", "/reload", &[("host", "localhost")], "127.0.0.1:5000"));
    }

    #[test]
    fn a_host_is_an_address_or_a_name_we_were_told() {
        let by = |host| admits("GET", "/ready", &[("host", host)], "127.0.0.1:5000");
        assert!(by("localhost") && by("LOCALHOST:9180") && by("[::1]:9180") && by("sidegate.corp:9180"));
        assert!(!by("evil.example") && !by("localhost.evil.example") && !by(""));
        assert!(!admits("GET", "/ready", &[("host", "localhost"), ("host", "localhost")], "127.0.0.1:5000"));
        assert!(!admits("GET", "/ready", &[], "127.0.0.1:5000"));
    }
}
