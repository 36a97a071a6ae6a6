//! Reads the name that a TLS client asks for, from the raw bytes it sends first. Pure: bytes in, a name out.
//!
//! Used by the entrance that goes by SNI, and for the ClientHello inside a CONNECT tunnel. The bytes are passed on
//! untouched, so nothing here decodes more than it needs; what two readers might take for two names is refused.
//! This file puts the handshake message together, `message` reads it.

mod message;

use std::borrow::Cow;

use super::alert::Alert;
use crate::policy::{HostName, HostNameError};

/// A ClientHello must end within so many raw bytes, record headers included. A post-quantum one has about 1,700; what
/// makes one longer is session tickets.
pub const MAX_HELLO: usize = 16 * 1024;

/// The longest fragment of an unprotected record, RFC 8446 section 5.1.
const MAX_FRAGMENT: usize = 1 << 14;
/// Content type, version and length of a record.
const RECORD_HEADER: usize = 5;
/// Type and length of a handshake message, RFC 8446 section 4.
const MESSAGE_HEADER: usize = 4;
/// Content types, RFC 8446 section 5.1: change_cipher_spec, alert, handshake, application_data.
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=23;
/// The first byte of a record that holds a handshake message.
pub(super) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// How far a [`HelloReader`] has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// More bytes are needed.
    Partial,
    Complete(ClientHello),
}

/// What a client says of itself in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The name asked for; `None` if it asks for none.
    pub server_name: Option<HostName>,
    /// Whether there is an encrypted ClientHello inside (RFC 9849), genuine or not: `server_name` may then be a front.
    pub has_encrypted_hello: bool,
}

/// Why the bytes are not a ClientHello that may be passed on; always the client's doing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("the client speaks plain HTTP where TLS is expected: use https://")]
    PlainHttp,
    #[error("the client begins with an SSLv2 hello: use TLS 1.2 or newer")]
    Sslv2,
    #[error("the client does not speak TLS: its first bytes are no record")]
    NotTls,
    #[error("the client begins TLS with something else than a ClientHello")]
    Unexpected,
    #[error("a record of {0} bytes: a record has 1 to 16384")]
    RecordLength(u16),
    #[error("the ClientHello does not end within {MAX_HELLO} bytes")]
    TooLong,
    #[error("the ClientHello is malformed")]
    Malformed,
    #[error("the ClientHello has an extension twice, or more than the one host name of RFC 6066")]
    Repeated,
    #[error("the server name is an IP address: ask for a host name")]
    Address,
    #[error("the server name ends with a dot, which RFC 6066 section 3 forbids")]
    TrailingDot,
    #[error("the server name is not a host name: {0}")]
    Name(HostNameError),
}

impl HelloError {
    /// The alert to answer with; `None` where the client would not understand one.
    pub fn alert(&self) -> Option<Alert> {
        match self {
            Self::PlainHttp | Self::NotTls => None,
            Self::Sslv2 => Some(Alert::PROTOCOL_VERSION),
            // An empty handshake record is forbidden without an alert being named; RFC 8446 section 5.4 names this
            // one for its protected sibling.
            Self::Unexpected | Self::RecordLength(0) => Some(Alert::UNEXPECTED_MESSAGE),
            Self::RecordLength(_) => Some(Alert::RECORD_OVERFLOW),
            Self::Malformed => Some(Alert::DECODE_ERROR),
            // No alert is meant for a message that is legal but too long for us; OpenSSL sends this one too.
            Self::TooLong => Some(Alert::ILLEGAL_PARAMETER),
            Self::Repeated | Self::Address | Self::TrailingDot | Self::Name(_) => Some(Alert::ILLEGAL_PARAMETER),
        }
    }

    /// A stable label for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::Sslv2 => "sslv2",
            Self::NotTls => "not_tls",
            Self::Unexpected => "not_a_client_hello",
            Self::RecordLength(_) => "record_length",
            Self::TooLong => "client_hello_too_long",
            Self::Malformed => "client_hello_malformed",
            Self::Repeated => "server_name_repeated",
            Self::Address => "server_name_address",
            Self::TrailingDot | Self::Name(_) => "server_name_invalid",
        }
    }
}

/// Follows a ClientHello while it arrives, in however small pieces: each byte is looked at once, and once more when the
/// message is whole. Allocates only for a message in several records, once.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Raw bytes that were looked at.
    at: usize,
    /// What is left of the record that begins before `at`.
    record_left: usize,
    /// Type and length of the message, as far as they were seen.
    header: [u8; MESSAGE_HEADER],
    /// Handshake bytes seen.
    seen: usize,
}

