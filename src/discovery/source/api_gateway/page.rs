//! What is known of a page before the AWS SDK reads it: who was asked, and whether the answer is a list at all.
//!
//! The SDK takes any JSON object for a page, and one without APIs where `item` is missing: what stands in between could
//! take every private API away with `{"message": …}`.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_apigateway::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_apigateway::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use hyper::http::Uri;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::discovery::source::fetch::shown;
use crate::policy::{Partition, Region};

/// An answer that is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its answer is no list of APIs")]
pub(super) struct NoList;

/// Watches what one client asks and hears.
#[derive(Debug)]
pub(super) struct Watch {
    region: Region,
    told: AtomicBool,
}

impl Watch {
    pub(super) fn new(region: Region) -> Self {
        Self { region, told: AtomicBool::new(false) }
    }

    /// AWS_ENDPOINT_URL and a profile's endpoint_url are easily forgotten where they lead elsewhere.
    fn tell(&self, uri: &Uri) {
        let suffix = Partition::of(self.region.as_str()).map_or("", |partition| partition.dns_suffix);
        let own = ["apigateway", "apigateway-fips"].map(|service| format!("{service}.{}.{suffix}", self.region));
        if !own.iter().any(|own| uri.host() == Some(own)) && !self.told.swap(true, Ordering::Relaxed) {
            tracing::info!("api-gateway {}: asks {}, which is not AWS's own endpoint", self.region, shown(uri));
        }
    }
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Ok(uri) = context.request().uri().parse() {
            self.tell(&uri);
        }
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        // Of any other status the SDK makes an error.
        if response.status().is_success() && !response.body().bytes().is_some_and(is_page) {
            return Err(NoList.into());
        }
        Ok(())
    }
}

/// A page has `item`. AWS writes that nowhere for an account without APIs, so `{}` passes for one as well, as it does with
/// the SDK: an account that truly has none must not fail for ever, and ids that are known stay when a list is empty. Any
/// other object without `item` is somebody else's: an error in JSON, or HAL (`_embedded`), which nobody has asked for.
fn is_page(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Page {
        item: Option<Vec<IgnoredAny>>,
    }
    let body = body.trim_ascii();
    // A struct may be read from an array too.
    let page = serde_json::from_slice(body).ok().filter(|_| body.starts_with(b"{"));
    page.is_some_and(|page: Page| page.item.is_some()) || body == b"{}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_apis_or_nothing_at_all() {
        for page in [r#"{"item":[]}"#, r#"{"position":"p","item":[{"id":"a1b2c3d4e5"}]}"#, "{}", " {}\n"] {
            assert!(is_page(page.as_bytes()), "{page}");
        }
        for other in [
            "",
            "null",
            "[]",
            "[[]]",
            "<html>",
            r#"{"message":"x"}"#,
            r#"{"_embedded":{"item":[]}}"#,
            r#"{"item":null}"#,
            r#"{"item":{}}"#,
            r#"{"items":[]}"#,
            r#"{"item":["#,
        ] {
            assert!(!is_page(other.as_bytes()), "{other}");
        }
    }
}
