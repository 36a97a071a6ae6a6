//! Why a client does not get through, in each of the languages it may speak.
//!
//! Every entrance ends in a [`Refusal`] when it cannot connect: HTTP says it as a status with a text and `Proxy-Status`
//! (RFC 9209), TLS as an alert, logs and metrics by its label.

use std::fmt;

use super::alert::Alert;

/// What went wrong; the set is bounded, so that it can label a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// What the client sent is not understood, or can be understood in two ways.
    BadRequest,
    /// The head of a request is longer than we read.
    TooLong,
    /// The client did not send its request in time.
    Slow,
    /// A method or a form of request that this entrance does not serve.
    NotSupported,
    /// The destination is not one that this entrance serves.
    NotAllowed,
    /// The client named an IP address.
    AddressLiteral,
    /// The name led to an address that may not be dialled.
    ProhibitedAddress,
    /// The name led to ourselves.
    Loop,
    /// Two names in one request lead to different places.
    Mismatch,
    /// The request is for another name than the TLS connection it came by.
    Misdirected,
    /// The client hello names nobody.
    NoServerName,
    NoSuchName,
    DnsFailure,
    /// There is no address to dial.
    NoAddress,
    /// A required list of private ids is missing.
    NotReady,
    ConnectionRefused,
    ConnectionTimeout,
    ConnectionFailed,
    /// The egress proxy did not connect us.
    ParentProxy,
    /// The server's certificate does not prove that it is the name's.
    Certificate,
    TlsFailure,
    /// The server's answer is none.
    BadResponse,
    ResponseTimeout,
    /// At a bound of ours.
    Overloaded,
}

impl Cause {
    /// HTTP status, error type of RFC 9209 section 2.3, TLS alert, and the label in logs and metrics.
    const fn in_each_language(self) -> (u16, &'static str, Alert, &'static str) {
        use Cause::*;
        match self {
            BadRequest => (400, "http_request_error", Alert::DECODE_ERROR, "bad_request"),
            TooLong => (431, "http_request_error", Alert::DECODE_ERROR, "too_long"),
            Slow => (408, "http_request_error", Alert::DECODE_ERROR, "slow_client"),
            NotSupported => (501, "http_request_error", Alert::UNEXPECTED_MESSAGE, "not_supported"),
            NotAllowed => (403, "http_request_denied", Alert::UNRECOGNIZED_NAME, "not_allowed"),
            AddressLiteral => (403, "http_request_denied", Alert::UNRECOGNIZED_NAME, "address_literal"),
            ProhibitedAddress => (403, "destination_ip_prohibited", Alert::ACCESS_DENIED, "prohibited_address"),
            Loop => (403, "proxy_loop_detected", Alert::ACCESS_DENIED, "loop"),
            Mismatch => (403, "http_request_denied", Alert::UNRECOGNIZED_NAME, "mismatch"),
            Misdirected => (421, "http_request_denied", Alert::UNRECOGNIZED_NAME, "misdirected"),
            NoServerName => (403, "http_request_denied", Alert::MISSING_EXTENSION, "no_server_name"),
            NoSuchName => (502, "dns_error", Alert::UNRECOGNIZED_NAME, "no_such_name"),
            DnsFailure => (502, "dns_error", Alert::INTERNAL_ERROR, "dns_failure"),
            NoAddress => (503, "destination_unavailable", Alert::INTERNAL_ERROR, "no_address"),
            NotReady => (503, "destination_unavailable", Alert::INTERNAL_ERROR, "not_ready"),
            ConnectionRefused => (502, "connection_refused", Alert::INTERNAL_ERROR, "connection_refused"),
            ConnectionTimeout => (504, "connection_timeout", Alert::INTERNAL_ERROR, "connection_timeout"),
            ConnectionFailed => (502, "destination_ip_unroutable", Alert::INTERNAL_ERROR, "connection_failed"),
            ParentProxy => (502, "destination_unavailable", Alert::INTERNAL_ERROR, "parent_proxy"),
            Certificate => (502, "tls_certificate_error", Alert::INTERNAL_ERROR, "certificate"),
            TlsFailure => (502, "tls_protocol_error", Alert::INTERNAL_ERROR, "tls_failure"),
            BadResponse => (502, "http_protocol_error", Alert::INTERNAL_ERROR, "bad_response"),
            ResponseTimeout => (504, "http_response_timeout", Alert::INTERNAL_ERROR, "response_timeout"),
            Overloaded => (503, "connection_limit_reached", Alert::INTERNAL_ERROR, "overloaded"),
        }
    }

    pub fn status(self) -> u16 {
        self.in_each_language().0
    }

    pub fn alert(self) -> Alert {
        self.in_each_language().2
    }

    pub fn label(self) -> &'static str {
        self.in_each_language().3
    }
}

/// A cause and the words for whoever has to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub cause: Cause,
    /// One line: what, why, what to do.
    pub words: String,
}

impl Refusal {
    pub fn new(cause: Cause, words: impl Into<String>) -> Self {
        Self { cause, words: words.into() }
    }

    /// Status, reason phrase, fields and body of the answer in HTTP that says it.
    pub fn in_http(&self) -> (u16, &'static str, [(&'static str, String); 3], String) {
        let (status, body) = (self.cause.status(), format!("{self}\n"));
        let reason = hyper::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
        let fields = [
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Content-Length", body.len().to_string()),
            ("Proxy-Status", self.proxy_status()),
        ];
        (status, reason.unwrap_or_default(), fields, body)
    }

    /// The value of a `Proxy-Status` header. Its `details` is a string of RFC 8941 section 3.3.3: what does not fit into
    /// one is left out.
    pub fn proxy_status(&self) -> String {
        let (_, error, ..) = self.cause.in_each_language();
        let printable = self.words.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'));
        let details: String = printable.take(256).collect();
        format!("sidegate; error={error}; details=\"{details}\"")
    }
}

/// An answer of our own in HTTP/1.1, after which the connection closes: nothing else in it can be trusted to be what it
/// seems.
pub fn answer(refusal: &Refusal) -> Vec<u8> {
    let (status, reason, fields, body) = refusal.in_http();
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} {reason}\r\n{fields}Connection: close\r\n\r\n{body}").into_bytes()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_why_and_ends_the_connection() {
        let refusal = Refusal::new(Cause::NotSupported, "try GET");
        let expected = "HTTP/1.1 501 Not Implemented\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\n\
                        Proxy-Status: sidegate; error=http_request_error; details=\"try GET\"\r\nConnection: close\r\n\r\n\
                        try GET\n";
        assert_eq!(answer(&refusal), expected.as_bytes());
    }

    #[test]
    fn words_cannot_break_out_of_the_header() {
        let refusal = Refusal::new(Cause::NotAllowed, "no \"way\"\r\nX: y\\ ü");
        let expected = "sidegate; error=http_request_denied; details=\"no wayX: y \"";
        assert_eq!(refusal.proxy_status(), expected);
    }
}
