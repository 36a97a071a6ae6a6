//! Writes messages as HTTP/1.1: heads byte for byte, bodies as they come.
//!
//! `outbound` writes requests with it, `inbound` answers.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::message::Body;
use super::source::Writer;
use crate::forward::head::Field;

/// As much as this is gathered before it is written, in bytes, while more is at hand.
const GATHER: usize = 16 * 1024;
/// Who takes nothing for so long has gone.
const STALL: Duration = Duration::from_secs(300);

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    /// There is no body; what there is is dropped.
    NoBody,
    /// A Content-Length in the head.
    Length,
    Chunks,
    /// The connection is closed behind it.
    Close,
}

/// Why a message was not written to its end.
#[derive(Debug)]
pub(super) enum WriteError {
    /// There was nothing more to write.
    Body,
    /// Nobody took it.
    Io,
}

pub(super) fn request_line(method: &[u8], target: &[u8]) -> BytesMut {
    let mut head = BytesMut::with_capacity(1024);
    for part in [method, b" ", target, b" HTTP/1.1\r\n"] {
        head.put_slice(part);
    }
    head
}

pub(super) fn status_line(status: u16, reason: &[u8]) -> BytesMut {
    let mut head = BytesMut::with_capacity(1024);
    for part in [b"HTTP/1.1 ", status.to_string().as_bytes(), b" ", reason, b"\r\n"] {
        head.put_slice(part);
    }
    head
}

pub(super) fn put_field(head: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        head.put_slice(part);
    }
}

pub(super) fn put_fields(head: &mut BytesMut, fields: &[Field]) {
    for Field { name, value } in fields {
        put_field(head, name, value);
    }
}

/// Writes `head`, its empty line and the body. What has come is written before more is waited for.
pub(super) async fn write_message(
    writer: &mut Writer,
    mut head: BytesMut,
    mut body: Body,
    delimiter: Delimiter,
) -> Result<(), WriteError> {
    head.put_slice(b"\r\n");
    let mut gathered = head;
    if delimiter == Delimiter::NoBody {
        return write(writer, &mut gathered).await;
    }
    loop {
        let next = match body.frame().now_or_never() {
            Some(next) if gathered.len() < GATHER => next,
            Some(next) => {
                write(writer, &mut gathered).await?;
                next
            }
            None => {
                write(writer, &mut gathered).await?;
                body.frame().await
            }
        };
        let frame = match next {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                // What came is passed on; that it is not all is told by the missing end.
                write(writer, &mut gathered).await?;
                return Err(WriteError::Body);
            }
        };
        match frame.into_data() {
            Ok(data) => put_data(&mut gathered, &data, delimiter),
            Err(frame) => {
                if let (Ok(trailers), Delimiter::Chunks) = (frame.into_trailers(), delimiter) {
                    put_trailers(&mut gathered, &trailers);
                    return write(writer, &mut gathered).await;
                }
            }
        }
    }
    if delimiter == Delimiter::Chunks {
        gathered.put_slice(b"0\r\n\r\n");
    }
    write(writer, &mut gathered).await
}

fn put_data(gathered: &mut BytesMut, data: &Bytes, delimiter: Delimiter) {
    if delimiter != Delimiter::Chunks {
        return gathered.put_slice(data);
    }
    // An empty chunk would be the last one.
    if !data.is_empty() {
        gathered.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
        gathered.put_slice(data);
        gathered.put_slice(b"\r\n");
    }
}

fn put_trailers(gathered: &mut BytesMut, trailers: &HeaderMap) {
    gathered.put_slice(b"0\r\n");
    for (name, value) in trailers {
        put_field(gathered, name.as_str().as_bytes(), value.as_bytes());
    }
    gathered.put_slice(b"\r\n");
}

/// Writes and empties the buffer.
pub(super) async fn write(writer: &mut Writer, bytes: &mut BytesMut) -> Result<(), WriteError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = timeout(STALL, async {
        writer.write_all(bytes).await?;
        writer.flush().await
    });
    written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|_| WriteError::Io)?;
    bytes.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper::header::HeaderValue;

    use super::super::message::BodyError;
    use super::*;

    async fn written(frames: Vec<Result<Frame<Bytes>, BodyError>>, delimiter: Delimiter) -> (String, bool) {
        let (near, mut far) = tokio::io::duplex(1024);
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let mut writer = Writer::Other(Box::new(near));
        let ok = write_message(&mut writer, BytesMut::from("HEAD\r\n"), body, delimiter).await.is_ok();
        drop(writer);
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut far, &mut text).await.unwrap();
        (text, ok)
    }

    #[tokio::test]
    async fn chunks_and_trailers_are_written_and_an_empty_piece_does_not_end_the_body() {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))]);
        let data = |text: &'static str| Ok(Frame::data(Bytes::from(text)));
        let frames = || vec![data("hello"), data(""), data("x"), Ok(Frame::trailers(trailers.clone()))];
        let chunked = "HEAD\r\n\r\n5\r\nhello\r\n1\r\nx\r\n0\r\nx-sum: 1\r\n\r\n";
        assert_eq!(written(frames(), Delimiter::Chunks).await, (chunked.to_owned(), true));
        assert_eq!(written(frames(), Delimiter::Length).await, ("HEAD\r\n\r\nhellox".to_owned(), true));
        assert_eq!(written(frames(), Delimiter::NoBody).await, ("HEAD\r\n\r\n".to_owned(), true));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_ended() {
        let frames = vec![Ok(Frame::data(Bytes::from("hello"))), Err(BodyError::Cut)];
        assert_eq!(written(frames, Delimiter::Chunks).await, ("HEAD\r\n\r\n5\r\nhello\r\n".to_owned(), false));
    }
}
