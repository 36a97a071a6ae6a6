//! One string to one value: every text an operator writes that is more than free text.
//!
//! Called through `read`. Each function says the rule a text breaks and one way to meet it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::error::{Reason, quoted};
use super::suggest::nearest;
use crate::dns::upstream::{Server, ServerError};
use crate::egress_proxy::{EgressProxy, EgressProxyError};
use crate::forward::AllowedDestination;
use crate::policy::{ApiId, HostName, HostNameError, Network, NetworkError, Region, VpceId};

/// One of a few words.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Reason> {
    if let Some(&(_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(value);
    }
    let names: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
    let near = nearest(text, names.iter().copied()).or(names.first().copied()).unwrap_or_default();
    let listed: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    Err(Reason::new(format!("one of {} is expected", listed.join(", ")), format!("write {}", quoted(near))))
}

/// A number with a unit, `least` to `most`.
pub(super) fn duration(text: &str, least: &str, most: &str) -> Result<Duration, Reason> {
    let parsed = plain_duration(text).ok_or_else(|| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let fix = if digits { quoted(&format!("{text}s")) } else { "one like \"500ms\" or \"20s\"".to_owned() };
        Reason::new("a duration is a whole number and its unit: ms, s, m, h or d", format!("write {fix}"))
    })?;
    let rule = || format!("this may be {least} to {most}");
    match (plain_duration(least), plain_duration(most)) {
        (Some(limit), _) if parsed < limit => Err(Reason::new(rule(), format!("write {}", quoted(least)))),
        (_, Some(limit)) if parsed > limit => Err(Reason::new(rule(), format!("write {}", quoted(most)))),
        _ => Ok(parsed),
    }
}

fn plain_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u32 = digits.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(u64::from(number) * milliseconds))
}

/// `IP:port`.
pub(super) fn listener(text: &str) -> Result<SocketAddr, Reason> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let fix = match (text.parse::<IpAddr>(), port) {
            (Ok(IpAddr::V4(v4)), _) => format!("add the port, like \"{v4}:5353\""),
            (Ok(IpAddr::V6(v6)), _) => format!("add the port, like \"[{v6}]:5353\""),
            (Err(_), Some(port)) if text.starts_with("localhost:") => format!("write \"127.0.0.1:{port}\""),
            (Err(_), Some(port)) => format!("write \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for every interface"),
            _ => "write one like \"127.0.0.1:5353\" or \"[::1]:5353\"".to_owned(),
        };
        Reason::new("a listener is an IP address and a port", fix)
    })
}

/// An IP address that something can listen on.
pub(super) fn address(text: &str) -> Result<IpAddr, Reason> {
    let parsed: Result<IpAddr, Reason> = text.parse().map_err(|_| {
        let fix = match text.parse::<SocketAddr>() {
            Ok(with_port) => format!("take the port off: \"{}\"", with_port.ip()),
            Err(_) => "write one like \"10.0.1.10\"".to_owned(),
        };
        Reason::new("an address is an IPv4 or IPv6 address, without port or prefix", fix)
    });
    let address = parsed?;
    if address.is_unspecified() || address.is_multicast() {
        let fix = "write the address of one host, like \"10.0.1.10\"";
        return Err(Reason::new("nothing can be reached at this address", fix));
    }
    Ok(address)
}

/// An API id.
pub(super) fn api_id(text: &str) -> Result<ApiId, Reason> {
    text.parse().map_err(|error: crate::policy::IdentifierError| {
        let host = host_part(text);
        let first = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let fix = match first.parse::<ApiId>() {
            Ok(id) if host.contains('.') || text.chars().any(|c| c.is_ascii_uppercase()) => format!("write \"{id}\""),
            _ => split(&error.to_string(), "").fix,
        };
        Reason::new(split(&error.to_string(), "").rule, fix)
    })
}

/// A region; with a DNS suffix set by hand (`any`), also one of no known partition.
pub(super) fn region(text: &str, any: bool) -> Result<Region, Reason> {
    let parsed = if any { Region::outside_partitions(text) } else { text.parse() };
    parsed.map_err(|error| {
        let lower = text.to_ascii_lowercase().replace('_', "-");
        let zone = lower.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let reason = split(&error.to_string(), "");
        match [lower.as_str(), zone].iter().find_map(|text| text.parse::<Region>().ok()) {
            Some(region) => Reason::new(reason.rule, format!("write \"{region}\"")),
            None => reason,
        }
    })
}

