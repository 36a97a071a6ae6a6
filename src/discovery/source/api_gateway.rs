//! The private APIs of this account, from API Gateway itself: `GetRestApis`, 500 a page.
//!
//! Credentials come from the AWS SDK's own chain: environment, profile, web identity (IRSA), ECS and EKS pod identity,
//! IMDSv2. HTTP APIs and WebSocket APIs are never private (API Gateway guide, "Private REST APIs in API Gateway").

mod credentials;
mod page;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::default_provider::use_dual_stack::use_dual_stack_provider;
use aws_config::default_provider::use_fips::use_fips_provider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_apigateway::Client;
use aws_sdk_apigateway::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_apigateway::operation::get_rest_apis::{GetRestApisError, GetRestApisOutput};
use aws_sdk_apigateway::types::{EndpointType, RestApi};
use hyper::http::StatusCode;

use self::credentials::{Chain, Unfit};
use self::page::{NoList, Watch};
use super::connector::http_client;
use super::fetch::{FetchError, Fetcher, in_words};
use crate::discovery::list::{Entry, List};
use crate::policy::{Partition, Region};

/// The most a page may have (API reference, `GetRestApis`, `limit`).
const PAGE: i32 = 500;
/// 20,000 APIs. A region has 1,320 unless AWS was asked for more (API Gateway guide, "Quotas").
const MAX_PAGES: usize = 40;
/// Tries of each page, the first included. Once throttled the SDK's adaptive mode waits some 20 s before each retry, so more
/// would not fit. What the account has to share is 10 requests a second for all that it does with API Gateway.
const ATTEMPTS: u32 = 3;
/// All pages, credentials and retries.
const WITHIN: Duration = Duration::from_secs(60);
/// What a throttled fleet should do.
const ONE_FOR_ALL: &str = "use one scheduled `sidegate discover` for the fleet";
/// Octets of a name. AWS says no bound; what is longer is not for people.
const MAX_NAME: usize = 1024;
/// Characters of what API Gateway says that an error repeats.
const MAX_WORDS: usize = 400;

/// Asks API Gateway in one region.
#[derive(Debug)]
pub(in crate::discovery) struct ApiGatewayReader {
    region: Region,
    endpoint_url: Option<String>,
    fetcher: Arc<Fetcher>,
    /// With the credentials that it has, until they expire. Made when first needed: it reads files.
    client: Option<Client>,
    /// Whether it was said that some ids are none.
    complained: bool,
}

impl ApiGatewayReader {
    /// `endpoint_url` takes the place of the region's own, for labs.
    pub(in crate::discovery) fn new(region: Region, endpoint_url: Option<String>, fetcher: Arc<Fetcher>) -> Self {
        Self { region, endpoint_url, fetcher, client: None, complained: false }
    }

    /// Asks for all pages.
    ///
    /// # Errors
    /// In words for an operator.
    pub(in crate::discovery) async fn read(&mut self) -> Result<List, String> {
        let entries = tokio::time::timeout(WITHIN, self.private_apis()).await.unwrap_or_else(|_| {
            Err(format!(
                "no whole list within {} s: see that API Gateway can be reached from here; if the account is throttled, \
                 {ONE_FOR_ALL}",
                WITHIN.as_secs()
            ))
        });
        entries.map(List::new)
    }

    async fn private_apis(&mut self) -> Result<Vec<Entry>, String> {
        let client = self.client().await;
        let (mut entries, mut positions, mut position) = (Vec::new(), HashSet::new(), None);
        // Not the SDK's paginator: it takes a position that comes again for the end.
        for _ in 0..MAX_PAGES {
            let page = client.get_rest_apis().limit(PAGE).set_position(position).send().await;
            let GetRestApisOutput { items, position: next, .. } =
                page.map_err(|error| Refusal { error: &error, region: &self.region }.in_words())?;
            // Page by page: the APIs of all pages with their resource policies would take megabytes.
            let private = items.unwrap_or_default().into_iter().filter(is_private);
            entries.extend(private.filter_map(|api| self.entry(api)));
            let Some(next) = next.filter(|next| !next.is_empty()) else { return Ok(entries) };
            if !positions.insert(next.clone()) {
                return Err("its pages go round in a circle: read it again later".to_owned());
            }
            position = Some(next);
        }
        Err(format!("it has more than {MAX_PAGES} pages of {PAGE} APIs: list the private ids in a file instead"))
    }

    async fn client(&mut self) -> Client {
        if let Some(client) = &self.client {
            return client.clone();
        }
        let version = BehaviorVersion::v2026_01_12();
        let region = aws_config::Region::new(self.region.to_string());
        let http_client = http_client(Arc::clone(&self.fetcher));
        let retries = RetryConfig::adaptive().with_max_attempts(ATTEMPTS);
        let provider = ProviderConfig::without_region()
            .with_behavior_version(Some(version))
            .with_region(Some(region.clone()))
            .with_http_client(http_client.clone())
            .with_retry_config(retries.clone());
        let use_fips = use_fips_provider(&provider).await;
        let use_dual_stack = use_dual_stack_provider(&provider).await;
        let provider = provider.with_use_fips(use_fips).with_use_dual_stack(use_dual_stack);
        let loader = aws_config::defaults(version)
            .region(region)
            .http_client(http_client)
            .retry_config(retries)
            .credentials_provider(Chain::new(&provider, &self.fetcher));
        let sdk = loader.load().await;
        let mut config = aws_sdk_apigateway::config::Builder::from(&sdk).interceptor(Watch::new(self.region.clone()));
        // Credentials still come from where they come from.
        if let Some(endpoint_url) = &self.endpoint_url {
            config = config.endpoint_url(endpoint_url);
        }
        self.client.insert(Client::from_conf(config.build())).clone()
    }

