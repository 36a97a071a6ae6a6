//! `403 ForbiddenException {"message":"Forbidden"}`: one answer for five causes, ranked by what else was seen.
//!
//! The same bytes mean an API that the endpoint does not serve, a missing or wrong API key, a block by WAF, a stage that is
//! not there, and a default endpoint that is disabled (Knowledge Center, api-gateway-troubleshoot-403-forbidden). For
//! `verdict`.

use super::cause::Cause;
use super::observations::{Answer, Observations, Outcome, Place, Probe, Way};
use super::reply::Says;

/// What settles whether an endpoint can serve an API at all.
const WHERE_IT_IS_AT_HOME: &str =
    "GetRestApi, or the console, shows whether the API is PRIVATE; only then is the refusal its own";

/// A cause, and the others that fit as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspects {
    pub(super) cause: Cause,
    pub(super) also: Vec<Cause>,
    pub(super) because: String,
    pub(super) decides: Option<&'static str>,
}

impl Suspects {
    pub(super) fn of(cause: Cause, because: impl Into<String>) -> Self {
        Self { cause, also: Vec::new(), because: because.into(), decides: None }
    }

    /// These fit as well.
    pub(super) fn or(self, also: &[Cause]) -> Self {
        Self { also: [self.also, also.to_vec()].concat(), ..self }
    }

    /// By this they are told apart.
    pub(super) fn decided_by(self, decides: &'static str) -> Self {
        Self { decides: Some(decides), ..self }
    }
}

/// The API itself refuses: it is called where it is at home.
pub(super) fn forbidden_by_api(seen: &Observations, probe: &Probe, because: &str) -> Suspects {
    let default_name = seen.name.is_some();
    let disabled: &[Cause] = if default_name { &[Cause::DisabledDefaultEndpoint] } else { &[] };
    let of = |cause, rest: &str| Suspects::of(cause, format!("{because}{rest}"));
    let stage_stands = probe.control.as_ref().is_some_and(|control| control.says() != Says::Forbidden);
    if !default_name && seen.policy.way == Way::Endpoint && seen.now == Place::Endpoint && !stage_stands {
        // Developer guide, apigateway-private-custom-domains-associations.
        return of(
            Cause::DomainAssociation,
            "; a private custom domain serves the endpoints that it is associated with",
        )
        .or(&[Cause::MissingStage, Cause::Waf, Cause::ApiKey])
        .decided_by("get-domain-name-access-associations lists the endpoints; get-base-path-mappings the paths");
    }
    if seen.call.stage.is_none() {
        return of(Cause::MissingStage, "; the URL has no stage, which the default name of a REST API needs")
            .or(disabled)
            .or(&[Cause::ApiKey, Cause::Waf])
            .decided_by("call it again with the stage in the path");
    }
    match probe.control.as_ref().map(|control| control.says()) {
        Some(Says::Forbidden) => {
            let rest = "; so it answers for a path that no API has, so that it is not this path alone";
            let both = |first, second| of(first, rest).or(&[second, Cause::Waf, Cause::ApiKey]);
            let ranked = if default_name {
                both(Cause::DisabledDefaultEndpoint, Cause::MissingStage)
            } else {
                of(Cause::MissingStage, rest).or(&[Cause::Waf, Cause::ApiKey])
            };
            ranked.decided_by(
                "get-rest-api shows disableExecuteApiEndpoint, get-stages the stages; the web ACL's sampled requests \
                 show what WAF blocks; a key matters here only if a {proxy+} resource asks for one",
            )
        }
        Some(_) => {
            let has =
                if seen.call.has_api_key { "; the stage stands" } else { "; the stage stands, no x-api-key was sent" };
            of(Cause::ApiKey, has).or(&[Cause::Waf]).decided_by(
                "the web ACL's sampled requests show the call if WAF blocked it; without an ACL it is the key",
            )
        }
        None => of(Cause::ApiKey, "").or(&[Cause::Waf, Cause::MissingStage]).or(disabled).decided_by(
            "call a path that the stage does not have: 'Missing Authentication Token' means that the stage stands",
        ),
    }
}

/// The endpoint, or an address that is neither, refuses, and nothing shows where the API is at home.
pub(super) fn forbidden_anywhere(seen: &Observations, probe: &Probe, because: &str) -> Suspects {
    let by_api = forbidden_by_api(seen, probe, because);
    let known_private = seen.policy.way == Way::Endpoint && seen.policy.origin.is_some();
    match (&seen.public, &seen.internet.outcome) {
        // Nobody but an endpoint can serve it.
        (Answer::NoSuchName, _) if known_private => by_api,
        (Answer::NoSuchName, _) => {
            let others = [vec![by_api.cause], by_api.also].concat();
            Suspects::of(Cause::NoSuchApi, format!("{because}, and public DNS does not know the name"))
                .or(&others)
                .decided_by(
                    "GetRestApi, or the console, shows whether the id exists and is PRIVATE; if it is, the API refuses",
                )
        }
        _ if known_private => by_api.or(&[Cause::PublicApiThroughEndpoint]),
        (_, Outcome::Answered(reply)) if reply.says() == Says::Forbidden => {
            let others = [vec![by_api.cause], by_api.also].concat();
            let both = format!("{because}, and so does the internet's side");
            Suspects::of(Cause::PublicApiThroughEndpoint, both)
                .or(&others)
                .decided_by("have it resolved publicly first; what is left then is the API's own refusal")
        }
        (_, Outcome::ConnectTimeout | Outcome::Unreachable(_) | Outcome::ProxyRefused(_)) => {
            let out = format!("{because}, and the internet's side cannot be reached from here");
            Suspects::of(Cause::PublicApiThroughEndpoint, out).or(&[Cause::NoRouteOut])
        }
        (Answer::Silent(_) | Answer::Failed(_), _) => {
            let silent = format!("{because}, and public DNS could not be asked");
            let others = [vec![Cause::PublicDnsUnreachable, by_api.cause], by_api.also].concat();
            Suspects::of(Cause::PublicApiThroughEndpoint, silent).or(&others).decided_by(WHERE_IT_IS_AT_HOME)
        }
        _ => {
            let others = [vec![by_api.cause], by_api.also].concat();
            Suspects::of(Cause::PublicApiThroughEndpoint, because).or(&others).decided_by(WHERE_IT_IS_AT_HOME)
        }
    }
}
