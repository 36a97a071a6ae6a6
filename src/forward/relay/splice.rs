//! One direction between two TCP connections: copied while there is little, through a pipe in the kernel once there is
//! more.
//!
//! Used by `relay`. A pipe costs two descriptors and four system calls, which a short exchange would pay for nothing.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Broken;
use super::copy::BUFFER;
use super::meter::Counter;

/// Bytes copied before a pipe is worth its price.
const STREAK: usize = 64 * 1024;
/// The size asked for a pipe. Without the right to it, a pipe keeps the kernel's default.
const PIPE: usize = 256 * 1024;
/// A smaller pipe is worse than copying: past a user's limit the kernel gives out pipes of a page or two.
pub(super) const LEAST_PIPE: usize = 64 * 1024;
/// A direction that is silent for so long gives its pipe back.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// Bytes moved before other tasks get a turn.
const TURN: usize = 1024 * 1024;

/// Carries until `from` ends, then ends `to`.
pub(super) async fn carry(
    from: &TcpStream,
    to: &TcpStream,
    counter: Counter<'_>,
    open_pipe: fn() -> io::Result<Pipe>,
) -> Result<(), Broken> {
    loop {
        if let Next::End = copy(from, to, counter).await? {
            break;
        }
        let Ok(pipe) = open_pipe() else { continue };
        if let Next::End = pipe.carry(from, to, counter).await? {
            break;
        }
    }
    SockRef::from(to).shutdown(Shutdown::Write).map_err(|error| Broken::writing(&error))
}

/// How a stretch of carrying went.
enum Next {
    /// `from` has no more bytes.
    End,
    /// The other way of carrying suits better now.
    Change,
}

/// Copies [`STREAK`] bytes. Nothing is held while there is nothing to read, but for what a slow reader has not taken yet.
async fn copy(from: &TcpStream, to: &TcpStream, counter: Counter<'_>) -> Result<Next, Broken> {
    let mut copied = 0;
    while copied < STREAK {
        poll_fn(|context| from.poll_read_ready(context)).await.map_err(|_| Broken::Reader)?;
        let Some(Passed { read, left }) = pass(from, to)? else { continue };
        if read == 0 {
            return Ok(Next::End);
        }
        if left.len() < read {
            counter.add(read - left.len());
        }
        copied += read;
        if !left.is_empty() {
            write(&left, to, counter).await?;
        }
    }
    Ok(Next::Change)
}

/// What was read at once, and what of it could not be written at once.
struct Passed {
    /// 0 at the end.
    read: usize,
    left: Vec<u8>,
}

/// Reads what there is and writes it, without waiting for either; `None` if there is nothing.
fn pass(from: &TcpStream, to: &TcpStream) -> Result<Option<Passed>, Broken> {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; BUFFER];
    let (mut bytes, room): (&[u8], _) = (&[], &mut buffer[..]);
    let attempt = from.try_io(Interest::READABLE, || {
        let ((read, rest), _) = recv(from, room, RecvFlags::empty())?;
        bytes = read;
        // What did not fill the buffer was all there was: the socket counts as read empty without being asked again.
        if rest.is_empty() || bytes.is_empty() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    });
    match attempt {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Broken::Reader),
        Err(_) if bytes.is_empty() => return Ok(None),
        Ok(()) | Err(_) => {}
    }
    if bytes.is_empty() {
        return Ok(Some(Passed { read: 0, left: Vec::new() }));
    }
    let written = match to.try_io(Interest::WRITABLE, || Ok(send(to, bytes, SendFlags::NOSIGNAL)?)) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(Broken::writing(&error)),
    };
    Ok(Some(Passed { read: bytes.len(), left: bytes.get(written..).unwrap_or_default().to_vec() }))
}

async fn write(mut bytes: &[u8], to: &TcpStream, counter: Counter<'_>) -> Result<(), Broken> {
    while !bytes.is_empty() {
        let sent = to.async_io(Interest::WRITABLE, || Ok(send(to, bytes, SendFlags::NOSIGNAL)?)).await;
        let sent = sent.map_err(|error| Broken::writing(&error))?;
        counter.add(sent);
        bytes = bytes.get(sent..).ok_or(Broken::Writer)?;
    }
    Ok(())
}

/// A pipe that is empty between two calls.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
    pub(super) size: usize,
}

impl Pipe {
    /// # Errors
    /// No descriptors left, or no room for a pipe that is worth having.
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = fcntl_setpipe_size(&writer, PIPE).or_else(|_| fcntl_getpipe_size(&writer))?;
        if size < LEAST_PIPE {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self { reader, writer, size })
    }

    /// Fills the pipe and empties it, in turns: so whatever would block is the socket, never the pipe, and the runtime
    /// may take the socket for not ready.
    async fn carry(self, from: &TcpStream, to: &TcpStream, counter: Counter<'_>) -> Result<Next, Broken> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let mut moved = 0;
        loop {
            let fill = || Ok(splice(from, None, &self.writer, None, self.size, flags)?);
            let mut held = match timeout(QUIET, from.async_io(Interest::READABLE, fill)).await {
                Ok(Ok(0)) => return Ok(Next::End),
                Ok(Ok(held)) => held,
                // Of a socket that cannot be spliced from, nothing was taken.
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => return Ok(Next::Change),
                Ok(Err(_)) => return Err(Broken::Reader),
                Err(_quiet) => return Ok(Next::Change),
            };
            moved += held;
            while held > 0 {
                // Never more than is in the pipe: the kernel would hold the last segment back for the rest.
                let drain = || Ok(splice(&self.reader, None, to, None, held, flags)?);
                let sent = to.async_io(Interest::WRITABLE, drain).await.map_err(|error| Broken::writing(&error))?;
                counter.add(sent);
                held = held.checked_sub(sent).filter(|_| sent > 0).ok_or(Broken::Writer)?;
            }
            if moved >= TURN {
                moved = 0;
                yield_now().await;
            }
        }
    }
}
