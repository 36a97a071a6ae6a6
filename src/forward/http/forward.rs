//! One request's way: its Host, the permit for it, a connection, the exchange.
//!
//! `inbound` and `inbound_h2` call it. Whatever goes wrong before the answer's head becomes an answer here.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::Watched;
use super::connect::Route;
use super::message::{Body, Interim, Request, Response};
use super::outbound::{self, Answer, RESPONSE, Switched};
use super::outbound_h2::{self, Unanswered, carried, expects};
use super::record::{Record, Recorded};
use super::share::Share;
use super::tls::Protocols;
use crate::forward::destination::{Destination, DestinationError};
use crate::forward::head::Field;
use crate::forward::permit::{Entrance, Permit};
use crate::forward::refusal::{Cause, Refusal};
use crate::forward::service::{Connection, Service};
use crate::policy::HostName;

/// A client, and what is known about its connection.
#[derive(Debug)]
pub(super) struct Client {
    pub connection: Connection,
    /// The name in its client hello.
    pub server_name: Option<HostName>,
}

impl Client {
    /// Whether it may still come: a reload may have said otherwise.
    pub(super) fn is_welcome(&self) -> bool {
        self.connection.service().clients.contains(self.connection.client.ip())
    }
}

/// What the client gets.
pub(super) enum Outcome {
    Response(Response),
    Switched(Box<Switched>, Record),
}

/// Forwards one request; the record is reported when the answer's body is over.
pub(super) async fn forward(client: &Client, request: Request, interim: &mpsc::Sender<Interim>) -> Outcome {
    let (mut record, mut share) = (Record::new(client), None);
    match send(client, request, interim, &mut record, &mut share).await {
        Ok(Answer::Response(response)) => Outcome::Response(recorded(response, record, share)),
        Ok(Answer::Switched(switched)) => {
            record.access.status = Some(switched.response.status);
            // Its share ends here: it lasts as its client's connection does, and the bound on those holds for it.
            Outcome::Switched(Box::new(switched), record)
        }
        Err(refusal) => {
            // If the request itself broke off, the rest is a consequence.
            let refusal = record.up.failure.get().cloned().unwrap_or(refusal);
            Outcome::Response(refused(&refusal, record))
        }
    }
}

/// Answers a request that is not forwarded.
pub(super) fn refused(refusal: &Refusal, mut record: Record) -> Response {
    record.refused(refusal);
    recorded(Response::of_refusal(refusal), record, None)
}

fn recorded(response: Response, mut record: Record, share: Option<Share>) -> Response {
    record.access.status = Some(response.status);
    let body = Watched::new(response.body, RESPONSE, Arc::clone(&record.down));
    Response { body: Body::new(Recorded::new(body, record, share)), ..response }
}

