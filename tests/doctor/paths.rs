//! Which path is taken, and which would be right: the reason there is a doctor.

use sidegate::app::{App, SystemResolver};
use sidegate::doctor::{Cause, Place, PrivateDns, Request};

use super::lab::{
    DOMAIN, INTERNET, Lab, Manner, PRIVATE, PUBLIC, System, forbids, nobody, nowhere, says, serves, wants_a_key,
};

const LISTED: &str = "private_api_ids = [\"a1b2c3d4e5\"]";

fn url(host: &str) -> String {
    format!("https://{host}/prod/orders")
}

#[tokio::test]
async fn a_public_api_is_called_through_the_endpoint_until_sidegate_is_asked() {
    let mut lab = Lab::default().start().await;
    let seen = lab.examine(&Request::of_url(&url(PUBLIC)).unwrap()).await;
    assert_eq!((seen.private_dns, seen.now, seen.with_sidegate), (PrivateDns::On, Place::Endpoint, Place::Internet));
    let verdict = sidegate::doctor::diagnose(&seen);
    assert_eq!((verdict.cause, verdict.also), (Cause::PublicApiThroughEndpoint, vec![]));
    assert!(verdict.action.starts_with("Run Sidegate beside the program"), "{}", verdict.action);

    let app = App::start(lab.config.clone(), nowhere()).await.unwrap();
    app.is_ready().await;
    lab.config.dns.listen = app.dns_addresses();
    assert!(lab.verdict(&url(PUBLIC)).await.action.contains("ask the running Sidegate"));
    lab.system = SystemResolver { servers: app.dns_addresses(), hosts: String::new() };
    let seen = lab.examine(&Request::of_url(&url(PUBLIC)).unwrap()).await;
    assert_eq!((seen.now, seen.running), (Place::Internet, Some(Place::Internet)));
    let verdict = sidegate::doctor::diagnose(&seen);
    assert!(verdict.works() && verdict.action == "Nothing.", "{verdict:?}");
}

#[tokio::test]
async fn a_public_api_that_is_listed_as_private_is_to_be_taken_off_the_list() {
    let policy = "private_api_ids = [\"f6g7h8i9j0\"]";
    let verdict = Lab { policy, ..Lab::default() }.verdict(&url(PUBLIC)).await;
    assert_eq!(verdict.cause, Cause::PublicApiThroughEndpoint);
    assert_eq!(verdict.action, "Take the id out of policy.private_api_ids: the API is public.");
}

#[tokio::test]
async fn where_both_sides_say_forbidden_the_endpoint_comes_first_and_the_api_itself_is_named_too() {
    let (cause, also) = Lab { internet: forbids(), ..Lab::default() }.causes(&url(PUBLIC)).await;
    assert_eq!(cause, Cause::PublicApiThroughEndpoint);
    assert!(also.contains(&Cause::ApiKey) && also.contains(&Cause::DisabledDefaultEndpoint), "{also:?}");
    // The stage stands on the internet's side: that is where the API is.
    let lab = Lab { internet: wants_a_key(), ..Lab::default() };
    assert_eq!(lab.causes(&url(PUBLIC)).await, (Cause::PublicApiThroughEndpoint, vec![]));
}

#[tokio::test]
async fn without_a_way_out_a_public_api_needs_that_first() {
    let verdict = Lab { internet: Manner::Refuses, ..Lab::default() }.verdict(&url(PUBLIC)).await;
    assert_eq!((verdict.cause, verdict.also), (Cause::PublicApiThroughEndpoint, vec![Cause::NoRouteOut]));
    assert!(verdict.action.starts_with("Give these subnets a way out"), "{}", verdict.action);
}

#[tokio::test]
async fn a_custom_domain_is_captured_by_its_cname_whatever_the_endpoint_makes_of_it() {
    for endpoint in [forbids(), Manner::OtherCertificate, Manner::Alert] {
        let (cause, _) = Lab { endpoint, ..Lab::default() }.causes(&url(DOMAIN)).await;
        assert_eq!(cause, Cause::CustomDomainCaptured);
    }
    // In BASIC access mode an endpoint may serve it.
    assert!(Lab { endpoint: serves(), ..Lab::default() }.verdict(&url(DOMAIN)).await.works());
    assert!(Lab { system: System::Public, ..Lab::default() }.verdict(&url(DOMAIN)).await.works());
}

