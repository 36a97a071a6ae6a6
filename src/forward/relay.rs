//! Carries bytes both ways between a client and an upstream until both have ended, or something ends them.
//!
//! Every entrance calls it for what it does not look into: CONNECT tunnels, connections by SNI, WebSockets. Two plain
//! TCP connections are joined in the kernel (`splice`), anything else by copying (`copy`). What does not finish ends in a
//! reset on both sides, so that a truncated stream never looks like a whole one.

mod copy;
mod end;
mod meter;
mod splice;

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::tcp_listener::Place;
use end::{Kind, failed, reset};
use meter::Meter;
use splice::Pipe;

pub use end::{Duplex, End};

/// A client to which the last bytes are still on their way has so long to take them.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a relay went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Bytes from the client that were handed to the upstream.
    pub up: u64,
    /// Bytes from the upstream that were handed to the client.
    pub down: u64,
    pub reason: Reason,
}

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Both sides have closed, and each got all of the other's bytes.
    Finished,
    /// No byte moved in either direction for too long.
    Idle,
    /// The client had said all it wanted, and went without waiting for the rest of the answer.
    ClientLeft,
    /// The upstream had said all it wanted, and went without reading the rest.
    UpstreamLeft,
    /// The client's connection failed, mostly by a reset.
    ClientReset,
    /// The upstream's connection failed, mostly by a reset.
    UpstreamReset,
    /// This process ends, or wants the connection gone.
    Stopped,
}

impl Reason {
    /// A stable label for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Idle => "idle",
            Self::ClientLeft => "client_left",
            Self::UpstreamLeft => "upstream_left",
            Self::ClientReset => "client_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::Stopped => "stopped",
        }
    }
}

/// What keeps one direction from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Reader,
    Writer,
    /// Who is written to had ended its own direction and closed: what it said before is whole, and may still be on its
    /// way.
    Gone,
}

impl Broken {
    /// After the peer's end of stream a reset shows as EPIPE, without one as ECONNRESET.
    fn writing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => Self::Gone,
            _ => Self::Writer,
        }
    }
}

/// Joins the two until both directions have ended, no byte has moved for `idle`, or the `place` must be given up.
///
/// The end of one direction is passed on as such (half-close), and the other goes on. Nothing is read that could not be
/// written: whoever reads slowly slows the sender down. An idle relay holds no buffer. Bytes that move show at the place.
pub async fn relay(client: End, upstream: End, idle: Duration, place: &Place) -> Ending {
    relay_through(client, upstream, idle, place, Pipe::new).await
}

/// As [`relay`], with the source of pipes given: where it fails, bytes are copied.
async fn relay_through(
    client: End,
    upstream: End,
    idle: Duration,
    place: &Place,
    open_pipe: fn() -> io::Result<Pipe>,
) -> Ending {
    let meter = Meter::new(place);
    let mut ended = pin!(async {
        tokio::select! {
            () = meter.idle_for(idle) => Reason::Idle,
            () = place.close.cancelled() => Reason::Stopped,
        }
    });
    let reason = match (client.0, upstream.0) {
        (Kind::Tcp(client), Kind::Tcp(upstream)) => {
            let up = splice::carry(&client, &upstream, meter.up(), open_pipe);
            let down = splice::carry(&upstream, &client, meter.down(), open_pipe);
            let reason = join(
                pin!(up),
                pin!(down),
                Failed { client: pin!(failed(&client)), upstream: pin!(failed(&upstream)), early: false },
                ended.as_mut(),
            )
            .await;
            match reason {
                Reason::Finished => {}
                Reason::UpstreamLeft => {
                    let mut client = client;
                    take_the_rest(&mut client).await;
                }
                _ => {
                    reset(&client);
                    reset(&upstream);
                }
            }
            reason
        }
        (client, upstream) => {
            let (client, upstream) = (End(client), End(upstream));
            let (mut from_client, mut to_upstream) = (&client, &upstream);
            let (mut from_upstream, mut to_client) = (&upstream, &client);
            let up = copy::carry(&mut from_client, &mut to_upstream, meter.up());
            let down = copy::carry(&mut from_upstream, &mut to_client, meter.down());
            let early = !client.is_tcp();
            let reason = join(
                pin!(up),
                pin!(down),
                Failed { client: pin!(client.failed()), upstream: pin!(upstream.failed()), early },
                ended.as_mut(),
            )
            .await;
            match reason {
                Reason::Finished => {}
                Reason::UpstreamLeft => take_the_rest(&mut &client).await,
                _ => {
                    client.reset();
                    upstream.reset();
                }
            }
            reason
        }
    };
    let (up, down) = meter.carried();
    Ending { up, down, reason }
}

/// What tells that a side has failed while nobody reads from it.
struct Failed<C, U> {
    client: C,
    upstream: U,
    /// Whether a failure of the client is heard of while its bytes are still being read: then they concern nobody any
    /// more, and an upstream that does not take them must not hide it.
    early: bool,
}

/// Runs both directions. Each notices by itself that its sides fail, until it has ended: then nobody reads from its
/// source any more, and `failed` is asked instead. They come pinned so as to exist once.
async fn join(
    mut up: impl Future<Output = Result<(), Broken>> + Unpin,
    mut down: impl Future<Output = Result<(), Broken>> + Unpin,
    mut failed: Failed<impl Future<Output = ()> + Unpin, impl Future<Output = ()> + Unpin>,
    mut ended: impl Future<Output = Reason> + Unpin,
) -> Reason {
    let (mut up_end, mut down_end) = (None, None);
    while up_end.is_none() || down_end.is_none() {
        tokio::select! {
            result = &mut up, if up_end.is_none() => match result {
                Err(Broken::Reader) => return Reason::ClientReset,
                Err(Broken::Writer) => return Reason::UpstreamReset,
                ended_or_gone => up_end = Some(ended_or_gone),
            },
            result = &mut down, if down_end.is_none() => match result {
                Err(Broken::Reader) => return Reason::UpstreamReset,
                Err(Broken::Writer) => return Reason::ClientReset,
                ended_or_gone => down_end = Some(ended_or_gone),
            },
            () = &mut failed.client, if up_end == Some(Ok(())) || failed.early && up_end.is_none() => {
                return if up_end.is_none() { Reason::ClientReset } else { Reason::ClientLeft };
            }
            () = &mut failed.upstream, if down_end == Some(Ok(())) => return Reason::UpstreamLeft,
            reason = &mut ended => return reason,
        }
    }
    match (up_end, down_end) {
        (Some(Ok(())), Some(Ok(()))) => Reason::Finished,
        (_, Some(Ok(()))) => Reason::UpstreamLeft,
        (Some(Ok(())), _) => Reason::ClientLeft,
        _ => Reason::ClientReset,
    }
}

/// Reads on for nobody until the client has ended too: what it was sent last is still on its way, and a socket that is
/// closed with bytes unread takes that back.
async fn take_the_rest(client: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; 4096];
    let rest = async { while let Ok(1..) = client.read(&mut buffer).await {} };
    // A client that goes on for longer is not reading.
    let _ = timeout(LAST_WORDS, rest).await;
}

#[cfg(test)]
mod tests;
