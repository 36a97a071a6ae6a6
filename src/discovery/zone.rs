//! Which availability zone this host is in, and an endpoint's name there: traffic that stays in the zone is faster and
//! costs nothing (PrivateLink guide, "Access an AWS service using an interface VPC endpoint").
//!
//! `endpoints` asks once, in the background, and only for an endpoint that has such a name.

use std::time::Duration;

use hyper::Method;
use tokio::time::timeout;

use super::region::{Metadata, fetch};
use crate::policy::HostName;

/// All look-ups together. Addresses are answered meanwhile, in another order.
const WITHIN: Duration = Duration::from_secs(1);

/// An availability zone by its names, the account's own (`us-east-1a`) and AWS's (`use1-az1`); endpoint names have carried
/// either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(Vec<String>);

impl Metadata {
    /// Asks ECS, which knows the zone's name, then the instance, which knows its id too; `None` if neither says within one
    /// second.
    pub async fn zone(&self) -> Option<Zone> {
        let asked = timeout(WITHIN, async {
            let of_task = match &self.ecs {
                Some(uri) => zone_of_task(uri).await,
                None => Err("not an ECS task".to_owned()),
            };
            match of_task {
                Ok(zone) => Ok(zone),
                Err(ecs) => self.zone_of_instance().await.map_err(|imds| format!("ECS: {ecs}; IMDS: {imds}")),
            }
        });
        let zone = asked.await.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
        zone.inspect_err(|why| tracing::debug!("the availability zone of this host is not known: {why}")).ok()
    }

    async fn zone_of_instance(&self) -> Result<Zone, String> {
        let base = format!("http://{}/latest", self.imds);
        let seconds = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
        let token = fetch(Method::PUT, &format!("{base}/api/token"), Some(seconds)).await?;
        let token = Some(("x-aws-ec2-metadata-token", token.trim()));
        let mut names = Vec::new();
        for kind in ["availability-zone", "availability-zone-id"] {
            names.push(fetch(Method::GET, &format!("{base}/meta-data/placement/{kind}"), token).await);
        }
        match names.iter().find_map(|name| name.as_ref().err()) {
            // One of them is enough.
            Some(error) if names.iter().all(Result::is_err) => Err(error.clone()),
            _ => Zone::of(names.into_iter().flatten()),
        }
    }
}

async fn zone_of_task(uri: &str) -> Result<Zone, String> {
    let body = fetch(Method::GET, &format!("{uri}/task"), None).await?;
    let task: serde_json::Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    Zone::of(task.get("AvailabilityZone").and_then(serde_json::Value::as_str).map(str::to_owned))
}

impl Zone {
    /// # Errors
    /// If none of these can be part of a label.
    fn of(names: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let fits = |name: &String| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !name.is_empty() && name.bytes().all(plain)
        };
        let names: Vec<String> = names.into_iter().map(|name| name.trim().to_owned()).filter(fits).collect();
        if names.is_empty() { Err("its answer is no zone".to_owned()) } else { Ok(Self(names)) }
    }

    /// What `regional`, the name of an endpoint in all of its zones, may be called in this one:
    /// `vpce-<id>-<suffix>-<zone>.execute-api.<region>.vpce.<dns-suffix>`. Nothing for a name of another form.
    pub(super) fn names_of(&self, regional: &HostName) -> Vec<HostName> {
        let text = regional.to_string();
        let Some((label, rest)) = text.split_once('.').filter(|_| is_regional(regional)) else { return Vec::new() };
        self.0.iter().filter_map(|zone| format!("{label}-{zone}.{rest}").parse().ok()).collect()
    }
}

/// Whether this is `vpce-<id>-<suffix>.execute-api.<region>.vpce.<dns-suffix>`: an endpoint in all of its zones.
pub(super) fn is_regional(name: &HostName) -> bool {
    let mut labels = name.labels();
    let parts: Vec<_> = labels.next().unwrap_or_default().split(|byte| *byte == b'-').collect();
    matches!(parts[..], [b"vpce", id, suffix] if !id.is_empty() && !suffix.is_empty())
        && labels.next() == Some(b"execute-api")
        && labels.nth(1) == Some(b"vpce")
}

#[cfg(test)]
mod tests;
