//! Carries bytes both ways between a client and an upstream until both have ended, or something ends them.
//!
//! Every entrance calls it for what it does not look into: CONNECT tunnels, connections by SNI, WebSockets. Two plain
//! TCP connections are joined in the kernel (`splice`), anything else by copying (`copy`). What does not finish ends in a
//! reset on both sides, so that a truncated stream never looks like a whole one.

mod copy;
mod meter;
mod splice;

use std::fmt;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use meter::Meter;
use splice::Pipe;

/// A client to which the last bytes are still on their way has so long to take them.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One side of a relay.
pub struct End(Either<TcpStream, Box<dyn Duplex>>);

/// A stream of any kind: TLS, or one within HTTP/2.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl End {
    /// A stream of another kind than TCP. Dropping it must tell its peer that it did not end well.
    pub fn other(stream: impl Duplex + 'static) -> Self {
        Self(Either::Right(Box::new(stream)))
    }

    /// Closes without the end of stream that would make what was sent so far look complete.
    fn reset(self) {
        if let Either::Left(stream) = self.0 {
            reset(&stream);
        }
    }
}

impl From<TcpStream> for End {
    fn from(stream: TcpStream) -> Self {
        Self(Either::Left(stream))
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Either::Left(stream) => stream.fmt(f),
            Either::Right(_) => f.write_str("End"),
        }
    }
}

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

/// Joins the two until both directions have ended, no byte has moved for `idle`, or `stop`.
///
/// The end of one direction is passed on as such (half-close), and the other goes on. Nothing is read that could not be
/// written: whoever reads slowly slows the sender down. An idle relay holds no buffer.
pub async fn relay(client: End, upstream: End, idle: Duration, stop: &CancellationToken) -> Ending {
    relay_through(client, upstream, idle, stop, Pipe::new).await
}

/// As [`relay`], with the source of pipes given: where it fails, bytes are copied.
async fn relay_through(
    client: End,
    upstream: End,
    idle: Duration,
    stop: &CancellationToken,
    open_pipe: fn() -> io::Result<Pipe>,
) -> Ending {
    let meter = Meter::new();
    let mut ended = pin!(async {
        tokio::select! {
            () = meter.idle_for(idle) => Reason::Idle,
            () = stop.cancelled() => Reason::Stopped,
        }
    });
    let reason = match (client.0, upstream.0) {
        (Either::Left(client), Either::Left(upstream)) => {
            let up = splice::carry(&client, &upstream, meter.up(), open_pipe);
            let down = splice::carry(&upstream, &client, meter.down(), open_pipe);
            let reason =
                join(pin!(up), pin!(down), pin!(failed(&client)), pin!(failed(&upstream)), ended.as_mut()).await;
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
            let (mut client_read, mut client_write) = tokio::io::split(client);
            let (mut upstream_read, mut upstream_write) = tokio::io::split(upstream);
            let up = copy::carry(&mut client_read, &mut upstream_write, meter.up());
            let down = copy::carry(&mut upstream_read, &mut client_write, meter.down());
            let reason = join(pin!(up), pin!(down), pending(), pending(), ended.as_mut()).await;
            match reason {
                Reason::Finished => {}
                Reason::UpstreamLeft => take_the_rest(&mut client_read).await,
                _ => {
                    End(client_read.unsplit(client_write)).reset();
                    End(upstream_read.unsplit(upstream_write)).reset();
                }
            }
            reason
        }
    };
    let (up, down) = meter.carried();
    Ending { up, down, reason }
}

/// Runs both directions. Each notices by itself that its sides fail, until it has ended: then nobody reads from its
/// source any more, and `client_failed` or `upstream_failed` is asked instead. They come pinned so as to exist once.
async fn join(
    mut up: impl Future<Output = Result<(), Broken>> + Unpin,
    mut down: impl Future<Output = Result<(), Broken>> + Unpin,
    mut client_failed: impl Future<Output = ()> + Unpin,
    mut upstream_failed: impl Future<Output = ()> + Unpin,
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
            () = &mut client_failed, if up_end == Some(Ok(())) => return Reason::ClientLeft,
            () = &mut upstream_failed, if down_end == Some(Ok(())) => return Reason::UpstreamLeft,
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

/// Waits until the connection has failed. Bytes that came before may still be unread.
async fn failed(stream: &TcpStream) {
    // It is an error, too, if the runtime will not say.
    let _ = stream.ready(Interest::ERROR).await;
}

/// Reads on for nobody until the client has ended too: what it was sent last is still on its way, and a socket that is
/// closed with bytes unread takes that back.
async fn take_the_rest(client: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; 4096];
    let rest = async { while let Ok(1..) = client.read(&mut buffer).await {} };
    // A client that goes on for longer is not reading.
    let _ = timeout(LAST_WORDS, rest).await;
}

/// Makes the kernel send a reset, not an end of stream, when the socket is dropped.
fn reset(stream: &TcpStream) {
    // A socket that refuses this is not connected any more.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
