//! The AWS SDK's way to the network: every request of its clients, those for credentials too, goes through our
//! [`Fetcher`]. It is built without a client of its own, and so has no other.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

use super::fetch::{Fetcher, Limits};

/// Where the SDK says nothing: to connect, and from there to the last octet. A page of 500 APIs takes AWS a few seconds.
const CONNECT: Duration = Duration::from_secs(3);
const READ: Duration = Duration::from_secs(20);
/// Octets of an answer. An API's resource policy has up to 8,192 characters, which JSON may double, and 500 are a page.
const MAX_BODY: usize = 16 << 20;

/// Hands the SDK's requests to `fetcher`.
pub(super) fn http_client(fetcher: Arc<Fetcher>) -> SharedHttpClient {
    http_client_fn(move |settings, _| {
        let fetcher = Arc::clone(&fetcher);
        SharedHttpConnector::new(Connector { fetcher, limits: limits(settings) })
    })
}

/// The SDK's read timeout ends with the first octet of an answer, ours with the last: answers are short.
fn limits(settings: &HttpConnectorSettings) -> Limits {
    let connect = settings.connect_timeout().unwrap_or(CONNECT);
    Limits { connect, within: connect + settings.read_timeout().unwrap_or(READ), max_body: MAX_BODY }
}

#[derive(Debug)]
struct Connector {
    fetcher: Arc<Fetcher>,
    limits: Limits,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (fetcher, limits) = (Arc::clone(&self.fetcher), self.limits);
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            // A body that is a stream is none of ours: no operation that we call has one.
            let request = request.map(|body| body.bytes().map(Bytes::copy_from_slice).unwrap_or_default());
            let response = fetcher.send(request, limits).await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from)).map_err(|error| ConnectorError::io(error.into()))
        })
    }
}
