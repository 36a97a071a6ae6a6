//! The head of a message as it came: every byte that matters kept, everything ambiguous refused.
//!
//! `connect` and `http` read requests with it before anything acts on them, `http` also the answers. HTTP libraries mend
//! or hide what would be read in two ways (a doubled Host, a length beside an encoding); here such a request ends in a
//! 400, such an answer in a 502 (RFC 9112).

use bytes::{Bytes, BytesMut};

use super::refusal::{Cause, Refusal};

/// The longest head that is read, in bytes. API Gateway itself takes about 10 KiB of header values.
pub const MAX_HEAD: usize = 32 * 1024;
/// The most fields of a head.
pub const MAX_FIELDS: usize = 128;

/// The version in the request line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A field line: its name and value as they were written, without the white space around the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: Bytes,
    pub value: Bytes,
}

impl Field {
    /// Whether it has this name; case does not matter.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Request line and fields, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: Bytes,
    pub target: Bytes,
    pub version: Version,
    pub fields: Vec<Field>,
}

impl Head {
    /// The values of all fields with this name, in their order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> {
        self.fields.iter().filter(move |field| field.is(name)).map(|field| &field.value)
    }

    /// The one value of a field that may be there once at most.
    ///
    /// # Errors
    /// Where it is there twice.
    pub fn single(&self, name: &'static str) -> Result<Option<&Bytes>, Refusal> {
        let mut values = self.values(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(bad(format!("the request has {name} twice"))),
        }
    }
}

/// Status line and fields of an answer, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    pub version: Version,
    /// Three digits.
    pub status: u16,
    /// May be empty.
    pub reason: Bytes,
    pub fields: Vec<Field>,
}

/// Finds the head at the start of what a connection has sent so far.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Bytes known not to hold the end, so that a client that drips costs no more than one that does not.
    scanned: usize,
}

impl HeadReader {
    /// Takes the head of a request off the front of `buffer` once it is whole; what follows it stays there.
    ///
    /// # Errors
    /// A head that is too long, malformed, or ambiguous.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Head>, Refusal> {
        self.take_bytes(buffer).map_err(|TooLong| too_long())?.as_ref().map(parse).transpose()
    }

    /// Takes the head of an answer off the front of `buffer`, as [`HeadReader::take`] does.
    ///
    /// # Errors
    /// As there, with [`Cause::BadResponse`].
    pub fn take_response(&mut self, buffer: &mut BytesMut) -> Result<Option<ResponseHead>, Refusal> {
        let long = |TooLong| bad_answer(format!("its head is longer than {MAX_HEAD} bytes"));
        self.take_bytes(buffer).map_err(long)?.as_ref().map(parse_response).transpose()
    }

    fn take_bytes(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
        let from = self.scanned.saturating_sub(3);
        let end = buffer.get(from..).and_then(|new| new.windows(4).position(|four| four == b"\r\n\r\n"));
        let Some(length) = end.map(|end| from + end + 4) else {
            self.scanned = buffer.len();
            return if buffer.len() > MAX_HEAD { Err(TooLong) } else { Ok(None) };
        };
        if length > MAX_HEAD {
            return Err(TooLong);
        }
        self.scanned = 0;
        Ok(Some(buffer.split_to(length).freeze()))
    }
}

struct TooLong;

fn parse(bytes: &Bytes) -> Result<Head, Refusal> {
    if has_bare_line_feed(bytes) {
        return Err(bad("a line of the request ends without CR"));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the request ends before its head does")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(Cause::TooLong, format!("the request has more than {MAX_FIELDS} fields")));
        }
        Err(httparse::Error::Version) => return Err(bad("HTTP/1.1 and HTTP/1.0 are served here")),
        Err(error) => return Err(bad(format!("the request cannot be read: {error}"))),
    }
    let slice = |text: &str| bytes.slice_ref(text.as_bytes());
    let head = Head {
        method: slice(request.method.unwrap_or_default()),
        target: slice(request.path.unwrap_or_default()),
        version: version(request.version),
        fields: slices(bytes, request.headers),
    };
    // RFC 9112 section 3.2: exactly one, but HTTP/1.0 may do without.
    if head.single("host")?.is_none() && head.version == Version::Http11 {
        return Err(bad("the request has no Host"));
    }
    Ok(head)
}

fn parse_response(bytes: &Bytes) -> Result<ResponseHead, Refusal> {
    if has_bare_line_feed(bytes) {
        return Err(bad_answer("a line ends without CR"));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad_answer("it ends before its head does")),
        Err(error) => return Err(bad_answer(error)),
    }
    let status = response.code.unwrap_or_default();
    if status < 100 {
        return Err(bad_answer(format!("there is no status {status:03}")));
    }
    Ok(ResponseHead {
        version: version(response.version),
        status,
        reason: reason(bytes),
        fields: slices(bytes, response.headers),
    })
}

