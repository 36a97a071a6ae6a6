//! Happy eyeballs (RFC 8305): connects to several addresses of one name, each a little after the one before, and keeps
//! the first that answers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::interfaces;

/// The next address is tried after this, RFC 8305 section 5; at once if the one before has failed.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// One address has this long to accept.
const CONNECT: Duration = Duration::from_secs(4);
/// Addresses tried at most, dead ones last.
const MAX_ATTEMPTS: u32 = 8;
/// Where all addresses are known from the beginning, it is over by then.
pub(super) const LONGEST: Duration = CONNECT.saturating_add(ATTEMPT_DELAY.saturating_mul(MAX_ATTEMPTS - 1));

/// An attempt that failed.
pub(super) type Failure = (SocketAddr, io::Error);

/// An attempt to connect that is over.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'e> {
    pub address: SocketAddr,
    pub begun: Instant,
    pub end: AttemptEnd<'e>,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub enum AttemptEnd<'e> {
    Connected,
    /// By no fault of this host.
    Failed(&'e io::Error),
    /// An address that was tried 250 ms later, or later still, has accepted first.
    Overtaken,
}

/// Connects to the first of `addresses` that accepts; `late` ones join them once they are known. Tells `over` of each
/// attempt; not of one that failed for want of something this host lacks, nor of one that was given up because nobody waits
/// any more.
///
/// # Errors
/// The first failure, where all have failed; `None` where there is no address.
pub(super) async fn connect(
    addresses: Vec<SocketAddr>,
    mut late: Option<Late<'_>>,
    over: impl Fn(Attempt<'_>),
) -> Result<(TcpStream, SocketAddr), Option<Failure>> {
    let (mut waiting, mut pending) = (VecDeque::from(addresses), Vec::with_capacity(1));
    let (mut first_failure, mut left, mut next_at) = (None, MAX_ATTEMPTS, Instant::now());
    loop {
        let ready = pending.is_empty() || next_at <= Instant::now();
        if let Some(next) = ready.then(|| waiting.pop_front()).flatten().filter(|_| left > 0) {
            let begun = Instant::now();
            (left, next_at) = (left - 1, begun + ATTEMPT_DELAY);
            pending.push(Pending { address: next, begun, attempt: Box::pin(attempt(next, begun)) });
        }
        let outcome = tokio::select! {
            outcome = poll_fn(|context| first_over(&mut pending, context)), if !pending.is_empty() => outcome,
            () = sleep_until(next_at), if !waiting.is_empty() && left > 0 => continue,
            more = poll_fn(|context| poll_late(&mut late, context)), if late.is_some() && left > 0 => {
                waiting.extend(more);
                continue;
            }
            else => return Err(first_failure),
        };
        let Outcome { address, begun, stream } = outcome;
        match stream {
            Ok(stream) => {
                over(Attempt { address, begun, end: AttemptEnd::Connected });
                let overtaken = pending.iter().filter(|one| one.is_overtaken_by(address, begun));
                for &Pending { address, begun, .. } in overtaken {
                    over(Attempt { address, begun, end: AttemptEnd::Overtaken });
                }
                return Ok((stream, address));
            }
            Err(error) => {
                if !is_ours(&error, address) {
                    over(Attempt { address, begun, end: AttemptEnd::Failed(&error) });
                }
                first_failure.get_or_insert((address, error));
                next_at = Instant::now();
            }
        }
    }
}

/// Whether it is this host that lacks something: descriptors, memory, ports.
pub(super) fn is_ours(error: &io::Error, address: SocketAddr) -> bool {
    lacks(error, || interfaces::has_source_for(address.ip()))
}

/// A host without an address of that family lacks no port: there is no way to the address from here.
fn lacks(error: &io::Error, has_source: impl FnOnce() -> bool) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory};
    match error.kind() {
        AddrInUse | OutOfMemory => true,
        AddrNotAvailable => has_source(),
        _ => matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS)),
    }
}

/// Addresses that are not known yet.
pub(super) type Late<'l> = BoxFuture<'l, Vec<SocketAddr>>;

/// An attempt under way.
struct Pending<F> {
    address: SocketAddr,
    begun: Instant,
    attempt: Pin<Box<F>>,
}

impl<F> Pending<F> {
    /// Whether it was tried well before the one that has accepted. The same address may be there twice.
    fn is_overtaken_by(&self, winner: SocketAddr, begun: Instant) -> bool {
        self.address != winner && self.begun + ATTEMPT_DELAY <= begun
    }
}

/// The first attempt that is over. There are few, and mostly one.
fn first_over(pending: &mut Vec<Pending<impl Future<Output = Outcome>>>, context: &mut Context<'_>) -> Poll<Outcome> {
    for at in 0..pending.len() {
        if let Poll::Ready(outcome) = pending[at].attempt.as_mut().poll(context) {
            pending.swap_remove(at);
            return Poll::Ready(outcome);
        }
    }
    Poll::Pending
}

fn poll_late(late: &mut Option<Late<'_>>, context: &mut Context<'_>) -> Poll<Vec<SocketAddr>> {
    let Some(found) = late else { return Poll::Pending };
    let more = ready!(found.as_mut().poll(context));
    *late = None;
    Poll::Ready(more)
}

struct Outcome {
    address: SocketAddr,
    begun: Instant,
    stream: io::Result<TcpStream>,
}

