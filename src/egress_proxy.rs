//! `forward.parent_proxy`: an egress proxy, and how a name is handed to it, unresolved, with HTTP CONNECT (RFC 9110
//! section 9.3.6).
//!
//! A leaf. `config` reads one; the forwarder's dialer goes through it on the public route, `dns` to `https://` servers
//! where `upstream.via_parent` says so. Both find out by themselves where the proxy is, and connect to it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::policy::HostName;

/// Octets that the heads of the proxy's answer may have in all.
const MAX_HEAD: usize = 16 << 10;
/// Headers in one of them.
const MAX_HEADERS: usize = 100;
/// Characters of what the proxy says that an error repeats.
const MAX_WORDS: usize = 160;

/// Where something is: an address, or a name that somebody looks up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    Address(IpAddr),
    Name(HostName),
}

/// As in a URL: IPv6 addresses in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            Host::Address(v4) => write!(f, "{v4}"),
            Host::Name(name) => write!(f, "{name}"),
        }
    }
}

/// An egress proxy that speaks HTTP/1.1 in clear text. Neither `Display` nor `Debug` shows its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressProxy {
    host: Host,
    port: NonZeroU16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

/// Why a text is no egress proxy: the rule, and a way to meet it. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EgressProxyError {
    #[error("a proxy is http://[user:password@]host:port: write one like http://10.0.0.5:3128")]
    Form,
    #[error("a user has no colon, and neither user nor password a control character: correct what %XX stand for")]
    Credentials,
}

/// Why the proxy did not connect. The operator of the proxy or of this configuration is to act on all but `Io`.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer to CONNECT in time")]
    Timeout,
    #[error("closed the connection before its answer to CONNECT was whole")]
    Closed,
    #[error("what answers there speaks no HTTP/1: correct forward.parent_proxy")]
    NotHttp,
    #[error("its answer to CONNECT has more than {MAX_HEAD} octets: correct forward.parent_proxy")]
    TooLong,
    /// What it said: reason, and `Proxy-Status` (RFC 9209) if it sent one.
    #[error("answered {status}{}: {}", told(.said), advice(*.status))]
    Refused { status: u16, said: String },
}

fn told(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" {said}") }
}

fn advice(status: u16) -> &'static str {
    match status {
        407 => "put the user and password it wants into forward.parent_proxy",
        403 => "have it allow this destination",
        500.. => "it did not get there; its own log says why",
        _ => "correct forward.parent_proxy, or have the proxy take CONNECT",
    }
}

impl EgressProxy {
    /// Where it is; to be looked up if it is a name.
    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port.get()
    }

    /// Has the proxy connect to `target`, over a connection to the proxy on which nothing was sent or read yet. What comes
    /// off the result is what the target sends, from its first byte on.
    ///
    /// # Errors
    /// The proxy refuses, fails, answers with something else, or not by `deadline`.
    pub async fn connect(
        &self,
        mut stream: TcpStream,
        target: &Host,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, EgressError> {
        let connected = async {
            stream.write_all(self.request(target, port).as_bytes()).await?;
            let mut left = MAX_HEAD;
            loop {
                let head = read_head(&mut stream, left).await?;
                left -= head.len();
                match verdict(&head)? {
                    // Not final: its answer is still to come (RFC 9110 section 15.2).
                    Verdict::Interim => {}
                    Verdict::Connected => return Ok(()),
                }
            }
        };
        timeout_at(deadline, connected).await.unwrap_or(Err(EgressError::Timeout))?;
        Ok(stream)
    }

    fn request(&self, target: &Host, port: u16) -> String {
        let mut request = format!("CONNECT {target}:{port} HTTP/1.1\r\nHost: {target}:{port}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request
    }
}

/// `http://[user:password@]host:port`; user and password are percent-encoded where they must be.
impl FromStr for EgressProxy {
    type Err = EgressProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("http://").ok_or(EgressProxyError::Form)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace() || c.is_control()) {
            return Err(EgressProxyError::Form);
        }
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let (host, port) = place.rsplit_once(':').ok_or(EgressProxyError::Form)?;
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(EgressProxyError::Form);
        }
        Ok(Self {
            host: host_of(host).ok_or(EgressProxyError::Form)?,
            port: port.parse().map_err(|_| EgressProxyError::Form)?,
            authorization: credentials.map(authorization).transpose()?,
        })
    }
}

