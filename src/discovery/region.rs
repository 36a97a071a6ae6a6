//! Which region this host is in, where neither the configuration nor the AWS variables say so: the ECS task metadata
//! endpoint (version 4), then the instance metadata service (IMDSv2). One second for all of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request, StatusCode};
use tokio::time::timeout;

use super::endpoints::LookUp;
use super::source::fetch::{Fetcher, Limits};
use crate::policy::Region;
use crate::roots;

/// All look-ups together.
const WITHIN: Duration = Duration::from_secs(1);
/// Metadata documents are small.
const MAX_BODY: usize = 1 << 20;

/// Where to ask.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// The value of `ECS_CONTAINER_METADATA_URI_V4`, if set.
    pub ecs: Option<String>,
    /// The address of the instance metadata service.
    pub imds: SocketAddr,
}

/// Why there is no region.
#[derive(Debug, thiserror::Error)]
#[error("no region: set policy.region or AWS_REGION (asked the metadata services: {0})")]
pub struct RegionError(String);

impl Metadata {
    /// The services as AWS runs them; `ecs` is the value of `ECS_CONTAINER_METADATA_URI_V4`.
    pub fn of_aws(ecs: Option<String>) -> Self {
        Self { ecs, imds: SocketAddr::from(([169, 254, 169, 254], 80)) }
    }

    /// Asks ECS, then the instance.
    ///
    /// # Errors
    /// If neither says within one second.
    pub async fn region(&self) -> Result<Region, RegionError> {
        let asked = timeout(WITHIN, async {
            let ecs = match &self.ecs {
                Some(uri) => region_of_task(uri).await,
                None => Err("not an ECS task".to_owned()),
            };
            match ecs {
                Ok(region) => Ok(region),
                Err(ecs) => self.region_of_instance().await.map_err(|imds| format!("ECS: {ecs}; IMDS: {imds}")),
            }
        });
        asked.await.unwrap_or_else(|_| Err("no answer within one second".to_owned())).map_err(RegionError)
    }

    async fn region_of_instance(&self) -> Result<Region, String> {
        let base = format!("http://{}", self.imds);
        let token = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
        let token = fetch(Method::PUT, &format!("{base}/latest/api/token"), Some(token)).await?;
        let token = ("x-aws-ec2-metadata-token", token.trim());
        let region = fetch(Method::GET, &format!("{base}/latest/meta-data/placement/region"), Some(token)).await?;
        region.trim().parse().map_err(|_| "its answer is no region".to_owned())
    }
}

/// The region part of the task's ARN, `arn:aws:ecs:us-east-1:...`.
async fn region_of_task(uri: &str) -> Result<Region, String> {
    let body = fetch(Method::GET, &format!("{uri}/task"), None).await?;
    let task: serde_json::Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    let arn = task.get("TaskARN").and_then(serde_json::Value::as_str).unwrap_or_default();
    arn.split(':').nth(3).unwrap_or_default().parse().map_err(|_| "its task ARN has no region".to_owned())
}

pub(super) async fn fetch(method: Method, uri: &str, extra: Option<(&str, &str)>) -> Result<String, String> {
    let no_names: LookUp = Arc::new(|name, _| Box::pin(async move { Err(format!("{name} is no IP address")) }));
    let nobody = roots::trusting_nobody().map_err(|error| error.to_string())?;
    let mut request = Request::builder().method(method).uri(uri);
    if let Some((name, value)) = extra {
        request = request.header(name, value);
    }
    let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
    // What is in force is the second for all look-ups together.
    let limits = Limits { connect: 2 * WITHIN, within: 2 * WITHIN, max_body: MAX_BODY };
    let response = Fetcher::new(no_names, Arc::new(nobody)).send(request, limits).await;
    let response = response.map_err(|error| error.why)?;
    if response.status() != StatusCode::OK {
        return Err(format!("answered {}", response.status()));
    }
    String::from_utf8(response.into_body().to_vec()).map_err(|_| "its answer is no text".to_owned())
}

#[cfg(test)]
mod tests;
