//! One CONNECT of a connection over HTTP/2, from the request to the end of its tunnel.
//!
//! `http2` calls [`serve`] for each stream that a client opens. It counts as a connection of its own.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::http2_stream::Stream;
use super::{not_connect, target};
use crate::forward::access::Record;
use crate::forward::closing::say_and_close;
use crate::forward::destination::Destination;
use crate::forward::permit::Entrance;
use crate::forward::refusal::{Cause, Refusal};
use crate::forward::relay::End;
use crate::forward::service::Connection;
use crate::forward::tunnel;

/// Opens a tunnel, or says why not. A place is taken at once, not when this is first polled.
pub(super) fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: Arc<Connection>,
) -> impl Future<Output = ()> + Send {
    let place = connection.place_for_stream();
    async move {
        let mut record = Record::new(Entrance::Connect, connection.client);
        let dialled = async {
            if !connection.may_stay() {
                let words =
                    format!("{} is not in clients any more: add it, or call from another host", connection.client.ip());
                return Err(Refusal::new(Cause::NotAllowed, words));
            }
            let destination = destination(&request)?;
            connection.service().router.connect(Entrance::Connect, destination, &mut record).await
        };
        let opened = tokio::select! {
            opened = dialled => Ok(opened),
            () = place.close.cancelled() => Err("stopped"),
            _ = poll_fn(|context| respond.poll_reset(context)) => Err("client_left"),
        };
        let (reason, words) = match opened {
            Ok(Ok(dialled)) => match respond.send_response(Response::new(()), false) {
                Ok(to_client) => {
                    record.status = Some(200);
                    let client = Stream::new(request.into_body(), to_client);
                    tunnel::run(client, BytesMut::new(), dialled, &connection, &mut record, &place, End::other).await
                }
                Err(_) => ("client_left", None),
            },
            Ok(Err(refusal)) => {
                record.status = Some(refusal.cause.status());
                refuse(respond, request.into_body(), &refusal).await;
                (refusal.cause.label(), Some(refusal.words))
            }
            Err(reason) => (reason, None),
        };
        connection.service().journal.finish(&record, reason, words.as_deref());
    }
}

fn destination(request: &Request<RecvStream>) -> Result<Destination, Refusal> {
    let authority = match (request.method(), request.uri().authority()) {
        (&Method::CONNECT, Some(authority)) => authority.as_str(),
        _ => return Err(not_connect(request.uri().to_string().as_bytes())),
    };
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, another) = (hosts.next().map(HeaderValue::to_str), hosts.next());
    if another.is_some() {
        return Err(Refusal::new(Cause::BadRequest, "the request has Host twice"));
    }
    let host = host.transpose().map_err(|_| Refusal::new(Cause::BadRequest, "a host name is ASCII"))?;
    target(authority, host)
}

/// Answers; a client that does not open its window for the words has only the head.
async fn refuse(mut respond: SendResponse<Bytes>, from_client: RecvStream, refusal: &Refusal) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(refusal.cause.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = [("content-type", "text/plain; charset=utf-8".to_owned()), ("proxy-status", refusal.proxy_status())];
    for (name, value) in fields {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    if let Ok(to_client) = respond.send_response(response, false) {
        say_and_close(&mut Stream::new(from_client, to_client), format!("{refusal}\n").as_bytes()).await;
    }
}
