//! Rankings and combinations that need no server: one call, one thing changed, the cause and its company.
//! `tests/doctor` has every cause against a server that answers so.

use super::*;
use crate::doctor::name::ZoneName;
use crate::doctor::observations::{Call, Policy, PrivateDns, System};

const FORBIDDEN: &str = r#"{"message":"Forbidden"}"#;

fn reply(status: u16, error_type: &str, body: &str) -> Reply {
    Reply {
        status,
        error_type: (!error_type.is_empty()).then(|| error_type.to_owned()),
        request_id: Some(("x-amzn-requestid".to_owned(), "1".to_owned())),
        body: body.to_owned(),
        ..Reply::default()
    }
}

fn forbidden_reply() -> Reply {
    reply(403, "ForbiddenException", FORBIDDEN)
}

fn probe(address: &str, outcome: Outcome) -> Probe {
    Probe { addresses: vec![address.parse().unwrap()], failed: Vec::new(), proxy: None, outcome, control: None }
}

fn at_endpoint(outcome: Outcome) -> Probe {
    probe("10.0.1.10:443", outcome)
}

fn at_internet(outcome: Outcome) -> Probe {
    probe("52.1.2.3:443", outcome)
}

fn found(address: &str) -> Answer {
    Answer::Found { aliases: Vec::new(), addresses: vec![address.parse().unwrap()] }
}

/// A public API that the system's resolver leads to the endpoint, which forbids it; the internet's side serves it.
fn base() -> Observations {
    let host: crate::policy::HostName = "f6g7h8i9j0.execute-api.us-east-1.amazonaws.com".parse().unwrap();
    let policy = Policy {
        way: Way::Public,
        rule: Some((5, "any other name in the zone".to_owned())),
        origin: None,
        endpoint: Some("the endpoint of us-east-1".to_owned()),
    };
    Observations {
        host,
        name: ZoneName::of(&host),
        alias_in_zone: None,
        call: Call { stage: Some("prod".to_owned()), has_api_key: false },
        policy,
        system: System { hosts_file: Vec::new(), servers: vec![("10.0.0.2:53".parse().unwrap(), found("10.0.1.10"))] },
        vpc: found("10.0.1.10"),
        public: found("52.1.2.3"),
        sidegate: Vec::new(),
        apex: Some(("execute-api.us-east-1.amazonaws.com".parse().unwrap(), found("10.0.1.10"))),
        private_dns: PrivateDns::On,
        now: Place::Endpoint,
        with_sidegate: Place::Internet,
        running: None,
        endpoint: at_endpoint(Outcome::Answered(forbidden_reply())),
        internet: at_internet(Outcome::Answered(reply(200, "", ""))),
        elsewhere: None,
    }
}

fn private(seen: &mut Observations) {
    seen.policy.way = Way::Endpoint;
    seen.policy.origin = Some("policy.private_api_ids".to_owned());
    seen.with_sidegate = Place::Endpoint;
    seen.public = Answer::NoSuchName;
    seen.internet = Probe::not_tried("public DNS does not know the name");
}

fn system(seen: &mut Observations, answer: Answer) {
    seen.now = Place::Nowhere;
    seen.system.servers = vec![("10.0.0.2:53".parse().unwrap(), answer)];
}

type Change = fn(&mut Observations);