/// The id of a VPC endpoint.
pub(super) fn vpce_id(text: &str) -> Result<VpceId, Reason> {
    text.parse().map_err(|error: crate::policy::IdentifierError| split(&error.to_string(), ""))
}

/// A domain name.
pub(super) fn host_name(text: &str) -> Result<HostName, Reason> {
    text.parse().map_err(|error: HostNameError| {
        let reason = split(&error.to_string(), "write one like \"orders.corp.example\"");
        match (&error, host_part(text).parse::<HostName>()) {
            (HostNameError::Character('/' | ':' | '@'), Ok(name)) => {
                Reason::new("a name is only a name, without scheme, port or path", format!("write \"{name}\""))
            }
            _ => reason,
        }
    })
}

/// An upstream server.
pub(super) fn server(text: &str) -> Result<Server, Reason> {
    text.parse().map_err(|error: ServerError| {
        if let (ServerError::Scheme, Ok(name)) = (&error, text.parse::<HostName>()) {
            let fix = format!("write its address, like \"udp://10.0.0.2\", or \"https://{name}/dns-query\"");
            return Reason::new("only https:// looks a server's name up", fix);
        }
        let fix = match error {
            ServerError::Scheme => "write an address, like \"udp://10.0.0.2\"",
            ServerError::NeedsAddress(_) => "write the server's address; its name may follow, like tls://9.9.9.9#name",
            ServerError::Brackets => "put brackets around the address",
            ServerError::Port => "correct the port, or leave it out",
            ServerError::TlsName => "write it like \"tls://9.9.9.9#dns.quad9.net\", or leave # out",
            ServerError::Path => "take the path off, or write https://",
        };
        let mut reason = split(&error.to_string(), fix);
        fix.clone_into(&mut reason.fix);
        reason
    })
}

/// A network in CIDR form.
pub(super) fn network(text: &str) -> Result<Network, Reason> {
    text.parse().map_err(|error: NetworkError| split(&error.to_string(), "write one like \"10.0.0.0/8\""))
}

/// An entry of `forward.allow`.
pub(super) fn destination(text: &str) -> Result<AllowedDestination, Reason> {
    let rule = "a destination is name, *.name, or either with :port; IP addresses are always refused";
    let fix = match host_part(text).parse::<HostName>() {
        Ok(name) if !is_address(host_part(text)) => format!("write \"{name}\""),
        _ => "write one like \"api.example.com\" or \"*.example.com:8443\"".to_owned(),
    };
    let refused = || Reason::new(rule, fix.clone());
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, self::port(port).ok_or_else(refused)?),
        None => (text, 443),
    };
    let (name, below) = match name.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.contains('*') || is_address(name) {
        return Err(refused());
    }
    let name: HostName = name.parse().map_err(|_| refused())?;
    if name == HostName::ROOT { Err(refused()) } else { Ok(AllowedDestination { name, below, port }) }
}

/// An `http://` or `https://` URL with a host.
pub(super) fn url(text: &str) -> Result<String, Reason> {
    let uri = text.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    let Some(host) = uri.as_ref().and_then(Uri::host).filter(|host| !host.is_empty()) else {
        let rule = "a URL begins with http:// or https:// and a host";
        return Err(Reason::new(rule, "write one like \"https://host/path\""));
    };
    // What is no port reads as none, and the default would be dialled.
    let authority = uri.as_ref().and_then(Uri::authority).map_or("", |authority| authority.as_str());
    let after_user = authority.rsplit('@').next().unwrap_or_default();
    let written = after_user.strip_prefix(host).unwrap_or_default();
    if !written.is_empty() && written.strip_prefix(':').and_then(port).is_none() {
        return Err(Reason::new("a URL's port is 1 to 65535", "correct the port, or leave it out"));
    }
    Ok(text.to_owned())
}

/// An egress proxy.
pub(super) fn proxy(text: &str) -> Result<EgressProxy, Reason> {
    text.parse().map_err(|error: EgressProxyError| split(&error.to_string(), ""))
}

