//! How a client is turned away before anything is relayed: why, and its last words.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::alert::Alert;
use super::client_hello::HelloError;
use super::refusal::Refusal;

/// A client that does not take its last words within this is gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is read and thrown away of what it was still sending.
const MOST_DISCARDED: usize = 256 * 1024;

/// Why a client that speaks TLS is turned away.
#[derive(Debug)]
pub(super) struct TurnedAway {
    /// A stable label for logs and metrics.
    pub reason: &'static str,
    /// What it is told; nothing where it would not understand or does not listen.
    pub alert: Option<Alert>,
    pub words: Option<String>,
}

impl TurnedAway {
    /// Without a word to the client.
    pub(super) fn silently(reason: &'static str) -> Self {
        Self { reason, alert: None, words: None }
    }
}

impl From<Refusal> for TurnedAway {
    fn from(Refusal { cause, words }: Refusal) -> Self {
        Self { reason: cause.label(), alert: Some(cause.alert()), words: Some(words) }
    }
}

impl From<HelloError> for TurnedAway {
    fn from(error: HelloError) -> Self {
        Self { reason: error.label(), alert: error.alert(), words: Some(error.to_string()) }
    }
}

/// Writes, then closes in such an order that the words arrive: bytes that nobody has read would make the system reset the
/// connection, and the client lose what it was told.
pub(super) async fn say_and_close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[u8]) {
    let say = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        // On the heap: each connection has room for this, and few come here.
        let (mut discarded, mut buffer) = (0, vec![0; 4096]);
        while discarded < MOST_DISCARDED {
            match stream.read(&mut buffer).await? {
                0 => break,
                bytes => discarded += bytes,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Whether it listens is the client's affair.
    let _ = timeout(PATIENCE, say).await;
}
