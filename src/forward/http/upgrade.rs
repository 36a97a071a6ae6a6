//! A connection that changes its protocol: the 101, then bytes both ways until one side ends.

use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::outbound::Switched;
use super::record::Record;
use super::source::{Source, Writer};
use super::write::{put_field, put_fields, status_line, write};

/// Tells the client, and relays. Bytes of the server's that came with its answer are not lost.
pub(super) async fn relay(
    source: Source,
    mut writer: Writer,
    switched: Switched,
    mut record: Record,
    stop: &CancellationToken,
) {
    let Switched { response, protocol, source: from_server, writer: to_server, ticket: _ticket } = switched;
    let mut head = status_line(response.status, &response.reason);
    put_fields(&mut head, &response.fields);
    put_field(&mut head, b"Connection", b"Upgrade");
    put_field(&mut head, b"Upgrade", &protocol);
    head.extend_from_slice(b"\r\n");
    if write(&mut writer, &mut head).await.is_err() {
        return;
    }
    let mut client = tokio::io::join(source.into_reader(), writer);
    let mut server = tokio::io::join(from_server.into_reader(), to_server);
    let relayed = tokio::select! {
        relayed = tokio::io::copy_bidirectional(&mut client, &mut server) => relayed,
        () = stop.cancelled() => return,
    };
    if let Ok((up, down)) = relayed {
        record.up.bytes.store(up, Ordering::Relaxed);
        record.down.bytes.store(down, Ordering::Relaxed);
        record.complete = true;
    }
}
