//! The keys that requests to API Gateway are signed with: the AWS SDK's providers in the order of its own chain
//! (environment, profile, web identity, container, instance), and what it leaves out of theirs.
//!
//! The chain is put together here because the SDK's own lets the system's resolver look up the container's host, and
//! panics over a key that no header can carry.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};

use super::beneath;
use crate::discovery::source::fetch::Fetcher;

/// Where EKS puts the path of a service account's token.
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const PROFILE: &str = "AWS_PROFILE";

/// Why there are no credentials, where it is known better than by the SDK; in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unfit(String);

/// What gives credentials, one source after the other.
#[derive(Debug)]
pub(super) struct Chain(CredentialsProviderChain);

impl Chain {
    /// `config` has the region and the client for what is asked over the network; `fetcher` looks names up.
    pub(super) fn new(config: &ProviderConfig, fetcher: &Arc<Fetcher>) -> Self {
        let container = || {
            let dns = OurLookUp(Arc::clone(fetcher));
            EcsCredentialsProvider::builder().configure(config).dns(dns).build()
        };
        let environment = || Checked(EnvironmentVariableCredentialsProvider::new());
        // The two are what `credential_source` of a profile may name.
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(config)
            .with_custom_provider("Environment", environment())
            .with_custom_provider("EcsContainer", container())
            .build();
        let chain = CredentialsProviderChain::first_try("Environment", environment())
            .or_else("Profile", profile)
            .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(config).build())
            .or_else("EcsContainer", container())
            .or_else("Ec2InstanceMetadata", ImdsCredentialsProvider::builder().configure(config).build());
        Self(chain)
    }

    async fn credentials(&self) -> Result {
        self.0.provide_credentials().await.and_then(checked).map_err(known_better)
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.0.fallback_on_interrupt()
    }
}

/// A provider whose credentials can be sent.
#[derive(Debug)]
struct Checked<P>(P);

impl<P: ProvideCredentials> ProvideCredentials for Checked<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.0.provide_credentials().await.and_then(checked) })
    }
}

/// Key and token become headers, which the SDK takes for granted that they can. The secret key does not, but a line break
/// at its end, as `echo` leaves it, is as wrong: the signature would be another one.
fn checked(credentials: Credentials) -> Result {
    let is_visible = |text: &str| text.bytes().all(|octet| octet.is_ascii_graphic());
    let parts = [
        ("AWS_ACCESS_KEY_ID", "access key id", Some(credentials.access_key_id())),
        ("AWS_SECRET_ACCESS_KEY", "secret access key", Some(credentials.secret_access_key())),
        ("AWS_SESSION_TOKEN", "session token", credentials.session_token()),
    ];
    let unfit = parts.into_iter().find(|(.., text)| !text.is_none_or(is_visible));
    let Some((variable, part)) = unfit.map(|(variable, part, _)| (variable, part)) else { return Ok(credentials) };
    Err(CredentialsError::invalid_configuration(Unfit(format!(
        "the {part} holds what cannot be sent: remove the line break or space from {variable}, or from where else it is"
    ))))
}

/// Names the variable that leads nowhere, which the SDK does not.
fn known_better(error: CredentialsError) -> CredentialsError {
    if let (true, Some(path)) = (beneath::<io::Error>(&error).is_some(), env::var_os(TOKEN_FILE).map(PathBuf::from))
        && let Err(why) = std::fs::metadata(&path)
    {
        return CredentialsError::invalid_configuration(Unfit(format!(
            "{TOKEN_FILE} names {}, which cannot be read ({why}): mount the service account's token there",
            path.display()
        )));
    }
    match (&error, env::var(PROFILE)) {
        (CredentialsError::CredentialsNotLoaded(_), Ok(profile)) if !profile.is_empty() => {
            CredentialsError::invalid_configuration(Unfit(format!(
                "{PROFILE} is {profile:?}, and no profile of that name gives any: add it to ~/.aws/config, or correct \
                 {PROFILE}"
            )))
        }
        _ => error,
    }
}

/// The container's host is checked where it is dialled: an `http://` one must be this host or the container agent.
#[derive(Debug)]
struct OurLookUp(Arc<Fetcher>);

impl ResolveDns for OurLookUp {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            self.0.addresses(name).await.map_err(|why| {
                // The SDK's own error keeps nothing of it.
                tracing::debug!("AWS_CONTAINER_CREDENTIALS_FULL_URI: {why}");
                ResolveDnsError::new(why)
            })
        })
    }
}
