//! Where a client wants to go: a name and a port, never an address.
//!
//! CONNECT targets, Host headers and SNI are read into a [`Destination`]; everything after that deals in names.

use std::fmt;
use std::net::IpAddr;

use crate::policy::{HostName, HostNameError};

/// A name and a port that somebody may want to be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Destination {
    pub host: HostName,
    pub port: u16,
}

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    #[error("IP addresses are not forwarded to: use the API's name")]
    Address,
    #[error("{0}")]
    Name(#[from] HostNameError),
    #[error("a port is a number from 1 to 65535")]
    Port,
    #[error("a host and a port are expected, like api.example.com:443")]
    NoPort,
}

impl Destination {
    /// Reads `host:port`, the target of CONNECT (RFC 9110 section 9.3.6): the port must be there.
    ///
    /// # Errors
    /// Anything but a name, also an address in one of its many spellings.
    pub fn of_connect(authority: &str) -> Result<Self, DestinationError> {
        let (host, port) = split(authority)?;
        Ok(Self { host: name(host)?, port: port.ok_or(DestinationError::NoPort)? })
    }

    /// Reads the value of a Host header (RFC 9110 section 7.2). A port equal to that of the listener it came in by
    /// says nothing about where to go, and neither does none: both mean 443.
    ///
    /// # Errors
    /// As [`Destination::of_connect`].
    pub fn of_host_header(value: &str, listener_port: u16) -> Result<Self, DestinationError> {
        let (host, port) = split(value)?;
        let port = port.filter(|port| *port != listener_port).unwrap_or(443);
        Ok(Self { host: name(host)?, port })
    }

    /// The name of an SNI, on 443.
    ///
    /// # Errors
    /// An address in one of its many spellings.
    pub fn of_server_name(host: HostName) -> Result<Self, DestinationError> {
        if is_address(&host) { Err(DestinationError::Address) } else { Ok(Self { host, port: 443 }) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Host and port of an authority. In brackets stands an address.
fn split(authority: &str) -> Result<(&str, Option<u16>), DestinationError> {
    if authority.starts_with('[') || authority.parse::<IpAddr>().is_ok() {
        return Err(DestinationError::Address);
    }
    let Some((host, port)) = authority.split_once(':') else { return Ok((authority, None)) };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or(DestinationError::Port)?;
    Ok((host, Some(port)))
}

fn name(host: &str) -> Result<HostName, DestinationError> {
    let name: HostName = host.parse()?;
    if name == HostName::ROOT {
        return Err(DestinationError::Name(HostNameError::Empty));
    }
    if is_address(&name) { Err(DestinationError::Address) } else { Ok(name) }
}

/// Whether a resolver's library would take the name for an IPv4 address: its last label is a number in decimal, octal
/// or hexadecimal (URL standard, "ends in a number"). No top-level domain is.
fn is_address(name: &HostName) -> bool {
    let Some(last) = name.labels().last() else { return false };
    match last {
        [b'0', b'x', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_needs_a_name_and_a_port() {
        let destination = Destination::of_connect("API.Example.com.:8443").unwrap();
        assert_eq!((destination.host.to_string().as_str(), destination.port), ("api.example.com", 8443));
        assert_eq!(Destination::of_connect("api.example.com"), Err(DestinationError::NoPort));
        for port in ["", "0", "65536", "+443", "4 43", "https"] {
            let target = format!("api.example.com:{port}");
            assert_eq!(Destination::of_connect(&target), Err(DestinationError::Port), "{target}");
        }
        for bad in [":443", ".:443", "user@host:443", "a b:443", "a..b:443"] {
            assert!(matches!(Destination::of_connect(bad), Err(DestinationError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn an_address_is_refused_however_it_is_spelled() {
        for host in [
            "127.0.0.1",
            "169.254.169.254",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0",
            "1.2.3.4.",
            "0x",
            "x.0X1",
            "[::1]",
            "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]",
            "[fe80::1%25eth0]",
        ] {
            let target = format!("{host}:443");
            assert_eq!(Destination::of_connect(&target), Err(DestinationError::Address), "{target}");
        }
        assert_eq!(Destination::of_host_header("::1", 80), Err(DestinationError::Address));
        let label = "10.example".parse().unwrap();
        assert!(Destination::of_server_name(label).is_ok(), "only the last label makes an address");
        assert_eq!(Destination::of_server_name("10.1".parse().unwrap()), Err(DestinationError::Address));
    }

    #[test]
    fn the_listeners_own_port_in_a_host_header_means_443() {
        let port = |value| Destination::of_host_header(value, 8080).unwrap().port;
        assert_eq!(port("api.example.com"), 443);
        assert_eq!(port("api.example.com:8080"), 443);
        assert_eq!(port("api.example.com:8443"), 8443);
    }
}
