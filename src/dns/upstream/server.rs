//! The address of one upstream server, as an operator writes it.
//!
//! `config` parses it; the transports beside this file connect to it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::egress_proxy::Host;
use crate::policy::HostName;

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP, and TCP where an answer does not fit (RFC 1035, RFC 7766). Port 53.
    Udp,
    /// TCP only. Port 53.
    Tcp,
    /// DNS over TLS, RFC 7858. Port 853.
    Tls,
    /// DNS over HTTPS, RFC 8484. Port 443.
    Https,
    /// DNS over QUIC, RFC 9250. Port 853.
    Quic,
}

impl Transport {
    /// The scheme, without `://`.
    pub fn scheme(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Https => "https",
            Transport::Quic => "quic",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 53,
            Transport::Tls | Transport::Quic => 853,
            Transport::Https => 443,
        }
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Https | Transport::Quic)
    }
}

/// One upstream server: `udp://`, `tcp://`, `tls://IP#name`, `https://IP-or-name/path`, `quic://IP#name`; a bare address
/// is UDP. Ports are optional, IPv6 addresses stand in brackets where a port follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    pub transport: Transport,
    /// A name is looked up through the `vpc` upstream.
    pub host: Host,
    pub port: u16,
    /// The name its certificate must carry: what follows `#`, else the host itself.
    pub tls_name: Option<HostName>,
    /// The path of `https://`; `/dns-query` if none is given.
    pub path: String,
}

/// Why a text is no server. Each message is the rule and a way to meet it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    #[error("a server is an address or udp://, tcp://, tls://, https://, quic:// and an address: like udp://10.0.0.2")]
    Scheme,
    #[error("{0}:// takes an IP address: only https:// looks a name up")]
    NeedsAddress(&'static str),
    #[error("an IPv6 address with a port stands in brackets: like [fd00:ec2::253]:53")]
    Brackets,
    #[error("a port is a number from 1 to 65535")]
    Port,
    #[error("what follows # is the name on the server's certificate: only tls:// and quic:// take one")]
    TlsName,
    #[error("only https:// takes a path")]
    Path,
}

impl Server {
    /// A server spoken to over UDP, with TCP where an answer does not fit.
    pub fn udp(address: SocketAddr) -> Self {
        Self {
            transport: Transport::Udp,
            host: Host::Address(address.ip()),
            port: address.port(),
            tls_name: None,
            path: String::new(),
        }
    }

    /// Its socket address, unless its name must be looked up first.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (transport, rest) = match text.split_once("://") {
            None => (Transport::Udp, text),
            Some(("udp", rest)) => (Transport::Udp, rest),
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some(("tls", rest)) => (Transport::Tls, rest),
            Some(("https", rest)) => (Transport::Https, rest),
            Some(("quic", rest)) => (Transport::Quic, rest),
            Some(_) => return Err(ServerError::Scheme),
        };
        let (rest, path) = match rest.find('/') {
            Some(at) if transport == Transport::Https => (&rest[..at], &rest[at..]),
            Some(_) => return Err(ServerError::Path),
            None if transport == Transport::Https => (rest, "/dns-query"),
            None => (rest, ""),
        };
        let (rest, tls_name) = match rest.split_once('#') {
            Some((rest, name)) if matches!(transport, Transport::Tls | Transport::Quic) => {
                (rest, Some(name.parse().map_err(|_| ServerError::TlsName)?))
            }
            Some(_) => return Err(ServerError::TlsName),
            None => (rest, None),
        };
        let (host, port) = split_port(rest)?;
        let port = port.unwrap_or(transport.default_port());
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => Host::Address(ip),
            Err(_) if transport == Transport::Https => Host::Name(host.parse().map_err(|_| ServerError::Scheme)?),
            Err(_) if host.parse::<HostName>().is_ok() && text.contains("://") => {
                return Err(ServerError::NeedsAddress(transport.scheme()));
            }
            Err(_) => return Err(ServerError::Scheme),
        };
        Ok(Self { transport, host, port, tls_name, path: path.to_owned() })
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port`; a bare IPv6 address has no port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), ServerError> {
    let port = |digits: &str| match digits.parse::<u16>() {
        Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(port)),
        _ => Err(ServerError::Port),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(ServerError::Brackets)?;
        return match after.strip_prefix(':') {
            Some(digits) => Ok((host, port(digits)?)),
            None if after.is_empty() => Ok((host, None)),
            None => Err(ServerError::Brackets),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((host, digits)) if !digits.contains(':') => Ok((host, port(digits)?)),
        Some(_) if text.parse::<IpAddr>().is_ok() => Ok((text, None)),
        Some(_) => Err(ServerError::Brackets),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport.scheme(), self.host)?;
        if self.port != self.transport.default_port() {
            write!(f, ":{}", self.port)?;
        }
        match &self.tls_name {
            Some(name) if self.transport.is_encrypted() => write!(f, "#{name}")?,
            _ => {}
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_written() {
        for (text, shown) in [
            ("10.0.0.2", "udp://10.0.0.2"),
            ("10.0.0.2:5300", "udp://10.0.0.2:5300"),
            ("fd00:ec2::253", "udp://[fd00:ec2::253]"),
            ("[fd00:ec2::253]:54", "udp://[fd00:ec2::253]:54"),
            ("tcp://10.0.0.2", "tcp://10.0.0.2"),
            ("tls://9.9.9.9#dns.quad9.net", "tls://9.9.9.9#dns.quad9.net"),
            ("tls://9.9.9.9:8853#dns.quad9.net", "tls://9.9.9.9:8853#dns.quad9.net"),
            ("https://1.1.1.1/dns-query", "https://1.1.1.1/dns-query"),
            ("https://dns.example", "https://dns.example/dns-query"),
            ("quic://[2001:db8::1]", "quic://[2001:db8::1]"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_server_is_refused_with_the_rule() {
        for (text, error) in [
            ("", ServerError::Scheme),
            ("ftp://10.0.0.2", ServerError::Scheme),
            ("resolver.example", ServerError::Scheme),
            ("tls://resolver.example", ServerError::NeedsAddress("tls")),
            ("10.0.0.2:0", ServerError::Port),
            ("10.0.0.2:+53", ServerError::Port),
            ("10.0.0.2:65536", ServerError::Port),
            ("[fd00::1", ServerError::Brackets),
            ("udp://10.0.0.2#name", ServerError::TlsName),
            ("tls://10.0.0.2#", ServerError::TlsName),
            ("udp://10.0.0.2/path", ServerError::Path),
        ] {
            assert_eq!(text.parse::<Server>(), Err(error), "{text}");
        }
    }
}