async fn attempt(address: SocketAddr, begun: Instant) -> Outcome {
    let stream = timeout(CONNECT, TcpStream::connect(address)).await;
    Outcome { address, begun, stream: stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) }
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
    use tokio::time::sleep;

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

    /// Each attempt that was told of: where, and how it ended.
    async fn told(addresses: Vec<SocketAddr>) -> (SocketAddr, Vec<(SocketAddr, String)>) {
        let told = Mutex::new(Vec::new());
        let over = |attempt: Attempt<'_>| {
            let end = match attempt.end {
                AttemptEnd::Failed(error) => error.kind().to_string(),
                end => format!("{end:?}"),
            };
            told.lock().unwrap().push((attempt.address, end));
        };
        let (_, address) = connect(addresses, None, over).await.unwrap();
        (address, told.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_refused_address_gives_way_at_once_and_is_told() {
        let (closed, refused) = listener().await;
        drop(closed);
        let (_listener, good) = listener().await;
        let (address, told) = told(vec![refused, good]).await;
        assert_eq!(address, good);
        assert_eq!(told, [(refused, "connection refused".to_owned()), (good, "Connected".to_owned())]);
    }

    #[tokio::test]
    async fn a_silent_address_does_not_hold_up_the_next_one() {
        let (_queue, _listener, silent) = silent().await;
        let (_listener, good) = listener().await;
        let (address, told) = told(vec![silent, good]).await;
        assert_eq!(address, good);
        let overtaken = (silent, "Overtaken".to_owned());
        assert_eq!(told, [(good, "Connected".to_owned()), overtaken], "the next client need not wait for it");
    }

    /// Who is slow to accept is no worse for another that was tried after it.
    #[test]
    fn only_who_was_tried_long_before_the_first_to_accept_is_overtaken_and_never_the_same_address() {
        let (one, other) = ("10.0.0.1:443".parse().unwrap(), "10.0.0.2:443".parse().unwrap());
        let begun = Instant::now();
        let pending = |address, after| Pending { address, begun: begun + after, attempt: Box::pin(async {}) };
        let later = Duration::from_millis(250);
        assert!(pending(other, Duration::ZERO).is_overtaken_by(one, begun + later));
        assert!(!pending(other, later).is_overtaken_by(one, begun), "it was tried later");
        assert!(!pending(other, later / 2).is_overtaken_by(one, begun + later), "it was tried a moment before");
        assert!(!pending(one, Duration::ZERO).is_overtaken_by(one, begun + later), "it has just accepted");
    }

    #[tokio::test]
    async fn an_attempt_that_nobody_waits_for_any_more_is_told_of_by_no_word() {
        let (_queue, _listener, silent) = silent().await;
        let told = Mutex::new(Vec::new());
        let given_up = connect(vec![silent], None, |attempt| told.lock().unwrap().push(attempt.address));
        assert!(timeout(ATTEMPT_DELAY * 2, given_up).await.is_err());
        assert!(told.lock().unwrap().is_empty(), "a client that goes says nothing of the address");
    }

    #[tokio::test]
    async fn an_address_that_is_known_late_joins_and_is_waited_for_if_all_others_fail() {
        let (closed, refused) = listener().await;
        drop(closed);
        let (_listener, good) = listener().await;
        let late = async {
            sleep(Duration::from_millis(120)).await;
            vec![good]
        };
        let (_, address) = connect(vec![refused], Some(Box::pin(late)), |_| ()).await.unwrap();
        assert_eq!(address, good);
    }

    #[tokio::test]
    async fn once_as_many_have_failed_as_are_tried_nobody_waits_for_more() {
        let (closed, refused) = listener().await;
        drop(closed);
        let late: Late<'_> = Box::pin(std::future::pending());
        let all = connect(vec![refused; MAX_ATTEMPTS as usize], Some(late), |_| ());
        let (address, _) = timeout(CONNECT, all).await.unwrap().unwrap_err().unwrap();
        assert_eq!(address, refused);
    }

    #[tokio::test]
    async fn when_all_fail_the_first_failure_is_the_reason() {
        let (closed, refused) = listener().await;
        drop(closed);
        let (address, error) = connect(vec![refused], None, |_| ()).await.unwrap_err().unwrap();
        assert_eq!((address, error.kind()), (refused, io::ErrorKind::ConnectionRefused));
        assert!(connect(Vec::new(), None, |_| ()).await.unwrap_err().is_none());
    }

    #[test]
    fn a_family_that_this_host_does_not_have_is_no_want_of_ports() {
        let lacks = |code, has_source| lacks(&io::Error::from_raw_os_error(code), || has_source);
        assert!(!lacks(libc::EADDRNOTAVAIL, false), "who answers with these addresses must learn of it");
        assert!(lacks(libc::EADDRNOTAVAIL, true));
        assert!(lacks(libc::EMFILE, false) && !lacks(libc::ENETUNREACH, true));
    }

    #[test]
    fn families_take_turns_with_ipv6_first() {
        let v6: Vec<SocketAddr> = vec!["[::1]:1".parse().unwrap()];
        let v4: Vec<SocketAddr> = vec!["1.1.1.1:1".parse().unwrap(), "1.1.1.2:1".parse().unwrap()];
        assert_eq!(interleave(v6.clone(), v4.clone()), [v6[0], v4[0], v4[1]]);
    }
}
