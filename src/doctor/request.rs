//! The call that is to be explained: a URL, a method, headers. Read here, so that whatever exists can be sent.
//!
//! The errors never repeat what was typed: a URL and a header may hold secrets.

use std::fmt;
use std::net::IpAddr;

use hyper::http::{HeaderName, HeaderValue, Method, Uri};

use crate::policy::HostName;

/// Why this is no call. Each message is the rule and one way to meet it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(
        "a URL is https://HOST/PATH or a bare host name: write https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/stage"
    )]
    Url,
    #[error("API Gateway speaks HTTPS only: write https:// in place of the scheme")]
    Scheme,
    #[error("API Gateway listens on port 443 only: leave the port out")]
    Port,
    #[error("a URL has no user or password here: send them with --header")]
    UserInfo,
    #[error("an address has no API behind it: write the host name")]
    Address,
    #[error("a header is 'name: value', both as HTTP allows them: write --header 'x-api-key: ...'")]
    Header,
    #[error(
        "Host, Connection, Content-Length, Transfer-Encoding and x-apigw-api-id would make it another call: leave that header out"
    )]
    ReservedHeader,
    #[error("a method is a word like GET or POST: correct --method")]
    Method,
}

/// One call. `Debug` shows no header's value and no query.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub host: HostName,
    /// Path and query, as they are sent.
    target: String,
    pub method: Method,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Headers that decide where a request leads or how long it is. `x-apigw-api-id` beats Host (developer guide,
/// apigateway-private-api-test-invoke-url).
const RESERVED: &[&str] = &["host", "connection", "content-length", "transfer-encoding", "x-apigw-api-id"];

impl Request {
    /// A GET of this URL.
    ///
    /// # Errors
    /// Anything but an `https` URL with a host name on port 443.
    pub fn of_url(text: &str) -> Result<Self, RequestError> {
        let uri: Uri = match text.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => text.parse(),
            Some(_) => return Err(RequestError::Scheme),
            None => format!("https://{text}").parse(),
        }
        .map_err(|_| RequestError::Url)?;
        let authority = uri.authority().ok_or(RequestError::Url)?;
        if authority.as_str().contains('@') {
            return Err(RequestError::UserInfo);
        }
        let host = authority.host();
        if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
            return Err(RequestError::Address);
        }
        let rest = authority.as_str().strip_prefix(host).unwrap_or_default();
        if !matches!(rest, "" | ":443") {
            return Err(RequestError::Port);
        }
        let host: HostName = host.parse().map_err(|_| RequestError::Url)?;
        if host.labels().count() < 2 {
            return Err(RequestError::Url);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { host, target, method: Method::GET, headers: Vec::new() })
    }

    /// With another method.
    ///
    /// # Errors
    /// No word that HTTP takes for one.
    pub fn with_method(mut self, text: &str) -> Result<Self, RequestError> {
        self.method = text.to_ascii_uppercase().parse().map_err(|_| RequestError::Method)?;
        if self.method == Method::CONNECT { Err(RequestError::Method) } else { Ok(self) }
    }

    /// With one more header, `name: value`.
    ///
    /// # Errors
    /// Not of this form, or a header that makes it a call to somebody else.
    pub fn with_header(mut self, text: &str) -> Result<Self, RequestError> {
        let (name, value) = text.split_once(':').ok_or(RequestError::Header)?;
        let name: HeaderName = name.trim().parse().map_err(|_| RequestError::Header)?;
        let mut value: HeaderValue = value.trim().parse().map_err(|_| RequestError::Header)?;
        if RESERVED.contains(&name.as_str()) {
            return Err(RequestError::ReservedHeader);
        }
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(self)
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path alone, for people: a query may hold secrets.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first segment of the path: the stage, with the default name of a REST API.
    pub fn stage(&self) -> Option<&str> {
        self.path().split('/').nth(1).filter(|stage| !stage.is_empty())
    }

    /// What is not to be shown, as it was sent: headers and query, whole and in parts.
    pub fn secrets(&self) -> Vec<&str> {
        let query = self.target.split_once('?').map(|(_, query)| query);
        let parameters = query.into_iter().flat_map(|query| query.split('&'));
        let values = parameters.filter_map(|parameter| Some(parameter.split_once('=')?.1));
        let headers = self.headers.iter().filter_map(|(_, value)| value.to_str().ok());
        let words = headers.clone().flat_map(str::split_whitespace);
        headers.chain(words).chain(query).chain(values).collect()
    }

    /// Whether the request has an API key with it.
    pub fn has_api_key(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == "x-api-key")
    }

    /// Whether it may be sent to more than one place: a GET or HEAD that says nothing of who sends it.
    pub fn may_be_sent_everywhere(&self) -> bool {
        self.headers.is_empty() && matches!(self.method, Method::GET | Method::HEAD)
    }

    /// The same without its query, which may hold a signature or a token.
    pub fn without_query(&self) -> Self {
        Self { target: self.path().to_owned(), ..self.clone() }
    }

    /// A GET without headers of a path in the same stage that no API has, to see what the stage says to that. `None`
    /// without a stage.
    pub fn control(&self) -> Option<Self> {
        let target = format!("/{}/sidegate-doctor-no-such-path", self.stage()?);
        Some(Self { host: self.host, target, method: Method::GET, headers: Vec::new() })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} https://{}{} with {} headers", self.method, self.host, self.path(), self.headers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";

    #[test]
    fn a_url_and_a_bare_name_are_the_same_call_and_the_path_is_kept() {
        for (text, target) in [
            (HOST.to_owned(), "/"),
            (format!("https://{HOST}"), "/"),
            (format!("HTTPS://{HOST}:443/prod/orders%2F1?key=x"), "/prod/orders%2F1?key=x"),
            (format!("{HOST}/prod"), "/prod"),
        ] {
            let request = Request::of_url(&text).unwrap();
            assert_eq!((request.host.to_string().as_str(), request.target()), (HOST, target), "{text}");
        }
        let request = Request::of_url(&format!("{HOST}/prod/x?y")).unwrap();
        assert_eq!((request.path(), request.stage()), ("/prod/x", Some("prod")));
        assert_eq!(request.control().unwrap().target(), "/prod/sidegate-doctor-no-such-path");
        assert_eq!(Request::of_url(HOST).unwrap().control(), None);
    }

    #[test]
    fn what_is_no_call_is_refused_by_the_rule_it_breaks_and_never_repeated() {
        for (text, error) in [
            ("http://api.example.com", RequestError::Scheme),
            ("wss://api.example.com", RequestError::Scheme),
            ("https://user:secret@api.example.com", RequestError::UserInfo),
            ("https://api.example.com:8443", RequestError::Port),
            ("https://api.example.com:", RequestError::Port),
            ("https://10.0.0.1/", RequestError::Address),
            ("https://[::1]/", RequestError::Address),
            ("localhost", RequestError::Url),
            ("", RequestError::Url),
            ("https://a b/", RequestError::Url),
        ] {
            assert_eq!(Request::of_url(text).unwrap_err(), error, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
        let request = || Request::of_url(HOST).unwrap();
        for (text, error) in [
            ("x-api-key", RequestError::Header),
            ("x api key: 1", RequestError::Header),
            ("x-api-key: a\nb: c", RequestError::Header),
            ("Host: b", RequestError::ReservedHeader),
            ("X-Apigw-Api-Id: b", RequestError::ReservedHeader),
        ] {
            assert_eq!(request().with_header(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(request().with_method("CONNECT").unwrap_err(), RequestError::Method);
        assert_eq!(request().with_method("G T").unwrap_err(), RequestError::Method);
    }

    #[test]
    fn a_call_with_headers_or_another_method_is_sent_to_one_place_only() {
        let request = || Request::of_url(HOST).unwrap();
        assert!(request().may_be_sent_everywhere());
        assert!(request().with_method("head").unwrap().may_be_sent_everywhere());
        assert!(!request().with_method("POST").unwrap().may_be_sent_everywhere());
        let with_key = request().with_header("x-api-key: hush").unwrap();
        assert!(with_key.has_api_key() && !with_key.may_be_sent_everywhere());
        assert!(!format!("{with_key:?}").contains("hush"));
    }
}
