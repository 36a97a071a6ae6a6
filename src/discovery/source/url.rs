//! A list behind a URL, asked for with the ETag of the one before (RFC 9110 section 13.1.2).

use std::sync::Arc;

use super::Read;
use super::fetch::Fetcher;

/// Reads one URL.
#[derive(Debug)]
pub(super) struct UrlReader {
    url: String,
    headers: Vec<(String, String)>,
    any_region: bool,
    fetcher: Arc<Fetcher>,
}

impl UrlReader {
    pub(super) fn new(url: String, headers: Vec<(String, String)>, any_region: bool, fetcher: Arc<Fetcher>) -> Self {
        Self { url, headers, any_region, fetcher }
    }

    /// Asks for it once.
    ///
    /// # Errors
    /// In words for an operator.
    pub(super) async fn read(&mut self) -> Result<Read, String> {
        Err(format!("{} {:?} {} {:?}", self.url, self.headers, self.any_region, self.fetcher))
    }
}