/// A file's path.
pub(super) fn path(text: &str) -> Result<PathBuf, Reason> {
    if text.is_empty() || text.contains('\0') {
        return Err(Reason::new("a path is not empty and has no NUL", "write the path of a file"));
    }
    Ok(PathBuf::from(text))
}

fn port(digits: &str) -> Option<u16> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().filter(|&port| port > 0)
}

fn is_address(text: &str) -> bool {
    text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// What stands in a URL or `host:port` where the host belongs.
fn host_part(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit('@').next().unwrap_or_default();
    rest.split(':').next().unwrap_or_default()
}

/// Splits `rule: fix`, as the types' own errors are worded.
fn split(text: &str, fix: &str) -> Reason {
    let (rule, fix) = text.split_once(": ").unwrap_or((text, fix));
    Reason::new(rule, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix<T: std::fmt::Debug>(result: Result<T, Reason>) -> String {
        result.unwrap_err().fix
    }

    #[test]
    fn durations_have_a_unit_and_limits() {
        let read = |text| duration(text, "1s", "1d");
        assert_eq!(read("1m").unwrap(), Duration::from_secs(60));
        assert_eq!(read("1500ms").unwrap(), Duration::from_millis(1500));
        assert_eq!(read("24h"), read("1d"));
        assert_eq!(fix(read("20")), "write \"20s\"");
        assert_eq!(fix(read("999ms")), "write \"1s\"");
        assert_eq!(fix(read("25h")), "write \"1d\"");
        for bad in ["", "s", "1.5s", "-1s", "1 s", "1S", "99999999999h"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listeners_are_an_address_and_a_port() {
        assert!(listener("127.0.0.1:0").is_ok() && listener("[::1]:5353").is_ok());
        assert_eq!(fix(listener("::1")), "add the port, like \"[::1]:5353\"");
        assert_eq!(fix(listener("localhost:53")), "write \"127.0.0.1:53\"");
        assert_eq!(fix(listener(":53")), "write \"127.0.0.1:53\", or \"0.0.0.0:53\" for every interface");
    }

    #[test]
    fn a_pasted_url_is_answered_with_the_part_that_was_meant() {
        let pasted = "https://A1b2c3d4e5.execute-api.us-east-1.amazonaws.com/prod";
        assert_eq!(fix(api_id(pasted)), "write \"a1b2c3d4e5\"");
        assert_eq!(fix(host_name("https://orders.corp.example/x")), "write \"orders.corp.example\"");
        assert_eq!(fix(region("us_east_1", false)), "write \"us-east-1\"");
        assert_eq!(fix(region("us-east-1a", false)), "write \"us-east-1\"");
    }

    #[test]
    fn destinations_are_names() {
        let read = |text: &str| destination(text).map(|d| (d.name.to_string(), d.below, d.port));
        assert_eq!(read("a.example"), Ok(("a.example".to_owned(), false, 443)));
        assert_eq!(read("*.a.example:8443"), Ok(("a.example".to_owned(), true, 8443)));
        for bad in ["", "*", "*.", "a.*.b", "10.0.0.1", "[::1]:443", "::1", "a:0", "a:x", "https://a.example", "."] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_port_of_a_url_is_one() {
        for good in ["http://127.0.0.1:9/x", "http://[::1]:65535", "http://u:p@host:80/a:b?c:d", "https://[::1]/"] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in ["http://127.0.0.1:99999/ids", "http://h:x", "http://h:0", "http://u:1@h:65536/", "http://[::1]:x/"]
        {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert_eq!(fix(url("http://127.0.0.1:99999/ids")), "correct the port, or leave it out");
    }

    #[test]
    fn urls_and_proxies_have_a_scheme_and_a_host() {
        assert!(url("https://host/path?x=1").is_ok() && url("ftp://host").is_err() && url("host/path").is_err());
        assert!(proxy("http://u:p@10.0.0.5:3128").is_ok() && proxy("http://[::1]:3128/").is_ok());
        for bad in ["10.0.0.5:3128", "http://host", "https://host:1", "http://host:1/path", "http://host:0"] {
            assert!(proxy(bad).is_err(), "{bad}");
        }
    }
}
