//! The entrance for programs that are led here by DNS or by a redirect: reads the name in the ClientHello, then passes
//! every byte on untouched.
//!
//! Only the name decides. Where a redirected connection was going before does not matter, so its address and port are not
//! looked at.

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::access::Record;
use super::client_hello::{HelloReader, Reading};
use super::closing::{TurnedAway, say_and_close};
use super::destination::Destination;
use super::dial::Dialled;
use super::permit::Entrance;
use super::refusal::{Cause, Refusal};
use super::service::Connection;
use super::tunnel::{HELLO, carry};
use crate::policy::HostName;

/// Octets that most ClientHellos fit in.
const USUAL_HELLO: usize = 2048;

/// Serves one connection.
pub(super) async fn serve(mut client: TcpStream, connection: Connection) {
    let mut record = Record::new(Entrance::Sni, connection.client);
    let mut early = BytesMut::with_capacity(USUAL_HELLO);
    let stop = &connection.place.close;
    let opened = tokio::select! {
        opened = open(&mut client, &mut early, &connection, &mut record) => opened,
        () = stop.cancelled() => Err(TurnedAway::silently("stopped")),
    };
    let (reason, words) = match opened {
        Ok(dialled) => (carry(client.into(), early, dialled.stream, &mut record, &connection.place).await, None),
        Err(TurnedAway { reason, alert, words }) => {
            if let Some(alert) = alert {
                say_and_close(&mut client, &alert.record()).await;
            }
            (reason, words)
        }
    };
    connection.service().journal.finish(&record, reason, words.as_deref());
}

/// Reads the name and connects to it.
async fn open(
    client: &mut TcpStream,
    early: &mut BytesMut,
    connection: &Connection,
    record: &mut Record,
) -> Result<Dialled, TurnedAway> {
    let name = timeout(HELLO, server_name(client, early));
    let name = name.await.unwrap_or_else(|_| Err(TurnedAway::silently(Cause::Slow.label())))?;
    connection.place.has_asked(std::time::Instant::now());
    let destination = Destination::of_server_name(name).map_err(|error| {
        let words = format!("{name}: {error}");
        TurnedAway::from(Refusal::new(Cause::AddressLiteral, words))
    })?;
    let service = connection.service();
    record.asked_for(destination);
    service.router.dialer.refuse_ourselves(client, connection.client)?;
    Ok(service.router.connect(Entrance::Sni, destination, record).await?)
}

async fn server_name(client: &mut TcpStream, early: &mut BytesMut) -> Result<HostName, TurnedAway> {
    let mut reader = HelloReader::default();
    loop {
        match client.read_buf(early).await {
            Ok(0) => return Err(TurnedAway::silently("client_left")),
            Ok(_) => {}
            Err(_) => return Err(TurnedAway::silently("client_reset")),
        }
        if let Reading::Complete(hello) = reader.read(early)? {
            let unnamed = || Refusal::new(Cause::NoServerName, "the ClientHello names no server: send SNI").into();
            return hello.server_name.ok_or_else(unnamed);
        }
    }
}
