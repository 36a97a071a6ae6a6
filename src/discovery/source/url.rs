//! A list behind a URL, asked for with the ETag of the one before (RFC 9110 section 13.1.2).

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    TRANSFER_ENCODING,
};
use hyper::http::{Request, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use super::Read;
use super::fetch::{Fetcher, Limits};
use crate::discovery::list::{List, MAX_BYTES};

/// Every list of a size that is taken comes within this, or the way there is broken.
const LIMITS: Limits = Limits { connect: Duration::from_secs(2), within: Duration::from_secs(10), max_body: MAX_BYTES };

/// Reads one URL.
#[derive(Debug)]
pub(super) struct UrlReader {
    url: String,
    headers: Vec<(String, String)>,
    any_region: bool,
    fetcher: Arc<Fetcher>,
    /// Of the last list that was one, as the server wrote it.
    etag: Option<HeaderValue>,
}

impl UrlReader {
    pub(super) fn new(url: String, headers: Vec<(String, String)>, any_region: bool, fetcher: Arc<Fetcher>) -> Self {
        Self { url, headers, any_region, fetcher, etag: None }
    }

    /// Asks for it once.
    ///
    /// # Errors
    /// In words for an operator.
    pub(super) async fn read(&mut self) -> Result<Read, String> {
        let response = self.fetcher.send(self.request()?, LIMITS).await.map_err(|error| error.why)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.etag.is_some() => return Ok(Read::Unchanged),
            StatusCode::NOT_MODIFIED => {
                let fix = "remove conditions from discovery.headers, or correct the cache in between";
                return Err(format!("answered 304 Not Modified though it was asked for the whole list: {fix}"));
            }
            status => return Err(refusal(status)),
        }
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(format!("its answer is encoded as {encoding:?}: have the server send it as it is"));
        }
        if !says_where_it_ends(response.headers()) {
            let fix = "have the server send Content-Length, or chunks";
            return Err(format!("its answer has no length, so a part of it would pass for the whole: {fix}"));
        }
        let (etag, body, any_region) = (etag(&response), response.into_body(), self.any_region);
        // A long one takes its time: not where queries wait.
        let parsed = tokio::task::spawn_blocking(move || List::parse(&body, any_region)).await;
        let list = parsed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.etag = etag;
        Ok(Read::List(list))
    }

    fn request(&self) -> Result<Request<Bytes>, String> {
        let url: Uri = self.url.parse().map_err(|_| "it is no URL: correct it".to_owned())?;
        let mut request = Request::new(Bytes::new());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/plain"));
        headers.extend(authorization(&url));
        headers.extend(self.etag.clone().map(|etag| (IF_NONE_MATCH, etag)));
        // Those of the configuration have the last word.
        headers.extend(self.configured()?);
        *request.uri_mut() = url;
        Ok(request)
    }

    fn configured(&self) -> Result<HeaderMap, String> {
        let parsed = self.headers.iter().map(|(name, text)| {
            let header = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(text).ok());
            let (name, mut value) = header.ok_or_else(|| format!("header {name:?} cannot be sent: correct it"))?;
            value.set_sensitive(true);
            Ok((name, value))
        });
        parsed.collect()
    }
}

/// `user:password@` of a URL, percent-decoded (RFC 7617).
fn authorization(url: &Uri) -> Option<(HeaderName, HeaderValue)> {
    let (credentials, _) = url.authority()?.as_str().rsplit_once('@')?;
    let credentials: Vec<u8> = percent_decode_str(credentials).collect();
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    Some((AUTHORIZATION, value))
}

/// If not, the end of the connection is the end of the body (RFC 9112 section 6.3), wherever it breaks. Over TLS a
/// close_notify would tell the two apart; such an answer is refused there all the same, as one rule is easier to keep.
fn says_where_it_ends(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back().map(HeaderValue::as_bytes);
    last.map_or(headers.contains_key(CONTENT_LENGTH), |codings| {
        codings.trim_ascii_end().to_ascii_lowercase().ends_with(b"chunked")
    })
}

fn etag(response: &Response<Bytes>) -> Option<HeaderValue> {
    response.headers().get(ETAG).cloned()
}

fn refusal(status: StatusCode) -> String {
    let fix = match status.as_u16() {
        300..=399 => "redirects are not followed, so that headers go nowhere else: set the URL that it leads to",
        401 | 403 => "correct discovery.headers, or what they are permitted there",
        404 | 410 => "correct the URL, or publish the list there",
        429 => "make discovery.interval longer",
        500.. => "the server's own log says why",
        _ => "see that the URL is that of a list",
    };
    format!("answered {status}: {fix}")
}

#[cfg(test)]
mod tests;