impl HelloReader {
    /// Goes on reading. `bytes` is everything the client has sent so far, from its first byte on.
    ///
    /// The outcome depends on the bytes alone, not on how they were split. Bytes after the ClientHello are ignored.
    ///
    /// # Errors
    /// [`HelloError`], as soon as the bytes cannot become a ClientHello.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Reading, HelloError> {
        let bytes = bytes.get(..MAX_HELLO).unwrap_or(bytes);
        while !self.is_whole() {
            if self.at == 0 && !starts_as_tls(bytes)? {
                return Ok(Reading::Partial);
            }
            let progress = if self.record_left == 0 { self.enter_record(bytes)? } else { self.take_fragment(bytes)? };
            if !progress {
                return if bytes.len() < MAX_HELLO { Ok(Reading::Partial) } else { Err(HelloError::TooLong) };
            }
        }
        let message = whole_message(bytes, MESSAGE_HEADER + self.length())?;
        message::read(message.get(MESSAGE_HEADER..).unwrap_or_default()).map(Reading::Complete)
    }

    /// Reads the header of the next record; false if it is not all there.
    fn enter_record(&mut self, bytes: &[u8]) -> Result<bool, HelloError> {
        let Some(&header) = bytes.get(self.at..).and_then(<[u8]>::first_chunk::<RECORD_HEADER>) else {
            return Ok(false);
        };
        let [content_type, major, _minor, length @ ..] = header;
        // The minor version is to be ignored, RFC 8446 section 5.1; another major one never was TLS.
        if !CONTENT_TYPES.contains(&content_type) || major != 3 {
            return Err(if self.at == 0 { HelloError::NotTls } else { HelloError::Unexpected });
        }
        if content_type != HANDSHAKE {
            return Err(HelloError::Unexpected);
        }
        let length = u16::from_be_bytes(length);
        if length == 0 || usize::from(length) > MAX_FRAGMENT {
            return Err(HelloError::RecordLength(length));
        }
        self.at += RECORD_HEADER;
        self.record_left = usize::from(length);
        Ok(true)
    }

    /// Counts what has arrived of the current record; false if that is nothing.
    fn take_fragment(&mut self, bytes: &[u8]) -> Result<bool, HelloError> {
        let arrived = bytes.get(self.at..).unwrap_or_default();
        let fragment = arrived.get(..self.record_left).unwrap_or(arrived);
        let unread = self.header.iter_mut().skip(self.seen);
        unread.zip(fragment).for_each(|(place, byte)| *place = *byte);
        self.seen += fragment.len();
        self.at += fragment.len();
        self.record_left -= fragment.len();
        if self.seen > 0 && self.header[0] != CLIENT_HELLO {
            return Err(HelloError::Unexpected);
        }
        if self.seen >= MESSAGE_HEADER && RECORD_HEADER + MESSAGE_HEADER + self.length() > MAX_HELLO {
            return Err(HelloError::TooLong);
        }
        Ok(!fragment.is_empty())
    }

    /// The length of the message's body, once its header was seen.
    fn length(&self) -> usize {
        let [_type, high, middle, low] = self.header;
        u32::from_be_bytes([0, high, middle, low]) as usize
    }

    fn is_whole(&self) -> bool {
        self.seen >= MESSAGE_HEADER && self.seen >= MESSAGE_HEADER + self.length()
    }
}

/// Whether the first byte is that of a TLS record; false if there is none, or too few to tell what it is instead.
fn starts_as_tls(bytes: &[u8]) -> Result<bool, HelloError> {
    if bytes.first().is_some_and(|first| CONTENT_TYPES.contains(first)) {
        return Ok(true);
    }
    let Some(start) = bytes.first_chunk::<4>() else { return Ok(false) };
    Err(match start {
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"CONN" | b"OPTI" | b"TRAC" | b"PATC" | b"PRI " => {
            HelloError::PlainHttp
        }
        // Two octets of length with the highest bit set, then the type, RFC 5246 appendix E.2.
        [0x80..=0xff, _, CLIENT_HELLO, _] => HelloError::Sslv2,
        _ => HelloError::NotTls,
    })
}

/// The first `length` handshake bytes of records that were found good.
fn whole_message(bytes: &[u8], length: usize) -> Result<Cow<'_, [u8]>, HelloError> {
    let mut gathered = Vec::new();
    let mut rest = bytes;
    loop {
        let (header, after) = rest.split_first_chunk::<RECORD_HEADER>().ok_or(HelloError::Malformed)?;
        let fragment_length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let wanted = (length - gathered.len()).min(fragment_length);
        let (fragment, after) = after.split_at_checked(wanted).ok_or(HelloError::Malformed)?;
        if wanted == length {
            return Ok(Cow::Borrowed(fragment));
        }
        gathered.reserve_exact(length - gathered.len());
        gathered.extend_from_slice(fragment);
        if gathered.len() == length {
            return Ok(Cow::Owned(gathered));
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests;
