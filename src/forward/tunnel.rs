//! What happens inside a CONNECT tunnel: the client's first words are looked at, then bytes are relayed.
//!
//! The name in the ClientHello must be the one that CONNECT named (T14): the far side goes by the former, the policy went
//! by the latter. `connect` calls [`run`] for both versions of HTTP; `sni`, which has looked already, calls [`carry`].

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::access::Record;
use super::client_hello::{ClientHello, HANDSHAKE, HelloReader, Reading};
use super::closing::{TurnedAway, say_and_close};
use super::dial::Dialled;
use super::permit::Permit;
use super::refusal::{Cause, Refusal};
use super::relay::{End, relay};
use super::router::Router;
use super::service::Connection;
use crate::tcp_listener::Place;

/// No byte in either direction for so long ends a tunnel: a little more than the ten minutes after which API Gateway
/// ends an idle WebSocket.
const IDLE: Duration = Duration::from_secs(11 * 60);
/// A ClientHello is whole within this.
pub(super) const HELLO: Duration = Duration::from_secs(5);

/// Relays between a client that was told that it is connected and its destination. `early` is what it had sent by then.
/// Gives the label of what ended it, and words where there are any; counts bytes in `record`. A tunnel outlives many
/// configurations, so that nothing of one is held while bytes are awaited.
pub(super) async fn run<C: AsyncRead + AsyncWrite + Unpin>(
    mut client: C,
    mut early: BytesMut,
    dialled: Dialled,
    connection: &Connection,
    record: &mut Record,
    place: &Place,
    end: impl FnOnce(C) -> End,
) -> (&'static str, Option<String>) {
    let checked = tokio::select! {
        checked = first_words(&mut client, &mut early, &dialled.stream, &dialled.permit, connection) => checked,
        () = place.close.cancelled() => Err(TurnedAway::silently("stopped")),
    };
    match checked {
        Ok(()) => (carry(end(client), early, dialled.stream, record, place).await, None),
        Err(TurnedAway { reason, alert, words }) => {
            if let Some(alert) = alert {
                say_and_close(&mut client, &alert.record()).await;
            }
            (reason, words)
        }
    }
}

/// Hands on what was read, then relays. Gives the label of what ended it, and counts bytes in `record`.
pub(super) async fn carry(
    client: End,
    early: BytesMut,
    mut upstream: TcpStream,
    record: &mut Record,
    place: &Place,
) -> &'static str {
    if !matches!(timeout(HELLO, upstream.write_all(&early)).await, Ok(Ok(()))) {
        client.reset();
        return "upstream_reset";
    }
    let said_before = early.len() as u64;
    // A tunnel may be open for days.
    drop(early);
    let ending = relay(client, upstream.into(), IDLE, place).await;
    (record.up, record.down) = (ending.up + said_before, ending.down);
    ending.reason.as_str()
}

/// Reads until it is clear that the tunnel may go on. APIs are spoken to in TLS; what another name on 443 speaks is its
/// own affair, and it may be the server that speaks first.
async fn first_words(
    client: &mut (impl AsyncRead + Unpin),
    early: &mut BytesMut,
    upstream: &TcpStream,
    permit: &Permit,
    connection: &Connection,
) -> Result<(), TurnedAway> {
    if early.is_empty() && !permit.ours {
        let mut first = [0];
        tokio::select! {
            read = timeout(IDLE, client.read_buf(early)) => match read {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(TurnedAway::silently("client_reset")),
                Err(_) => return Err(TurnedAway::silently("idle")),
            },
            // A look, not readiness, which may be left over from an egress proxy's answer.
            _ = upstream.peek(&mut first) => {}
        }
    }
    let hello = async {
        let mut reader = HelloReader::default();
        loop {
            if !permit.ours && early.first().is_none_or(|byte| *byte != HANDSHAKE) {
                return Ok(());
            }
            if let Reading::Complete(hello) = reader.read(early)? {
                return check(&hello, permit, &connection.service().router);
            }
            match client.read_buf(early).await {
                Ok(0) => return Err(TurnedAway::silently("client_left")),
                Ok(_) => {}
                Err(_) => return Err(TurnedAway::silently("client_reset")),
            }
        }
    };
    timeout(HELLO, hello).await.unwrap_or_else(|_| Err(TurnedAway::silently(Cause::Slow.label())))
}

/// A hello without a name can lead nowhere else. One with an encrypted hello inside shows a front in the clear, which is
/// no business of ours; but no name of an API is a front, for API Gateway does not know encrypted hellos.
fn check(hello: &ClientHello, permit: &Permit, router: &Router) -> Result<(), TurnedAway> {
    let host = &permit.destination.host;
    match &hello.server_name {
        Some(name) if name != host => {
            let may_be_front = hello.has_encrypted_hello && !permit.ours && !router.is_ours(name);
            let words = format!("the ClientHello asks for {name}, CONNECT asked for {host}: make them one");
            if may_be_front { Ok(()) } else { Err(Refusal::new(Cause::Mismatch, words).into()) }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::forward::permit::{Destinations, Way};
    use crate::forward::{AddressRules, Cause, Destination, Dialer, Others};
    use crate::policy::{Addresses, Endpoint, Names, Networks, Rule, Table, Upstream};

    fn router() -> Router {
        let addresses = Addresses::default();
        let endpoint = Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port: 443 };
        let table = Table::new(vec![endpoint], Arc::new(Names::default()), None).unwrap();
        let rules = AddressRules { public_networks: Networks::new(Vec::new()), own_listeners: Vec::new() };
        Router {
            table: watch::channel(Arc::new(table)).1,
            destinations: Destinations { allow: Vec::new(), others: Others::Direct },
            dialer: Dialer::new(
                Arc::new(|_, _, _| Box::pin(std::future::pending())),
                Arc::new(|_| ()),
                rules,
                443,
                None,
            ),
        }
    }

    /// A front in the clear is what a client with an encrypted hello shows; the tunnel treats it as direct would.
    #[test]
    fn a_front_is_no_mismatch_unless_it_is_an_api() {
        let permit = |ours| Permit {
            destination: Destination::of_connect("www.example.com:443").unwrap(),
            rule: Rule::Default,
            way: Way::Upstream(Upstream::Public),
            ours,
            may_stay_inside: !ours,
            learnable: false,
        };
        let hello = |name: Option<&str>, has_encrypted_hello| ClientHello {
            server_name: name.map(|name| name.parse().unwrap()),
            has_encrypted_hello,
        };
        let (router, mismatch) = (router(), Cause::Mismatch.label());
        let reason = |hello, ours| check(&hello, &permit(ours), &router).err().map(|turned| turned.reason);
        assert_eq!(reason(hello(Some("front.example"), true), false), None);
        assert_eq!(reason(hello(Some("front.example"), false), false), Some(mismatch));
        assert_eq!(reason(hello(Some("front.example"), true), true), Some(mismatch));
        let api = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";
        assert_eq!(reason(hello(Some(api), true), false), Some(mismatch), "whatever is inside the hello");
        assert_eq!(reason(hello(Some("www.example.com"), false), true), None);
        assert_eq!(reason(hello(None, false), true), None, "it can lead nowhere else");
    }
}
