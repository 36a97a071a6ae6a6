//! What API Gateway itself refuses, told by status, type and body.

use std::sync::Arc;

use sidegate::doctor::Cause;

use super::lab::{
    DOMAIN, FORBIDDEN, Lab, MISSING_TOKEN, Manner, PRIVATE, PUBLIC, System, TARGET, WEB, denies, forbids, says,
    wants_a_key,
};

const LISTED: &str = "private_api_ids = [\"a1b2c3d4e5\"]";

/// A private API, called through the endpoint.
fn private(endpoint: Manner) -> Lab {
    Lab { endpoint, policy: LISTED, ..Lab::default() }
}

/// A public API, called over the internet.
fn public(internet: Manner) -> Lab {
    Lab { internet, system: System::Public, ..Lab::default() }
}

fn url(host: &str) -> String {
    format!("https://{host}/prod/orders")
}

/// Fields and a body without API Gateway's marks.
fn bare(status: u16, fields: &[(&'static str, &str)], body: &str) -> Manner {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let body = body.to_owned();
    Manner::Says(Arc::new(move |_| (status, fields.clone(), body.clone())))
}

#[tokio::test]
async fn policies_are_told_apart_as_far_as_the_text_names_them() {
    for (rest, cause, others) in [
        (" with an explicit deny in a resource-based policy", Cause::ResourcePolicy, 0),
        (" because no VPC endpoint policy allows the execute-api:Invoke action", Cause::EndpointPolicy, 0),
        (" because no identity-based policy allows the execute-api:Invoke action", Cause::IdentityPolicy, 0),
        ("", Cause::ResourcePolicy, 2),
        (" with an explicit deny", Cause::ResourcePolicy, 2),
    ] {
        let verdict = private(denies(rest)).verdict(&url(PRIVATE)).await;
        assert_eq!((verdict.cause, verdict.also.len()), (cause, others), "{rest}");
        assert_eq!(verdict.decides.is_some(), others > 0, "{rest}");
    }
    let (cause, also) = public(denies("")).causes(&url(PUBLIC)).await;
    assert_eq!((cause, also), (Cause::ResourcePolicy, vec![Cause::IdentityPolicy]), "no endpoint, no policy of it");
}

/// It denies before the API is asked whether it is private.
#[tokio::test]
async fn an_endpoint_policy_that_denies_a_public_api_is_not_what_is_wrong() {
    let lab = Lab { endpoint: denies(""), ..Lab::default() };
    let (cause, also) = lab.causes(&url(PUBLIC)).await;
    assert_eq!((cause, also), (Cause::PublicApiThroughEndpoint, vec![Cause::EndpointPolicy]));
}

#[tokio::test]
async fn forbidden_by_an_api_whose_stage_stands_is_its_key() {
    for lab in [private(wants_a_key()), Lab { policy: LISTED, ..private(wants_a_key()) }] {
        let verdict = lab.verdict(&url(PRIVATE)).await;
        assert_eq!((verdict.cause, verdict.also), (Cause::ApiKey, vec![Cause::Waf]));
        assert!(verdict.action.starts_with("Send a key"), "{}", verdict.action);
    }
    assert_eq!(public(wants_a_key()).causes(&url(PUBLIC)).await.0, Cause::ApiKey);
}

#[tokio::test]
async fn forbidden_whatever_the_path_is_the_default_endpoint_or_the_stage() {
    let (cause, also) = public(forbids()).causes(&url(PUBLIC)).await;
    assert_eq!(cause, Cause::DisabledDefaultEndpoint);
    assert_eq!(also, [Cause::MissingStage, Cause::Waf, Cause::ApiKey]);
    let (cause, also) = public(forbids()).causes(&url(DOMAIN)).await;
    assert_eq!(cause, Cause::MissingStage, "a base path: a custom domain has no default endpoint");
    assert!(!also.contains(&Cause::DisabledDefaultEndpoint), "{also:?}");
    assert_eq!(public(forbids()).causes(PUBLIC).await.0, Cause::MissingStage, "no path at all");
    assert_eq!(private(forbids()).causes(&url(PRIVATE)).await.0, Cause::DisabledDefaultEndpoint);
}

#[tokio::test]
async fn a_private_custom_domain_that_the_endpoint_forbids_may_lack_its_association() {
    let policy = "private_names = { \"api.example.com\" = \"vpce-0123456789abcdef0\" }";
    let lab = |endpoint| Lab { vpce_id: "vpce-0123456789abcdef0", policy, endpoint, ..Lab::default() };
    let (cause, also) = lab(forbids()).causes(&url(DOMAIN)).await;
    assert_eq!((cause, also.first()), (Cause::DomainAssociation, Some(&Cause::MissingStage)));
    assert_eq!(lab(wants_a_key()).causes(&url(DOMAIN)).await.0, Cause::ApiKey);
    assert!(lab(super::lab::serves()).verdict(&url(DOMAIN)).await.works());
}

#[tokio::test]
async fn waf_is_known_by_its_header_and_by_cloudfronts_page() {
    let challenge = bare(202, &[("x-amzn-waf-action", "challenge")], "");
    assert_eq!(public(challenge).causes(&url(PUBLIC)).await, (Cause::Waf, vec![]));
    let page = "<h1>403 ERROR</h1><h2>The request could not be satisfied.</h2>";
    let blocked = bare(403, &[("x-cache", "Error from cloudfront")], page);
    assert_eq!(public(blocked).causes(&url(DOMAIN)).await.0, Cause::Waf);
    let of_an_edge_api = bare(
        403,
        &[("x-cache", "Error from cloudfront"), ("x-amzn-errortype", "ForbiddenException"), ("x-amz-apigw-id", "A=")],
        FORBIDDEN,
    );
    assert_ne!(public(of_an_edge_api).causes(&url(DOMAIN)).await.0, Cause::Waf);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_known_for_rest_and_http_apis() {
    let missing = says(403, "MissingAuthenticationTokenException", MISSING_TOKEN);
    assert_eq!(public(missing.clone()).causes(&url(PUBLIC)).await, (Cause::MissingRoute, vec![Cause::MissingStage]));
    assert_eq!(private(missing).causes(&url(PRIVATE)).await.0, Cause::MissingRoute);
    let http_api = bare(404, &[("apigw-requestid", "A=")], r#"{"message":"Not Found"}"#);
    assert_eq!(public(http_api).causes(&url(PUBLIC)).await.0, Cause::MissingRoute);
}

#[tokio::test]
async fn who_is_asked_for_credentials_has_found_the_way() {
    for refusal in [
        says(401, "UnauthorizedException", r#"{"message":"Unauthorized"}"#),
        says(403, "InvalidSignatureException", r#"{"message":"no"}"#),
        bare(403, &[("apigw-requestid", "A=")], FORBIDDEN),
    ] {
        assert_eq!(public(refusal).causes(&url(PUBLIC)).await, (Cause::Credentials, vec![]));
    }
}

#[tokio::test]
async fn errors_that_are_nobodys_refusal_are_the_apis_own() {
    for answer in [says(500, "InternalServerErrorException", "{}"), says(429, "LimitExceededException", "{}")] {
        assert_eq!(public(answer).causes(&url(PUBLIC)).await, (Cause::ApiError, vec![]));
    }
    assert_eq!(public(Manner::Mute).causes(&url(PUBLIC)).await.0, Cause::ApiError);
}

#[tokio::test]
async fn a_name_that_is_no_apis_is_said_to_be_none() {
    let verdict = public(bare(403, &[("server", "nginx")], "no")).verdict(&url(WEB)).await;
    assert_eq!(verdict.cause, Cause::NotApiGateway);
    assert!(public(bare(200, &[], "")).verdict(&url(WEB)).await.works());
}

#[tokio::test]
async fn the_target_of_a_custom_domain_is_not_for_calling() {
    assert_eq!(Lab::default().causes(&url(TARGET)).await.0, Cause::NotCallable);
    assert_eq!(public(forbids()).causes(&url(TARGET)).await.0, Cause::NotCallable);
}
