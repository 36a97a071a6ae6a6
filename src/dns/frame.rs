//! DNS messages on a stream: two octets of length, then the message (RFC 1035 section 4.2.2, RFC 7766).
//!
//! Used by the TCP listener and by the TCP and TLS upstreams.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Collects whole messages from a stream, however it splits them.
#[derive(Debug)]
pub struct FrameReader {
    /// Octets there is room for at each read.
    at_once: usize,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    taken: usize,
}

impl FrameReader {
    /// One that reads up to so many octets at once, and holds as many once it has read.
    pub fn reading(at_once: usize) -> Self {
        Self { at_once, buffer: Vec::new(), taken: 0 }
    }

    /// The next message; `None` where the stream ends between messages. Cancel safe: nothing read is lost.
    ///
    /// # Errors
    /// The stream's own, and `UnexpectedEof` where it ends within a message.
    pub async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<&[u8]>> {
        loop {
            if let Some(length) = self.complete() {
                return Ok(Some(self.take(length)));
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.buffer.reserve(self.at_once);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                let ended = if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
                return ended;
            }
        }
    }

    /// The next message, if it has arrived already.
    pub fn next_buffered(&mut self) -> Option<&[u8]> {
        self.complete().map(|length| self.take(length))
    }

    /// Whether part of a message has arrived.
    pub fn is_amid(&self) -> bool {
        self.buffer.len() > self.taken
    }

    fn complete(&self) -> Option<usize> {
        let (length, rest) = self.buffer[self.taken..].split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        (rest.len() >= length).then_some(length)
    }

    fn take(&mut self, length: usize) -> &[u8] {
        let start = self.taken + 2;
        self.taken = start + length;
        &self.buffer[start..self.taken]
    }
}

/// Appends a message in its frame; longer ones than 65,535 octets do not exist.
pub fn put_frame(out: &mut Vec<u8>, message: &[u8]) {
    out.extend((message.len() as u16).to_be_bytes());
    out.extend_from_slice(message);
}

/// A message in its frame.
#[cfg(test)]
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put_frame(&mut frame, message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_out_whole_however_the_stream_splits_them() {
        let sent: Vec<u8> = [&b"first"[..], b"", b"third"].iter().flat_map(|message| frame(message)).collect();
        for split in 0..sent.len() {
            let mut stream = sent[..split].chain(&sent[split..]);
            let mut reader = FrameReader::reading(7);
            for expected in [&b"first"[..], b"", b"third"] {
                assert_eq!(reader.next(&mut stream).await.unwrap(), Some(expected), "split at {split}");
            }
            assert_eq!(reader.next(&mut stream).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_message_is_an_error() {
        let mut reader = FrameReader::reading(7);
        let error = reader.next(&mut &frame(b"message")[..5]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
