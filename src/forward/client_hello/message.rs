//! The body of a ClientHello (RFC 8446 section 4.1.2, alike in TLS 1.0 to 1.2) as far as its server name.

use std::net::IpAddr;

use super::{ClientHello, HelloError};
use crate::policy::{HostName, HostNameError};

/// RFC 6066 section 3.
const SERVER_NAME: u16 = 0;
/// RFC 9849 section 5.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// The only kind of server name there is.
const HOST_NAME: u8 = 0;

/// Reads a whole body.
pub(super) fn read(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut body = Fields(body);
    let (_legacy_version, _random) = (body.take(2)?, body.take(32)?);
    let session_id = body.vector8()?;
    let (cipher_suites, compression_methods) = (body.vector16()?, body.vector8()?);
    if session_id.len() > 32
        || cipher_suites.is_empty()
        || cipher_suites.len() % 2 == 1
        || compression_methods.is_empty()
    {
        return Err(HelloError::Malformed);
    }
    let mut hello = ClientHello { server_name: None, has_encrypted_hello: false };
    // Before TLS 1.3 a hello may end here.
    if body.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Fields(body.vector16()?);
    if !body.is_empty() {
        return Err(HelloError::Malformed);
    }
    while !extensions.is_empty() {
        let kind = extensions.number16()?;
        let data = extensions.vector16()?;
        let repeated = match kind {
            SERVER_NAME => hello.server_name.replace(server_name(data)?).is_some(),
            ENCRYPTED_CLIENT_HELLO => std::mem::replace(&mut hello.has_encrypted_hello, true),
            _ => false,
        };
        if repeated {
            return Err(HelloError::Repeated);
        }
    }
    Ok(hello)
}

/// The one host name in the extension. A list of several, or of other kinds, has no meaning that two servers share.
fn server_name(data: &[u8]) -> Result<HostName, HelloError> {
    let mut data = Fields(data);
    let mut list = Fields(data.vector16()?);
    if !data.is_empty() {
        return Err(HelloError::Malformed);
    }
    let kind = list.number8()?;
    let name = list.vector16()?;
    if kind != HOST_NAME || !list.is_empty() {
        return Err(HelloError::Repeated);
    }
    host_name(name)
}

/// A name in any case: servers compare without it. A trailing dot is refused, as RFC 6066 says: we would drop it, but
/// the server gets the client's own bytes and may know no such name.
fn host_name(name: &[u8]) -> Result<HostName, HelloError> {
    if name.is_empty() {
        return Err(HelloError::Malformed);
    }
    if let Some(&byte) = name.iter().find(|byte| !byte.is_ascii()) {
        return Err(HelloError::Name(HostNameError::Character(char::from(byte))));
    }
    let text = std::str::from_utf8(name).map_err(|_| HelloError::Malformed)?;
    if text.parse::<IpAddr>().is_ok() {
        return Err(HelloError::Address);
    }
    if text.ends_with('.') {
        return Err(HelloError::TrailingDot);
    }
    text.parse().map_err(HelloError::Name)
}

/// Takes fields from the front, never beyond the end.
struct Fields<'m>(&'m [u8]);

impl<'m> Fields<'m> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'m [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number8(&mut self) -> Result<u8, HelloError> {
        let (&number, rest) = self.0.split_first().ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(number)
    }

    fn number16(&mut self) -> Result<u16, HelloError> {
        let (&number, rest) = self.0.split_first_chunk().ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(number))
    }

    /// Bytes with their length before them in one octet.
    fn vector8(&mut self) -> Result<&'m [u8], HelloError> {
        let length = self.number8()?;
        self.take(usize::from(length))
    }

    /// Bytes with their length before them in two octets.
    fn vector16(&mut self) -> Result<&'m [u8], HelloError> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}
