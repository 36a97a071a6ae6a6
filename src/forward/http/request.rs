//! A request in HTTP/1.1 as it came, made into one that can be passed on; or what is wrong with it.
//!
//! Pure; `inbound` calls it.

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::{self, ConnectionFields};
use super::framing::{self, Framing};
use super::message::{Body, Request};
use crate::forward::head::{Head, Version};
use crate::forward::refusal::{Cause, Refusal};

/// Reads a head. The body that follows it is not there yet.
///
/// # Errors
/// What cannot be passed on, or could be read in two ways; the connection's next request cannot be found then.
pub(super) fn of_head(head: Head) -> Result<(Request, Framing), Refusal> {
    let framing = framing::of_request(&head.fields, head.version)?;
    if head.method == "CONNECT" {
        let words = "CONNECT is served at forward.connect: set HTTPS_PROXY to its address";
        return Err(Refusal::new(Cause::NotSupported, words));
    }
    let target = target(&head)?;
    let about = ConnectionFields::of(&head.fields);
    let upgrade = about.upgrade.filter(|_| head.version == Version::Http11);
    if upgrade.is_some() && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(Refusal::new(Cause::BadRequest, "a request that changes the protocol has no body"));
    }
    let fields = fields::of_request(head.fields)?;
    let request =
        Request { method: head.method, target, fields, body: Body::empty(), upgrade, trailers: about.trailers };
    Ok((request, framing))
}

/// The target without the name that Host repeats (RFC 9112 section 3.2).
fn target(head: &Head) -> Result<Bytes, Refusal> {
    let target = &head.target;
    if target.starts_with(b"/") || (target == "*" && head.method == "OPTIONS") {
        return Ok(target.clone());
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(scheme) = scheme else {
        return Err(Refusal::new(Cause::BadRequest, "the target of a request is a path, like /stage/resource"));
    };
    let rest = target.slice(scheme.len()..);
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let host = head.single("host")?;
    if host.is_none_or(|host| !rest.slice(..length).eq_ignore_ascii_case(host)) {
        return Err(Refusal::new(Cause::BadRequest, "the target of the request and its Host name two servers"));
    }
    let path = rest.slice(length..);
    Ok(match path.first() {
        Some(b'/') => path,
        None if head.method == "OPTIONS" => Bytes::from_static(b"*"),
        _ => {
            let mut rooted = BytesMut::from(&b"/"[..]);
            rooted.put_slice(&path);
            rooted.freeze()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::head::HeadReader;

    fn read(text: &str) -> Result<(Request, Framing), Cause> {
        let head = HeadReader::default().take(&mut BytesMut::from(text)).unwrap().unwrap();
        of_head(head).map_err(|refusal| refusal.cause)
    }

    fn target_of(method: &str, target: &str) -> Result<Bytes, Cause> {
        read(&format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")).map(|(request, _)| request.target)
    }

    #[test]
    fn an_absolute_target_is_taken_if_it_names_the_host_and_sent_on_as_a_path() {
        for (target, path) in [
            ("http://a.example/x%2f?q", "/x%2f?q"),
            ("HTTPS://A.example/", "/"),
            ("http://a.example", "/"),
            ("http://a.example?q", "/?q"),
        ] {
            assert_eq!(target_of("GET", target).unwrap(), path, "{target}");
        }
        assert_eq!(target_of("OPTIONS", "http://a.example").unwrap(), "*");
        assert_eq!(target_of("OPTIONS", "*").unwrap(), "*");
        for other in
            ["http://b.example/", "http://a.example:80/", "http://x@a.example/", "*", "a.example/", "ftp://a.example/"]
        {
            assert_eq!(target_of("GET", other), Err(Cause::BadRequest), "{other}");
        }
    }

    #[test]
    fn connect_is_told_where_it_is_served() {
        assert_eq!(target_of("CONNECT", "a.example:443"), Err(Cause::NotSupported));
    }

    #[test]
    fn a_change_of_protocol_has_no_body_and_cleartext_http2_is_declined() {
        let upgrade = |to: &str, more: &str| {
            read(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {to}\r\n{more}\r\n"))
                .map(|(request, _)| request.upgrade)
        };
        assert_eq!(upgrade("websocket", "").unwrap().unwrap(), "websocket");
        assert_eq!(upgrade("websocket", "Content-Length: 0\r\n").unwrap().unwrap(), "websocket");
        assert_eq!(upgrade("websocket", "Content-Length: 1\r\n"), Err(Cause::BadRequest));
        assert_eq!(upgrade("websocket", "Transfer-Encoding: chunked\r\n"), Err(Cause::BadRequest));
        assert_eq!(upgrade("h2c", "Content-Length: 1\r\n"), Ok(None));
    }
}
