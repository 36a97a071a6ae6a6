//! Reads a body in chunks (RFC 9112 section 7.1): sizes, extensions, trailers, all of them bounded.
//!
//! Pure: bytes come from a buffer that `body` fills. A line ends with CR and LF, a size is plain hexadecimal, and nothing
//! else is taken for one: a reader behind us that is as lenient as we were would see other chunks.

use bytes::{Buf, Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::forward::head::has_bare_line_feed;

/// The longest line with a size, its extensions included, in bytes.
const MAX_LINE: usize = 1024;
/// All extensions of a body together, in bytes: they are read and dropped, work for nothing.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// All trailers together, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;
/// The most trailers.
const MAX_FIELDS: usize = 64;

/// What comes next in a body.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// More bytes are needed to tell.
    More,
    Data(Bytes),
    /// The end, with the trailers if there are any.
    End(Option<HeaderMap>),
}

/// A body that is not in chunks, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub &'static str);

/// Where in a body the reader is.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
    extensions: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// CR and LF after a chunk.
    DataEnd,
    Trailers,
}

impl Decoder {
    /// Takes the next piece off the front of `buffer`.
    ///
    /// # Errors
    /// What is no chunk, or too long.
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match &mut self.state {
                State::Size => {
                    let Some(line) = take_line(buffer)? else { return Ok(Piece::More) };
                    let size = self.size(&line)?;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(_) if buffer.is_empty() => return Ok(Piece::More),
                State::Data(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Piece::Data(buffer.split_to(length).freeze()));
                }
                State::DataEnd => {
                    let Some(end) = buffer.get(..2) else { return Ok(Piece::More) };
                    if end != b"\r\n" {
                        return Err(Malformed("a chunk is longer than its size says"));
                    }
                    buffer.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => return trailers(buffer),
            }
        }
    }

    fn size(&mut self, line: &[u8]) -> Result<u64, Malformed> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extensions) = line.split_at(digits);
        if !matches!(extensions.trim_ascii_start().first(), None | Some(b';')) {
            return Err(Malformed("the size of a chunk is no hexadecimal number"));
        }
        self.extensions += extensions.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err(Malformed("chunk extensions are too long"));
        }
        let size = std::str::from_utf8(size).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        size.ok_or(Malformed("the size of a chunk is no hexadecimal number"))
    }
}

/// A line without its end.
fn take_line(buffer: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    let Some(at) = buffer.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if buffer.len() < MAX_LINE { Ok(None) } else { Err(Malformed("the size line of a chunk is too long")) };
    };
    let line = buffer.split_to(at + 1);
    match line.strip_suffix(b"\r\n") {
        Some(text) if !text.contains(&b'\r') => {
            let length = text.len();
            let mut line = line;
            line.truncate(length);
            Ok(Some(line))
        }
        _ => Err(Malformed("the size line of a chunk does not end with CR and LF")),
    }
}

fn trailers(buffer: &mut BytesMut) -> Result<Piece, Malformed> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Piece::End(None));
    }
    let Some(end) = buffer.windows(4).take(MAX_TRAILERS).position(|four| four == b"\r\n\r\n") else {
        return if buffer.len() < MAX_TRAILERS { Ok(Piece::More) } else { Err(Malformed("the trailers are too long")) };
    };
    let text = buffer.split_to(end + 4);
    if has_bare_line_feed(&text) {
        return Err(Malformed("a line of the trailers ends without CR"));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&text, &mut fields) else {
        return Err(Malformed("the trailers cannot be read"));
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let (name, value) = (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value));
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    Ok(Piece::End(Some(map)))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Whole = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Data, trailers, and what is left over, whatever pieces the bytes come in.
    fn decode(text: &[u8], step: usize) -> Result<Whole, Malformed> {
        let (mut decoder, mut buffer, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut rest = text.chunks(step);
        loop {
            match decoder.decode(&mut buffer)? {
                Piece::More => buffer.extend_from_slice(rest.next().ok_or(Malformed("cut"))?),
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::End(trailers) => {
                    let left = [&buffer[..], &rest.collect::<Vec<_>>().concat()].concat();
                    return Ok((data, trailers, left));
                }
            }
        }
    }

    #[test]
    fn chunks_are_read_however_they_are_cut() {
        let text = b"5;a=\"b\"\r\nhello\r\n0006 ;x\r\n world\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\nGET /";
        for step in 1..text.len() {
            let (data, trailers, left) = decode(text, step).unwrap();
            assert_eq!((data.as_slice(), left.as_slice()), (&b"hello world"[..], &b"GET /"[..]), "{step}");
            let trailers = trailers.unwrap();
            assert_eq!(trailers.get_all("x-sum").iter().count(), 2);
        }
        assert_eq!(decode(b"0\r\n\r\n", 1).unwrap(), (Vec::new(), None, Vec::new()));
    }

    #[test]
    fn what_a_lenient_reader_would_take_is_refused() {
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "10000000000000000\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "0\r\nno field\r\n\r\n",
            "0\r\nX: 1\nY: 2\r\n\r\n",
            "0\r\nX: 1\n\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert!(matches!(decode(text.as_bytes(), 64), Err(Malformed(words)) if words != "cut"), "{text:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long_line = format!("5;{}", "x".repeat(MAX_LINE));
        let many = format!("1;{}\r\na\r\n", "x".repeat(MAX_LINE / 2)).repeat(40);
        let trailers = format!("0\r\nX: {}", "x".repeat(MAX_TRAILERS));
        for text in [long_line, many, trailers] {
            assert!(matches!(decode(text.as_bytes(), 4096), Err(Malformed(words)) if words != "cut"));
        }
    }
}
