//! Fields that belong to one connection, and all the others, which pass untouched (RFC 9110 section 7.6.1).
//!
//! Pure. `forward` asks it about requests, `outbound` about answers.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderName;

use crate::forward::head::Field;
use crate::forward::refusal::{Cause, Refusal};

/// Ours on every connection, whether Connection lists them or not.
const OF_THE_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];
/// What the far side must see if the client sent it: the request would mean something else without.
const NEVER_DROPPED: [&str; 3] = ["host", "content-length", "authorization"];
/// What says where a message ends, where it goes and who sent it stands before its body or nowhere (RFC 9110 section
/// 6.5.1): a server behind us may take a trailer for a field.
const NEVER_TRAILING: [&str; 5] = ["host", "content-length", "trailer", "authorization", "x-apigw-api-id"];

/// What the fields of a message say about the connection they came by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionFields {
    /// It ends with this message.
    pub close: bool,
    /// The protocol to change to: Connection lists `upgrade`, and Upgrade says what to.
    pub upgrade: Option<Bytes>,
    /// Trailers are understood.
    pub trailers: bool,
}

impl ConnectionFields {
    pub(super) fn of(fields: &[Field]) -> Self {
        // Cleartext HTTP/2 may be declined silently (RFC 9113 section 3.1), and Java asks for it each time. Over TLS,
        // where it would be passed on to, there is no such protocol.
        let upgrade: Vec<&[u8]> = (fields.iter().filter(|field| field.is("upgrade")))
            .flat_map(|field| tokens(&field.value))
            .filter(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
            .collect();
        Self {
            close: options(fields).any(|option| option.eq_ignore_ascii_case(b"close")),
            upgrade: Some(Bytes::from(upgrade.join(&b", "[..])))
                .filter(|protocols| !protocols.is_empty())
                .filter(|_| options(fields).any(|option| option.eq_ignore_ascii_case(b"upgrade"))),
            trailers: (fields.iter().filter(|field| field.is("te")))
                .any(|field| tokens(&field.value).any(|token| token.eq_ignore_ascii_case(b"trailers"))),
        }
    }
}

/// The fields that are passed on, in their order.
///
/// # Errors
/// Connection lists a field that must not vanish.
pub(super) fn of_request(fields: Vec<Field>) -> Result<Vec<Field>, Refusal> {
    let vanishing = |option: &&[u8]| {
        NEVER_DROPPED.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes()))
            || option.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-"))
            || option.eq_ignore_ascii_case(b"x-apigw-api-id")
    };
    if let Some(option) = options(&fields).find(vanishing) {
        let name = String::from_utf8_lossy(option);
        let words =
            format!("Connection lists {name}, which would not reach the server then: take it out of Connection");
        return Err(Refusal::new(Cause::BadRequest, words));
    }
    Ok(of_response(fields))
}

/// The fields that are passed on, in their order.
pub(super) fn of_response(fields: Vec<Field>) -> Vec<Field> {
    let listed: Vec<Bytes> = options(&fields).map(Bytes::copy_from_slice).collect();
    // An answer cannot do without what says where it ends.
    let listed = |field: &Field| {
        listed.iter().any(|option| option.eq_ignore_ascii_case(&field.name)) && !field.is("content-length")
    };
    fields.into_iter().filter(|field| !is_of_the_connection(field) && !listed(field)).collect()
}

/// Whether a field is never passed on.
pub(super) fn is_of_the_connection(field: &Field) -> bool {
    OF_THE_CONNECTION.iter().any(|name| field.is(name))
}

/// Takes out of the trailers of a message what has no meaning there, or another than it would have in front.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    let forbidden = |name: &HeaderName| {
        let name = name.as_str();
        NEVER_TRAILING.contains(&name) || OF_THE_CONNECTION.contains(&name) || name.starts_with("x-amz-")
    };
    if trailers.keys().any(forbidden) {
        let kept = trailers.iter().filter(|(name, _)| !forbidden(name));
        *trailers = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    }
}

/// What the fields named Connection list.
fn options(fields: &[Field]) -> impl Iterator<Item = &[u8]> {
    fields.iter().filter(|field| field.is("connection")).flat_map(|field| tokens(&field.value))
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<Field> {
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            Field { name: Bytes::copy_from_slice(name.as_bytes()), value: Bytes::copy_from_slice(value.as_bytes()) }
        };
        text.lines().map(field).collect()
    }

    #[test]
    fn fields_of_the_connection_stay_and_the_others_pass_in_order() {
        let all = fields(
            "Host: a\nX-One: 1\nConnection: keep-alive, X-Mine\nKeep-Alive: timeout=5\nX-Mine: 1\nTE: trailers\nx-one: 2\n\
             Proxy-Connection: keep-alive\nTransfer-Encoding: chunked\nUpgrade: x\nAccept: */*",
        );
        assert_eq!(of_request(all).unwrap(), fields("Host: a\nX-One: 1\nx-one: 2\nAccept: */*"));
    }

    #[test]
    fn a_field_that_the_server_must_see_cannot_be_made_to_vanish() {
        for name in ["Host", "content-length", "AUTHORIZATION", "X-Amz-Date", "x-amz-security-token", "x-apigw-api-id"]
        {
            let refusal = of_request(fields(&format!("Connection: close, {name}"))).unwrap_err();
            assert!(refusal.cause == Cause::BadRequest && refusal.words.contains(name), "{refusal}");
        }
        let answer = fields("Connection: content-length\nContent-Length: 5");
        assert_eq!(of_response(answer), fields("Content-Length: 5"), "an answer would have another end");
    }

    #[test]
    fn trailers_say_nothing_about_where_a_message_ends_or_goes_or_whose_it_is() {
        let mut trailers = HeaderMap::new();
        for name in ["host", "content-length", "transfer-encoding", "trailer", "authorization", "x-apigw-api-id"]
            .into_iter()
            .chain(["x-amz-date", "connection", "te", "upgrade", "x-sum", "grpc-status"])
        {
            trailers.append(name, "1".parse().unwrap());
            trailers.append(name, "2".parse().unwrap());
        }
        clean_trailers(&mut trailers);
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum", "grpc-status"]);
        assert_eq!(trailers.len(), 4);
    }

    #[test]
    fn what_concerns_the_connection_is_read() {
        let read = |text| ConnectionFields::of(&fields(text));
        assert_eq!(read("Host: a"), ConnectionFields::default());
        assert!(read("Connection: x\nconnection: Foo , CLOSE").close);
        assert_eq!(read("Connection: Upgrade\nUpgrade: websocket").upgrade.unwrap(), "websocket");
        assert_eq!(read("Upgrade: websocket").upgrade, None, "Connection does not list it");
        assert_eq!(read("Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c").upgrade, None);
        for list in ["Upgrade: h2c, websocket,x/1", "Upgrade: H2C\nUpgrade: websocket, x/1"] {
            let protocols = ConnectionFields::of(&fields(&format!("Connection: Upgrade\n{list}"))).upgrade;
            assert_eq!(protocols.unwrap(), "websocket, x/1", "{list}");
        }
        assert!(read("TE: gzip, trailers").trailers && !read("TE: gzip").trailers);
    }
}
