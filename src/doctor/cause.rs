//! Every cause that there is a name for: its key in JSON, its title, what it means. DOCTOR.md has the same table.

/// Why a call does not work, or that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    Works,
    PublicApiThroughEndpoint,
    CustomDomainCaptured,
    PrivateApiFromInternet,
    PrivateIdUnknown,
    NoSuchApi,
    ResourcePolicy,
    EndpointPolicy,
    IdentityPolicy,
    Credentials,
    ApiKey,
    Waf,
    MissingStage,
    DomainAssociation,
    MissingRoute,
    DisabledDefaultEndpoint,
    NotCallable,
    StrictAccessMode,
    TlsRefused,
    ClientCertificate,
    Certificate,
    SecurityGroup,
    EndpointUnreachable,
    NoEndpoint,
    NoRouteOut,
    PublicDnsUnreachable,
    PublicDnsCaptured,
    DnsFailing,
    ListMissing,
    NotApiGateway,
    ApiError,
    NotProbed,
}

impl Cause {
    /// Every cause, in the order of DOCTOR.md.
    pub const ALL: &[Cause] = &[
        Cause::Works,
        Cause::PublicApiThroughEndpoint,
        Cause::CustomDomainCaptured,
        Cause::PrivateApiFromInternet,
        Cause::PrivateIdUnknown,
        Cause::NoSuchApi,
        Cause::ResourcePolicy,
        Cause::EndpointPolicy,
        Cause::IdentityPolicy,
        Cause::Credentials,
        Cause::ApiKey,
        Cause::Waf,
        Cause::MissingStage,
        Cause::DomainAssociation,
        Cause::MissingRoute,
        Cause::DisabledDefaultEndpoint,
        Cause::NotCallable,
        Cause::StrictAccessMode,
        Cause::TlsRefused,
        Cause::ClientCertificate,
        Cause::Certificate,
        Cause::SecurityGroup,
        Cause::EndpointUnreachable,
        Cause::NoEndpoint,
        Cause::NoRouteOut,
        Cause::PublicDnsUnreachable,
        Cause::PublicDnsCaptured,
        Cause::DnsFailing,
        Cause::ListMissing,
        Cause::NotApiGateway,
        Cause::ApiError,
        Cause::NotProbed,
    ];

    /// Its name in JSON: never changes.
    pub fn key(self) -> &'static str {
        match self {
            Cause::Works => "works",
            Cause::PublicApiThroughEndpoint => "public-api-through-endpoint",
            Cause::CustomDomainCaptured => "custom-domain-captured",
            Cause::PrivateApiFromInternet => "private-api-from-internet",
            Cause::PrivateIdUnknown => "private-id-unknown",
            Cause::NoSuchApi => "no-such-api",
            Cause::ResourcePolicy => "resource-policy",
            Cause::EndpointPolicy => "endpoint-policy",
            Cause::IdentityPolicy => "identity-policy",
            Cause::Credentials => "credentials",
            Cause::ApiKey => "api-key",
            Cause::Waf => "waf",
            Cause::MissingStage => "missing-stage",
            Cause::DomainAssociation => "domain-association",
            Cause::MissingRoute => "missing-route",
            Cause::DisabledDefaultEndpoint => "disabled-default-endpoint",
            Cause::NotCallable => "not-callable",
            Cause::StrictAccessMode => "strict-access-mode",
            Cause::TlsRefused => "tls-refused",
            Cause::ClientCertificate => "client-certificate",
            Cause::Certificate => "certificate",
            Cause::SecurityGroup => "security-group",
            Cause::EndpointUnreachable => "endpoint-unreachable",
            Cause::NoEndpoint => "no-endpoint",
            Cause::NoRouteOut => "no-route-out",
            Cause::PublicDnsUnreachable => "public-dns-unreachable",
            Cause::PublicDnsCaptured => "public-dns-captured",
            Cause::DnsFailing => "dns-failing",
            Cause::ListMissing => "list-missing",
            Cause::NotApiGateway => "not-api-gateway",
            Cause::ApiError => "api-error",
            Cause::NotProbed => "not-probed",
        }
    }

    /// In words, as a headline.
    pub fn title(self) -> &'static str {
        match self {
            Cause::Works => "it works",
            Cause::PublicApiThroughEndpoint => "a public API, called through the VPC endpoint",
            Cause::CustomDomainCaptured => "a public custom domain, led to the VPC endpoint by its CNAME",
            Cause::PrivateApiFromInternet => "a private API, called from the internet's side",
            Cause::PrivateIdUnknown => "a private API that Sidegate does not know",
            Cause::NoSuchApi => "no such API",
            Cause::ResourcePolicy => "the API's resource policy",
            Cause::EndpointPolicy => "the policy of the VPC endpoint",
            Cause::IdentityPolicy => "the IAM policies of whoever signs the call",
            Cause::Credentials => "credentials, or an authorizer that says no",
            Cause::ApiKey => "an API key, missing or not valid here",
            Cause::Waf => "AWS WAF",
            Cause::MissingStage => "no such stage or base path",
            Cause::DomainAssociation => "a private custom domain that is not associated with this endpoint",
            Cause::MissingRoute => "no such path or method, or one that wants a signature",
            Cause::DisabledDefaultEndpoint => "the API's default endpoint is disabled",
            Cause::NotCallable => "a name that is not for calling",
            Cause::StrictAccessMode => "TLS refused by the endpoint: STRICT access mode or a TLS policy",
            Cause::TlsRefused => "TLS refused",
            Cause::ClientCertificate => "a client certificate is wanted (mutual TLS)",
            Cause::Certificate => "a certificate that is not to be believed",
            Cause::SecurityGroup => "the endpoint does not answer: its security group, most likely",
            Cause::EndpointUnreachable => "the endpoint's addresses take no connection",
            Cause::NoEndpoint => "no endpoint is known",
            Cause::NoRouteOut => "no way out to the internet",
            Cause::PublicDnsUnreachable => "public DNS cannot be asked",
            Cause::PublicDnsCaptured => "upstream.public is a resolver of the VPC",
            Cause::DnsFailing => "a resolver fails",
            Cause::ListMissing => "Sidegate has no list of private APIs yet",
            Cause::NotApiGateway => "not an API Gateway name",
            Cause::ApiError => "the API's own answer",
            Cause::NotProbed => "not called, so not known",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cause_has_a_key_of_its_own_and_stands_in_the_document() {
        let keys: HashSet<_> = Cause::ALL.iter().map(|cause| cause.key()).collect();
        assert_eq!(keys.len(), Cause::ALL.len());
        let document = include_str!("../../DOCTOR.md");
        for cause in Cause::ALL {
            assert!(document.contains(&format!("| `{}` |", cause.key())), "{} is not in DOCTOR.md", cause.key());
        }
    }
}
