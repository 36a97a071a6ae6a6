//! Happy eyeballs (RFC 8305): connects to several addresses of one name, each a little after the one before, and keeps
//! the first that answers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The next address is tried after this, RFC 8305 section 5; at once if the one before has failed.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// One address has this long to accept.
const CONNECT: Duration = Duration::from_secs(4);
/// Addresses tried at most, dead ones last.
const MAX_ATTEMPTS: usize = 8;

/// An attempt that failed.
pub(super) type Failure = (SocketAddr, io::Error);

/// Connects to the first of `addresses` that accepts. Tells `failed` of each that does not.
///
/// # Errors
/// The first failure, where all have failed; `None` where there is no address.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    failed: impl Fn(SocketAddr),
) -> Result<(TcpStream, SocketAddr), Option<Failure>> {
    let mut waiting = addresses.iter().copied().take(MAX_ATTEMPTS);
    let mut attempts = FuturesUnordered::new();
    let mut first_failure = None;
    loop {
        let next = waiting.next();
        let more = next.is_some();
        attempts.extend(next.map(attempt));
        let outcome = tokio::select! {
            Some(outcome) = attempts.next() => outcome,
            () = sleep(ATTEMPT_DELAY), if more => continue,
            else => return Err(first_failure),
        };
        match outcome {
            (address, Ok(stream)) => return Ok((stream, address)),
            (address, Err(error)) => {
                failed(address);
                first_failure.get_or_insert((address, error));
            }
        }
    }
}

async fn attempt(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let stream = timeout(CONNECT, TcpStream::connect(address)).await;
    (address, stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
}

/// Both families in turn, IPv6 first (RFC 8305 section 4); the order within each is kept.
pub(super) fn interleave(v6: Vec<SocketAddr>, v4: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut mixed = Vec::with_capacity(v6.len() + v4.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        let before = mixed.len();
        mixed.extend(v6.next());
        mixed.extend(v4.next());
        if mixed.len() == before {
            return mixed;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that accepts nothing and refuses nothing: its queue is full.
    async fn silent() -> (Vec<TcpStream>, TcpListener, SocketAddr) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            queue.push(stream);
        }
        (queue, listener, address)
    }

    #[tokio::test]
    async fn a_refused_address_gives_way_at_once_and_is_told() {
        let (closed, refused) = listener().await;
        drop(closed);
        let (_listener, good) = listener().await;
        let told = Mutex::new(Vec::new());
        let (_, address) = connect(&[refused, good], |address| told.lock().unwrap().push(address)).await.unwrap();
        assert_eq!(address, good);
        assert_eq!(*told.lock().unwrap(), [refused]);
    }

    #[tokio::test]
    async fn a_silent_address_does_not_hold_up_the_next_one() {
        let (_queue, _listener, silent) = silent().await;
        let (_listener, good) = listener().await;
        let (_, address) = connect(&[silent, good], |_| ()).await.unwrap();
        assert_eq!(address, good);
    }

    #[tokio::test]
    async fn when_all_fail_the_first_failure_is_the_reason() {
        let (closed, refused) = listener().await;
        drop(closed);
        let (address, error) = connect(&[refused], |_| ()).await.unwrap_err().unwrap();
        assert_eq!((address, error.kind()), (refused, io::ErrorKind::ConnectionRefused));
        assert!(connect(&[], |_| ()).await.unwrap_err().is_none());
    }

    #[test]
    fn families_take_turns_with_ipv6_first() {
        let v6: Vec<SocketAddr> = vec!["[::1]:1".parse().unwrap()];
        let v4: Vec<SocketAddr> = vec!["1.1.1.1:1".parse().unwrap(), "1.1.1.2:1".parse().unwrap()];
        assert_eq!(interleave(v6.clone(), v4.clone()), [v6[0], v4[0], v4[1]]);
    }
}