    fn entry(&mut self, api: RestApi) -> Option<Entry> {
        let id = api.id.unwrap_or_default();
        let Ok(id) = id.parse() else {
            if !std::mem::replace(&mut self.complained, true) {
                tracing::warn!(%id, "api-gateway {}: left out, as it is no API id: report it to us", self.region);
            }
            return None;
        };
        let endpoints = api.endpoint_configuration.and_then(|endpoints| endpoints.vpc_endpoint_ids).unwrap_or_default();
        let vpc_endpoint_ids = endpoints.into_iter().filter_map(|endpoint| {
            endpoint.parse().inspect_err(|_| tracing::debug!(%endpoint, "{id}: left out, as it is no endpoint id")).ok()
        });
        Some(Entry {
            vpc_endpoint_ids: vpc_endpoint_ids.collect(),
            region: Some(self.region.clone()),
            name: api.name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME).map(Into::into),
            since: None,
            id,
        })
    }
}

fn is_private(api: &RestApi) -> bool {
    let endpoints = api.endpoint_configuration.as_ref();
    endpoints.is_some_and(|endpoints| endpoints.types().contains(&EndpointType::Private))
}

/// Why there is no page.
struct Refusal<'a> {
    error: &'a SdkError<GetRestApisError>,
    region: &'a Region,
}

impl Refusal<'_> {
    fn in_words(&self) -> String {
        let status = self.error.raw_response().map(|response| response.status().as_u16());
        let code = self.error.code().unwrap_or_default();
        match (status, code) {
            (_, "AccessDeniedException" | "AccessDenied") => format!("{}: {}", self.said(), self.permission()),
            (Some(429), _) | (_, "ThrottlingException" | "Throttling") => {
                format!(
                    "{}: the account is throttled; use one scheduled `sidegate discover` for the fleet",
                    self.said()
                )
            }
            (Some(401 | 403), _) => format!("{}: renew the credentials, and set the clock of this host", self.said()),
            (Some(..=399), _) => {
                // The answer may be anybody's: no word of it.
                let status = status.map(|status| StatusCode::from_u16(status).map(|status| status.to_string()));
                let status = status.and_then(Result::ok).unwrap_or_default();
                format!("{NoList} (answered {status}): correct endpoint_url, or what stands in between")
            }
            (Some(_), _) => format!("{}: see the AWS Health Dashboard, or correct endpoint_url", self.said()),
            (None, _) => self.nothing_said(),
        }
    }

    /// What API Gateway answered.
    fn said(&self) -> String {
        let status = self.error.raw_response().map(|response| response.status().to_string()).unwrap_or_default();
        let words = self.error.code().into_iter().chain(self.error.message());
        let said = words.fold(status, |said, more| format!("{said} {more}"));
        format!("answered {}", said.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect::<String>())
    }

    /// There is no account in the ARN (API Gateway guide, "Amazon Resource Name (ARN) format").
    fn permission(&self) -> String {
        let partition = Partition::of(self.region.as_str()).map_or("aws", |partition| partition.name);
        format!("allow apigateway:GET on arn:{partition}:apigateway:{}::/restapis", self.region)
    }

    /// Either there was nothing to sign with, or nobody to ask.
    fn nothing_said(&self) -> String {
        if let Some(unfit) = beneath::<Unfit>(self.error) {
            return format!("no AWS credentials: {unfit}");
        }
        let fetched = beneath::<FetchError>(self.error).map(ToString::to_string);
        match beneath::<CredentialsError>(self.error) {
            Some(CredentialsError::CredentialsNotLoaded(_)) => {
                "no AWS credentials: give the task, pod or instance a role, or set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY"
                    .to_owned()
            }
            Some(error) => {
                let why = fetched.unwrap_or_else(|| in_words(error));
                format!("no AWS credentials ({why}): correct what AWS_* variables and ~/.aws say of them")
            }
            None => fetched.unwrap_or_else(|| without_dump(&in_words(self.error))),
        }
    }
}

/// The SDK's error over an endpoint that is no URL shows the whole request; its type is none of its public ones.
fn without_dump(words: &str) -> String {
    let endpoint = words.split_once("failed to apply endpoint `").and_then(|(_, rest)| rest.split_once('`'));
    match endpoint {
        Some((endpoint, _)) => {
            format!("{endpoint:?} is no URL to ask: correct AWS_ENDPOINT_URL, or endpoint_url of the AWS profile")
        }
        None => format!("{words}: see that API Gateway can be reached from here"),
    }
}

/// The first error of a type among those that caused this one.
fn beneath<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}
