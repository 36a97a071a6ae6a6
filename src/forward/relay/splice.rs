//! One direction between two TCP connections: copied while there is little, through a pipe in the kernel once there is
//! more.
//!
//! Used by `relay`. A pipe costs two descriptors and four system calls, which a short exchange would pay for nothing.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{SendFlags, send};
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

/// Copies [`STREAK`] bytes. The buffer is taken when there is something to read, and given back when there is not.
async fn copy(from: &TcpStream, to: &TcpStream, counter: Counter<'_>) -> Result<Next, Broken> {
    let mut copied = 0;
    while copied < STREAK {
        from.readable().await.map_err(|_| Broken::Reader)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        while copied < STREAK {
            buffer.clear();
            match from.try_read_buf(&mut buffer) {
                Ok(0) => return Ok(Next::End),
                Ok(_) => write(&buffer, to, counter).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Broken::Reader),
            }
            copied += buffer.len();
        }
    }
    Ok(Next::Change)
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