/// What follows `HTTP/1.1 200 ` on its line; the parser gives no reason that is not ASCII.
fn reason(bytes: &Bytes) -> Bytes {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or_default() + "HTTP/1.1 200".len();
    let length = bytes.get(start..).and_then(|rest| rest.iter().position(|byte| *byte == b'\r')).unwrap_or_default();
    let reason = bytes.slice(start..start + length);
    if reason.first() == Some(&b' ') { reason.slice(1..) } else { reason }
}

/// Some readers end a line at a bare LF, others do not: what stands behind one is read in two ways.
pub(super) fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let mut line_feeds = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    line_feeds.any(|(at, _)| at == 0 || bytes.get(at - 1) != Some(&b'\r'))
}

fn version(parsed: Option<u8>) -> Version {
    if parsed == Some(0) { Version::Http10 } else { Version::Http11 }
}

fn slices(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Vec<Field> {
    let field = |field: &httparse::Header<'_>| Field {
        name: bytes.slice_ref(field.name.as_bytes()),
        value: if field.value.is_empty() { Bytes::new() } else { bytes.slice_ref(field.value) },
    };
    fields.iter().map(field).collect()
}

fn bad(words: impl Into<String>) -> Refusal {
    Refusal::new(Cause::BadRequest, words)
}

fn bad_answer(words: impl std::fmt::Display) -> Refusal {
    Refusal::new(Cause::BadResponse, format!("the server's answer cannot be read: {words}"))
}

fn too_long() -> Refusal {
    Refusal::new(Cause::TooLong, format!("the request's head is longer than {MAX_HEAD} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<Head>, Refusal> {
        HeadReader::default().take(&mut BytesMut::from(text))
    }

    #[test]
    fn every_byte_and_the_order_of_fields_are_kept() {
        let text = "GET /a%2fb//c?q=%20<x>|{}^`\" HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-b:\t two  words \r\nX-A: \u{fc}\r\n\r\nrest";
        let mut buffer = BytesMut::from(text);
        let head = HeadReader::default().take(&mut buffer).unwrap().unwrap();
        assert_eq!(head.target, "/a%2fb//c?q=%20<x>|{}^`\"");
        let fields: Vec<_> = head.fields.iter().map(|f| (f.name.as_ref(), f.value.as_ref())).collect();
        let expected: [(&[u8], &[u8]); 4] =
            [(b"Host", b"x"), (b"X-A", b"1"), (b"x-b", b"two  words"), (b"X-A", "\u{fc}".as_bytes())];
        assert_eq!(fields, expected);
        assert_eq!(buffer, "rest");
    }

    #[test]
    fn a_head_that_drips_in_is_the_same_head() {
        let text = "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut reader, mut buffer) = (HeadReader::default(), BytesMut::new());
        let mut heads = text.bytes().filter_map(|byte| {
            buffer.extend_from_slice(&[byte]);
            reader.take(&mut buffer).unwrap()
        });
        assert_eq!(heads.next(), take(text).unwrap());
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(take(text).unwrap_err().cause, Cause::BadRequest, "{text:?}");
        }
    }

    #[test]
    fn an_answers_status_line_and_fields_are_kept_byte_for_byte() {
        let read = |text: &str| HeadReader::default().take_response(&mut BytesMut::from(text));
        let head = read("HTTP/1.1 404 N\u{f6}  t\r\nX-b: 1\r\nx-A:\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.reason.as_ref()), (404, "N\u{f6}  t".as_bytes()));
        let names: Vec<_> = head.fields.iter().map(|field| field.name.as_ref()).collect();
        assert_eq!(names, [b"X-b", b"x-A"]);
        for (text, reason) in [("HTTP/1.0 200\r\n\r\n", ""), ("HTTP/1.1 200 \r\n\r\n", "")] {
            assert_eq!(read(text).unwrap().unwrap().reason, reason);
        }
        for bad in [
            "HTTP/1.1 200 OK\nX: 1\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
            "ICY 200\r\n\r\n",
        ] {
            assert_eq!(read(bad).unwrap_err().cause, Cause::BadResponse, "{bad:?}");
        }
    }

    #[test]
    fn length_and_number_of_fields_are_bounded() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD));
        assert_eq!(take(&long).unwrap_err().cause, Cause::TooLong);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(MAX_FIELDS));
        assert_eq!(take(&many).unwrap_err().cause, Cause::TooLong);
    }
}
