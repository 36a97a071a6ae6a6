//! The lines of resolv.conf(5): what matters to Sidegate is who is asked, and what else a resolver reads.
//!
//! Read as the C libraries do where they agree. They do not about spaces before the keyword: those are forgiven here.

use std::net::IpAddr;

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    NameServer(NameServer<'a>),
    /// `search`, `domain`, `options` or `sortlist`, the whole line as it stands.
    Setting(&'a str),
    /// A comment, nothing, or what no resolver reads.
    Other,
}

/// The server of a `nameserver` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameServer<'a> {
    pub address: IpAddr,
    /// The interface of a link-local address, behind its `%` (RFC 4007 section 11).
    pub zone: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        let Ok(line) = str::from_utf8(line) else { return Self::Other };
        let line = line.trim_end_matches(['\r', '\n']);
        // musl ends its reading of a file's line at a NUL, and takes the next line for the rest of this one.
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Self::Other;
        }
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => words.next().and_then(NameServer::of).map_or(Self::Other, Self::NameServer),
            Some("search" | "domain" | "options" | "sortlist") => Self::Setting(line),
            _ => Self::Other,
        }
    }
}

impl<'a> NameServer<'a> {
    fn of(word: &'a str) -> Option<Self> {
        let word = word.split(['#', ';']).next()?;
        let (address, zone) = word.split_once('%').map_or((word, None), |(address, zone)| (address, Some(zone)));
        Some(Self { address: address.parse().ok()?, zone })
    }
}

/// Every line, in order.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    text.split_inclusive(|octet| *octet == b'\n').map(Line::of)
}

/// The servers of every `nameserver` line, in order, but for those with a zone: such servers are not asked.
pub fn name_servers(text: &[u8]) -> Vec<IpAddr> {
    let address = |line| match line {
        Line::NameServer(NameServer { address, zone: None }) => Some(address),
        _ => None,
    };
    lines(text).filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nameserver_lines_count() {
        let text = b"# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.2\n nameserver\tfd00:ec2::253 # two\nnameserver x\n\
            ;nameserver 1.1.1.2\nnameservers 1.1.1.3\nnameserver\nnameserver 10.0.0.3#three\r\nnameserver fe80::1%eth0\n\
            nameserver 10.0.0.4";
        let expected: [IpAddr; 4] = ["10.0.0.2", "fd00:ec2::253", "10.0.0.3", "10.0.0.4"].map(|ip| ip.parse().unwrap());
        assert_eq!(name_servers(text), expected);
    }

    #[test]
    fn every_kind_of_line_is_told_from_the_others() {
        let text =
            b"domain ec2.internal\nsearch a  b\r\noptions ndots:2 trust-ad\nsortlist 10.0.0.0/8\n\n#c\nfamily inet4\n\
            search a\0b\nsearch \xff\nnameserver fe80::1%eth0\n";
        let server = NameServer { address: "fe80::1".parse().unwrap(), zone: Some("eth0") };
        let expected = [
            Line::Setting("domain ec2.internal"),
            Line::Setting("search a  b"),
            Line::Setting("options ndots:2 trust-ad"),
            Line::Setting("sortlist 10.0.0.0/8"),
            Line::Other,
            Line::Other,
            Line::Other,
            Line::Other,
            Line::Other,
            Line::NameServer(server),
        ];
        assert_eq!(lines(text).collect::<Vec<_>>(), expected);
    }
}
