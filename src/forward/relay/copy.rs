//! One direction between streams of any kind, by copying.
//!
//! Used by `relay` where one side is more than a TCP connection.

use std::future::poll_fn;
use std::io;
use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::consume_budget;

use super::Broken;
use super::meter::Counter;

/// Bytes read at once, and all that a direction ever holds.
pub(super) const BUFFER: usize = 32 * 1024;

/// Copies until `from` ends, then ends `to`.
pub(super) async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    counter: Counter<'_>,
) -> Result<(), Broken> {
    loop {
        let buffer = read(from).await.map_err(|_| Broken::Reader)?;
        if buffer.is_empty() {
            return to.shutdown().await.map_err(|error| Broken::writing(&error));
        }
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let written = to.write(rest).await.map_err(|error| Broken::writing(&error))?;
            rest = rest.get(written..).filter(|_| written > 0).ok_or(Broken::Writer)?;
            counter.add(written);
        }
        // A stream that gathers what it is given, as TLS may, must not keep it while we wait.
        to.flush().await.map_err(|error| Broken::writing(&error))?;
        consume_budget().await;
    }
}

/// What is there to read; empty at the end. The buffer exists for no longer than an attempt: while there is nothing to
/// read, nothing is held.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    poll_fn(|context| {
        let mut buffer = Vec::with_capacity(BUFFER);
        let attempt = pin!(from.read_buf(&mut buffer)).poll(context);
        attempt.map_ok(|_count| buffer)
    })
    .await
}