fn host_of(text: &str) -> Option<Host> {
    if let Some(v6) = text.strip_prefix('[') {
        return v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|v6| Host::Address(v6.into()));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return ip.is_ipv4().then_some(Host::Address(ip));
    }
    let name = text.parse::<HostName>().ok().filter(|name| *name != HostName::ROOT)?;
    // 10.0.0.300 is a mistake and no name.
    let last = name.labels().last()?;
    (!last.iter().all(u8::is_ascii_digit)).then_some(Host::Name(name))
}

/// Basic credentials (RFC 7617 section 2) of `user:password` or `user`, percent-encoded.
fn authorization(credentials: &str) -> Result<String, EgressProxyError> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let user: Vec<u8> = percent_decode_str(user).collect();
    let password: Vec<u8> = percent_decode_str(password).collect();
    if user.contains(&b':') || user.iter().chain(&password).any(u8::is_ascii_control) {
        return Err(EgressProxyError::Credentials);
    }
    let pair = [user.as_slice(), b":", &password].concat();
    Ok(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

impl fmt::Display for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.authorization.is_some() { " with credentials" } else { "" };
        write!(f, "{self}{credentials}")
    }
}

/// Takes the head of one response off the connection, with the empty line that ends it and not an octet more: a target
/// that speaks first may have sent what follows.
async fn read_head(stream: &mut TcpStream, most: usize) -> Result<Vec<u8>, EgressError> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let room = buffer.len().min(most - head.len());
        if room == 0 {
            return Err(EgressError::TooLong);
        }
        let seen = stream.peek(&mut buffer[..room]).await?;
        if seen == 0 {
            return Err(EgressError::Closed);
        }
        let before = head.len();
        head.extend_from_slice(&buffer[..seen]);
        let end = end_of_head(&head, before);
        head.truncate(end.unwrap_or(head.len()));
        stream.read_exact(&mut buffer[..head.len() - before]).await?;
        if end.is_some() {
            return Ok(head);
        }
    }
}

/// Where an empty line ends that was not whole in the first `before` octets.
fn end_of_head(head: &[u8], before: usize) -> Option<usize> {
    (before..head.len()).find(|&at| head[..=at].ends_with(b"\n\r\n") || head[..=at].ends_with(b"\n\n")).map(|at| at + 1)
}

enum Verdict {
    Interim,
    Connected,
}

fn verdict(head: &[u8]) -> Result<Verdict, EgressError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let is_whole = response.parse(head).is_ok_and(|status| status.is_complete());
    match response.code.filter(|_| is_whole) {
        None => Err(EgressError::NotHttp),
        // 101 answers an upgrade, which nobody asked for.
        Some(100 | 102..=199) => Ok(Verdict::Interim),
        // Whatever it says of a body: there is none (RFC 9110 section 9.3.6).
        Some(200..=299) => Ok(Verdict::Connected),
        Some(status) => Err(EgressError::Refused { status, said: said(&response) }),
    }
}

/// The reason phrase and the proxy's own account (RFC 9209), in printable ASCII.
fn said(response: &httparse::Response<'_, '_>) -> String {
    let accounts = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("proxy-status"));
    let accounts: Vec<String> = accounts.map(|header| printable(header.value)).collect();
    let reason = printable(response.reason.unwrap_or_default().as_bytes());
    if accounts.is_empty() { reason } else { format!("{reason} ({})", printable(accounts.join(", ").as_bytes())) }
}

fn printable(bytes: &[u8]) -> String {
    bytes.iter().filter(|byte| matches!(byte, b' '..=b'~')).take(MAX_WORDS).map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests;