async fn send(
    client: &Client,
    mut request: Request,
    interim: &mpsc::Sender<Interim>,
    record: &mut Record,
    share: &mut Option<Share>,
) -> Result<Answer, Refusal> {
    let service = client.connection.service();
    let Some(gateway) = &service.http else {
        return Err(Refusal::new(Cause::NotSupported, "forward.http is not configured any more"));
    };
    if !client.is_welcome() {
        let words = format!("{} is no longer in clients: add its network there", client.connection.client.ip());
        return Err(Refusal::new(Cause::NotAllowed, words));
    }
    let port = client.connection.listening.address.port();
    let destination = destination(&request.fields, port)?;
    record.access.asked_for(destination);
    agrees_with_server_name(&service, client, &destination)?;
    let mut permit = service.router.permit(Entrance::Http, destination)?;
    record.access.permitted(&permit);
    check_api_id(&service, &request.fields, &permit)?;
    let authority = drop_listener_port(&mut request.fields, port);
    // A client that waits to be asked for its body does not stall.
    let patience = if request.fields.iter().any(expects) { RESPONSE } else { super::STALL };
    if !hyper::body::Body::is_end_stream(&request.body) {
        let body = std::mem::take(&mut request.body);
        request.body = Body::new(Watched::new(body, super::STALL, Arc::clone(&record.up)).first(patience));
    }
    *share = Some(gateway.connections.share(client.connection.client.ip())?);
    // In HTTP/2 nobody can tell when the server asks for the body, or answers without it.
    let head = if request.fields.iter().any(expects) { None } else { carried(&request, &authority) };
    let protocols = if head.is_some() { Protocols::Any } else { Protocols::Http1 };
    let mut again = true;
    loop {
        let (route, used) = gateway.connections.to(&service, permit, protocols).await?;
        record.access.permitted(&used);
        // The way may be one that was learned just now.
        check_api_id(&service, &request.fields, &used)?;
        let (connection, head) = match (route, &head) {
            (Route::Http1(connection), _) => {
                record.access.went_to(connection.ticket.address);
                // A body may take long, and configurations change meanwhile.
                drop(service);
                return outbound::exchange(connection, request, interim).await;
            }
            (Route::Http2(connection), Some(head)) => (connection, head.clone()),
            (Route::Http2(_), None) => return Err(Refusal::new(Cause::BadResponse, "HTTP/2 was not offered")),
        };
        record.access.went_to(connection.address);
        let body = std::mem::take(&mut request.body);
        match outbound_h2::exchange(connection, head, body).await {
            Ok(response) => return Ok(Answer::Response(response)),
            Err(Unanswered::Failed(refusal)) => return Err(refusal),
            // The connection ended before it took the request: another one may.
            Err(Unanswered::Unsent(body)) if again => (request.body, permit, again) = (body, used, false),
            Err(Unanswered::Unsent(_)) => {
                return Err(Refusal::new(Cause::ConnectionFailed, "the server ends its connections at once"));
            }
        }
    }
}

/// Where the Host field says; there is exactly one.
fn destination(fields: &[Field], listener_port: u16) -> Result<Destination, Refusal> {
    let mut hosts = fields.iter().filter(|field| field.is("host"));
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::new(Cause::BadRequest, "a request has one Host: the name of the API to call"));
    };
    let value = std::str::from_utf8(&host.value).map_err(|_| Refusal::new(Cause::BadRequest, "Host is no name"))?;
    Destination::of_host_header(value, listener_port).map_err(|error| {
        let cause = if error == DestinationError::Address { Cause::AddressLiteral } else { Cause::BadRequest };
        Refusal::new(cause, format!("Host is {value:?}: {error}"))
    })
}

/// A client that asked for one of our names in TLS must not ask for another in HTTP.
fn agrees_with_server_name(service: &Service, client: &Client, destination: &Destination) -> Result<(), Refusal> {
    let Some(server_name) = client.server_name.filter(|name| *name != destination.host) else { return Ok(()) };
    let mut allowed = service.router.destinations.allow.iter();
    // Whatever way there is to it just now.
    let is_served = service.router.is_ours(&server_name)
        || allowed.any(|entry| entry.holds(&Destination { host: server_name, port: entry.port }));
    if is_served {
        let words = format!("the TLS connection is for {server_name}, the request for {}", destination.host);
        return Err(Refusal::new(Cause::Misdirected, words));
    }
    Ok(())
}

fn check_api_id(service: &Service, fields: &[Field], permit: &Permit) -> Result<(), Refusal> {
    let mut ids = fields.iter().filter(|field| field.is("x-apigw-api-id"));
    match (ids.next(), ids.next()) {
        (None, _) => Ok(()),
        (Some(id), None) => service.router.permit_api_id(permit, &id.value),
        (Some(_), Some(_)) => Err(Refusal::new(Cause::BadRequest, "the request has x-apigw-api-id twice")),
    }
}

/// Takes our own port off the Host, which the server knows nothing of; says what is left.
fn drop_listener_port(fields: &mut [Field], port: u16) -> Bytes {
    let Some(host) = fields.iter_mut().find(|field| field.is("host")) else { return Bytes::new() };
    let colon = host.value.iter().position(|byte| *byte == b':');
    let written = |at: usize| std::str::from_utf8(host.value.get(at + 1..)?).ok()?.parse::<u16>().ok();
    if let Some(colon) = colon.filter(|at| written(*at) == Some(port)) {
        host.value.truncate(colon);
    }
    host.value.clone()
}