#[test]
fn each_thing_that_is_seen_has_its_cause_and_its_company() {
    use Cause as C;
    let forbids: Change = |seen| seen.internet = at_internet(Outcome::Answered(forbidden_reply()));
    let table: &[(&str, Change, C, &[C])] = &[
        ("the main case", |_| (), C::PublicApiThroughEndpoint, &[]),
        (
            "both forbid",
            forbids,
            C::PublicApiThroughEndpoint,
            &[C::ApiKey, C::Waf, C::MissingStage, C::DisabledDefaultEndpoint],
        ),
        (
            "the internet is out of reach",
            |seen| seen.internet = at_internet(Outcome::ConnectTimeout),
            C::PublicApiThroughEndpoint,
            &[C::NoRouteOut],
        ),
        (
            "public DNS is silent",
            |seen| {
                seen.public = Answer::Silent("no answer in time".to_owned());
                seen.internet = Probe::not_tried("public DNS gives no answer");
                seen.with_sidegate = Place::Nowhere;
            },
            C::PublicApiThroughEndpoint,
            &[C::PublicDnsUnreachable, C::ApiKey, C::Waf, C::MissingStage, C::DisabledDefaultEndpoint],
        ),
        (
            "a denial on the internet's side proves nothing",
            |seen| seen.internet = at_internet(Outcome::Answered(reply(403, "AccessDeniedException", "{}"))),
            C::PublicApiThroughEndpoint,
            &[C::ApiKey, C::Waf, C::MissingStage, C::DisabledDefaultEndpoint],
        ),
        (
            "a known private API forbids, and nothing else is known",
            private,
            C::ApiKey,
            &[C::Waf, C::MissingStage, C::DisabledDefaultEndpoint],
        ),
        (
            "listed as private, and public DNS knows it",
            |seen| {
                private(seen);
                seen.public = found("52.1.2.3");
                seen.internet = at_internet(Outcome::Answered(forbidden_reply()));
            },
            C::ApiKey,
            &[C::Waf, C::MissingStage, C::DisabledDefaultEndpoint, C::PublicApiThroughEndpoint],
        ),
        (
            "the stage stands at the endpoint",
            |seen| {
                seen.endpoint.control = Some(reply(403, "MissingAuthenticationTokenException", "{}"));
                seen.internet = at_internet(Outcome::Answered(forbidden_reply()));
            },
            C::ApiKey,
            &[C::Waf],
        ),
        (
            "STRICT access mode, and the API is public",
            |seen| seen.endpoint = at_endpoint(Outcome::TlsRefused("alert".to_owned())),
            C::PublicApiThroughEndpoint,
            &[C::StrictAccessMode],
        ),
        (
            "a public API is listed as private, and the endpoint drops SYNs",
            |seen| {
                seen.policy.way = Way::Endpoint;
                seen.endpoint = at_endpoint(Outcome::ConnectTimeout);
            },
            C::SecurityGroup,
            &[],
        ),
        (
            "SERVFAIL with the reason of a missing list",
            |seen| system(seen, Answer::Failed("answered SERVFAIL: no list yet from file /x".to_owned())),
            C::ListMissing,
            &[],
        ),
        ("SERVFAIL", |seen| system(seen, Answer::Failed("answered SERVFAIL".to_owned())), C::DnsFailing, &[]),
        (
            "no server",
            |seen| {
                system(seen, Answer::NoAddress);
                seen.system.servers.clear();
            },
            C::DnsFailing,
            &[],
        ),
        (
            "a private name that Sidegate has no endpoint for",
            |seen| {
                private(seen);
                seen.endpoint = Probe::not_tried("no endpoint is known");
                system(seen, Answer::Failed("answered SERVFAIL".to_owned()));
            },
            C::NoEndpoint,
            &[],
        ),
        (
            "the same, because the VPC's resolver is silent",
            |seen| {
                private(seen);
                seen.endpoint = Probe::not_tried("no endpoint is known");
                seen.vpc = Answer::Silent("no answer in time".to_owned());
                system(seen, Answer::NoSuchName);
            },
            C::DnsFailing,
            &[],
        ),
        (
            "an address that nobody can say whose it is",
            |seen| {
                seen.now = Place::Elsewhere;
                seen.elsewhere = Some(probe("10.9.9.9:443", Outcome::ConnectTimeout));
                seen.vpc = Answer::Silent("no answer in time".to_owned());
            },
            C::DnsFailing,
            &[C::SecurityGroup],
        ),
        (
            "an address that is neither, which forbids",
            |seen| {
                seen.now = Place::Elsewhere;
                seen.elsewhere = Some(probe("10.9.9.9:443", Outcome::Answered(forbidden_reply())));
            },
            C::PublicApiThroughEndpoint,
            &[],
        ),
        (
            "an address that is neither, which is not there",
            |seen| {
                seen.now = Place::Elsewhere;
                seen.elsewhere = Some(probe("10.9.9.9:443", Outcome::ConnectTimeout));
            },
            C::EndpointUnreachable,
            &[],
        ),
        (
            "a private API by way of a resolver that leads outward, with no way out",
            |seen| {
                private(seen);
                seen.now = Place::Internet;
                seen.internet = at_internet(Outcome::ConnectTimeout);
            },
            C::PrivateApiFromInternet,
            &[C::NoRouteOut],
        ),
    ];
    for (what, change, cause, also) in table {
        let mut seen = base();
        change(&mut seen);
        let verdict = diagnose(&seen);
        assert_eq!((verdict.cause, verdict.also.as_slice()), (*cause, *also), "{what}: {verdict:?}");
        assert!(!verdict.because.is_empty() && verdict.action.ends_with('.'), "{what}: {verdict:?}");
        assert!(verdict.decides.is_some() || verdict.also.len() < 2, "{what}: {verdict:?}");
    }
}

#[test]
fn every_cause_has_one_action_in_whatever_state_things_are() {
    let changes: [Change; 4] = [
        |_| (),
        private,
        |seen| system(seen, Answer::NoSuchName),
        |seen| seen.policy.way = Way::NotReady("no list yet from file /x".to_owned()),
    ];
    for change in changes {
        let mut seen = base();
        change(&mut seen);
        for cause in Cause::ALL {
            let action = advice(*cause, &seen);
            assert!(action.ends_with('.') && action.len() < 330, "{cause:?}: {action}");
        }
    }
}