#[tokio::test]
async fn a_private_api_works_through_the_endpoint_and_not_from_the_internets_side() {
    let lab = |system| Lab { endpoint: serves(), system, ..Lab::default() };
    let verdict = lab(System::Vpc).verdict(&url(PRIVATE)).await;
    assert!(verdict.works() && verdict.action.contains("add a1b2c3d4e5 to policy.private_api_ids"), "{verdict:?}");
    assert_eq!(lab(System::Public).verdict(&url(PRIVATE)).await.cause, Cause::PrivateIdUnknown);
    let listed = Lab { policy: LISTED, ..lab(System::Public) };
    let verdict = listed.verdict(&url(PRIVATE)).await;
    assert_eq!(verdict.cause, Cause::PrivateApiFromInternet);
    assert!(verdict.action.contains("resolv-conf install"), "{}", verdict.action);
    // Learned, as with no configuration at all.
    let learned = Lab { policy: "", ..lab(System::Public) };
    assert_eq!(learned.verdict(&url(PRIVATE)).await.cause, Cause::PrivateApiFromInternet);
}

#[tokio::test]
async fn outside_a_vpc_a_private_api_does_not_exist_and_neither_does_a_mistyped_one() {
    let lab = Lab { private_dns: false, system: System::Public, ..Lab::default() };
    let (cause, also) = lab.causes(&url(PRIVATE)).await;
    assert_eq!((cause, also), (Cause::PrivateApiFromInternet, vec![Cause::NoSuchApi]));
    let listed = Lab { private_dns: false, system: System::Public, policy: LISTED, ..Lab::default() };
    assert_eq!(listed.causes(&url(PRIVATE)).await.0, Cause::NoEndpoint);
}

/// Some say that it has a public address and answers 403 there.
#[tokio::test]
async fn a_private_api_that_answers_403_on_the_internet_is_told_by_the_endpoint_that_serves_it() {
    let lab = Lab { endpoint: serves(), internet: forbids(), system: System::Hosts(INTERNET.into()), ..Lab::default() };
    assert_eq!(lab.causes(&url(PRIVATE)).await.0, Cause::PrivateApiFromInternet);
    let missing = says(403, "MissingAuthenticationTokenException", super::lab::MISSING_TOKEN);
    let lab = Lab { endpoint: missing, internet: forbids(), system: System::Hosts(INTERNET.into()), ..Lab::default() };
    assert_eq!(lab.causes(&url(PRIVATE)).await.0, Cause::PrivateApiFromInternet);
}

#[tokio::test]
async fn an_id_that_neither_side_knows_may_be_mistyped_or_a_private_api_that_refuses() {
    let (cause, also) = Lab::default().causes(&url(PRIVATE)).await;
    assert_eq!(cause, Cause::NoSuchApi);
    assert!(also.contains(&Cause::ApiKey) && also.contains(&Cause::Waf), "{also:?}");
}

#[tokio::test]
async fn a_public_resolver_that_is_the_vpcs_own_is_found_out() {
    let lab = Lab { public_is_vpc: true, ..Lab::default() };
    assert_eq!(lab.causes(&url(PUBLIC)).await.0, Cause::PublicDnsCaptured);
}

#[tokio::test]
async fn public_dns_that_cannot_be_asked_is_named_where_sidegate_fails_for_it() {
    let mut lab = Lab { public: Some(nobody()), ..Lab::default() }.start().await;
    let (cause, also) = {
        let verdict = lab.verdict(&url(PUBLIC)).await;
        (verdict.cause, verdict.also)
    };
    assert_eq!((cause, also.first()), (Cause::PublicApiThroughEndpoint, Some(&Cause::PublicDnsUnreachable)));
    let app = App::start(lab.config.clone(), nowhere()).await.unwrap();
    app.is_ready().await;
    lab.config.dns.listen = app.dns_addresses();
    lab.system = SystemResolver { servers: app.dns_addresses(), hosts: String::new() };
    let verdict = lab.verdict(&url(PUBLIC)).await;
    assert_eq!(verdict.cause, Cause::PublicDnsUnreachable, "{verdict:?}");
}
