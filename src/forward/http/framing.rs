//! Which body follows a head: the rules of RFC 9112 section 6, without the parts that two readers read differently.
//!
//! Pure. `inbound` and `inbound_h2` ask it about requests, `outbound` about answers.

use bytes::Bytes;

use crate::forward::head::{Field, ResponseHead, Version};
use crate::forward::refusal::{Cause, Refusal};

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// It says so itself, RFC 9112 section 7.1.
    Chunked,
    /// With the connection; answers only.
    UntilClose,
}

/// The body of a request.
///
/// # Errors
/// What a server behind us might read differently: both lengths, a length twice, an encoding other than `chunked`.
pub(super) fn of_request(fields: &[Field], version: Version) -> Result<Framing, Refusal> {
    let framing = declared(fields, version)
        .map_err(|words| Refusal::new(Cause::BadRequest, format!("where the request ends is unclear: {words}")))?;
    Ok(framing.unwrap_or(Framing::None))
}

/// The body of the answer to a request with this method.
///
/// # Errors
/// As [`of_request`], with [`Cause::BadResponse`].
pub(super) fn of_response(method: &[u8], head: &ResponseHead) -> Result<Framing, Refusal> {
    let framing = declared(&head.fields, head.version).map_err(|words| {
        Refusal::new(Cause::BadResponse, format!("where the server's answer ends is unclear: {words}"))
    })?;
    Ok(if has_no_body(method, head.status) { Framing::None } else { framing.unwrap_or(Framing::UntilClose) })
}

/// Whether an answer ends with its head, whatever its fields say (RFC 9112 section 6.3).
pub(super) fn has_no_body(method: &[u8], status: u16) -> bool {
    method == b"HEAD" || matches!(status, 100..=199 | 204 | 304)
}

fn declared(fields: &[Field], version: Version) -> Result<Option<Framing>, &'static str> {
    let only = |name: &'static str| {
        let mut values = fields.iter().filter(move |field| field.is(name)).map(|field| &field.value);
        (values.next(), values.next().is_some())
    };
    match (only("transfer-encoding"), only("content-length")) {
        ((None, _), (None, _)) => Ok(None),
        ((Some(_), _), (Some(_), _)) => Err("it has both Content-Length and Transfer-Encoding"),
        ((Some(_), _), _) if version == Version::Http10 => Err("HTTP/1.0 has no Transfer-Encoding"),
        ((Some(encoding), false), _) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        ((Some(_), _), _) => Err("the one Transfer-Encoding is chunked, and once"),
        (_, (Some(_), true)) => Err("it has Content-Length twice"),
        (_, (Some(length), false)) => length_of(length).map(|length| Some(Framing::Length(length))),
    }
}

fn length_of(value: &Bytes) -> Result<u64, &'static str> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or("Content-Length is not a number of bytes")
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::forward::head::HeadReader;

    fn request(version: &str, fields: &str) -> Result<Framing, Cause> {
        let text = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let head = HeadReader::default().take(&mut BytesMut::from(text.as_str())).unwrap().unwrap();
        of_request(&head.fields, head.version).map_err(|refusal| refusal.cause)
    }

    fn response(method: &str, version_and_status: &str, fields: &str) -> Result<Framing, Cause> {
        let text = format!("HTTP/{version_and_status} x\r\n{fields}\r\n");
        let head = HeadReader::default().take_response(&mut BytesMut::from(text.as_str())).unwrap().unwrap();
        of_response(method.as_bytes(), &head).map_err(|refusal| refusal.cause)
    }

    #[test]
    fn a_request_has_the_body_it_declares() {
        assert_eq!(request("1.1", ""), Ok(Framing::None));
        assert_eq!(request("1.0", "Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(request("1.1", "Content-Length: 18446744073709551615\r\n"), Ok(Framing::Length(u64::MAX)));
        assert_eq!(request("1.1", "transfer-encoding: Chunked\r\n"), Ok(Framing::Chunked));
    }

    #[test]
    fn a_request_that_may_end_in_two_places_is_refused() {
        for (version, fields) in [
            ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            ("1.1", "Content-Length: 5\r\nContent-Length: 5\r\n"),
            ("1.1", "Content-Length: 5\r\nContent-Length: 6\r\n"),
            ("1.1", "Content-Length: 5, 5\r\n"),
            ("1.1", "Content-Length: +5\r\n"),
            ("1.1", "Content-Length: 0x5\r\n"),
            ("1.1", "Content-Length: 5 5\r\n"),
            ("1.1", "Content-Length:\r\n"),
            ("1.1", "Content-Length: 18446744073709551616\r\n"),
            ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            ("1.1", "Transfer-Encoding: gzip, chunked\r\n"),
            ("1.1", "Transfer-Encoding: chunked, identity\r\n"),
            ("1.1", "Transfer-Encoding: identity\r\n"),
            ("1.1", "Transfer-Encoding: xchunked\r\n"),
            ("1.1", "Transfer-Encoding:\r\n"),
            ("1.0", "Transfer-Encoding: chunked\r\n"),
        ] {
            assert_eq!(request(version, fields), Err(Cause::BadRequest), "{version} {fields:?}");
        }
    }

    #[test]
    fn an_answer_ends_where_its_status_method_and_fields_say() {
        assert_eq!(response("GET", "1.1 200", ""), Ok(Framing::UntilClose));
        assert_eq!(response("GET", "1.1 200", "Content-Length: 3\r\n"), Ok(Framing::Length(3)));
        assert_eq!(response("GET", "1.1 200", "Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(response("HEAD", "1.1 200", "Content-Length: 3\r\n"), Ok(Framing::None));
        for status in ["1.1 100", "1.1 103", "1.1 204", "1.1 304"] {
            assert_eq!(response("GET", status, "Content-Length: 3\r\n"), Ok(Framing::None), "{status}");
        }
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(response("GET", "1.1 200", both), Err(Cause::BadResponse));
        assert_eq!(response("GET", "1.0 200", "Transfer-Encoding: chunked\r\n"), Err(Cause::BadResponse));
        assert_eq!(response("GET", "1.1 200", "Content-Length: 3\r\nContent-Length: 3\r\n"), Err(Cause::BadResponse));
    }
}
