//! From what was seen to a verdict: one cause, what else would look the same, what decides between them, what to do.
//!
//! Pure: a table in the form of a function. Where API Gateway gives several causes one answer, all of them are named, the
//! likeliest first; nothing is claimed that was not seen.

use super::advice::advice;
use super::cause::Cause;
use super::forbidden::{Suspects, forbidden_anywhere, forbidden_by_api};
use super::name::Form;
use super::observations::{Answer, Observations, Outcome, Place, Probe, Way};
use super::reply::{Reply, Says};

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub cause: Cause,
    /// What would look the same, likeliest first.
    pub also: Vec<Cause>,
    /// What was seen that says so.
    pub because: String,
    /// How to tell the cause from the others.
    pub decides: Option<String>,
    /// The one thing to do.
    pub action: String,
}

impl Verdict {
    /// Whether the call works as things are.
    pub fn works(&self) -> bool {
        self.cause == Cause::Works
    }
}

/// Judges.
pub fn diagnose(seen: &Observations) -> Verdict {
    let Suspects { cause, also, because, decides } = suspects(seen);
    let action = advice(cause, seen);
    let also = also.into_iter().filter(|other| *other != cause).collect();
    Verdict { cause, also, because, decides: decides.map(str::to_owned), action }
}

fn suspects(seen: &Observations) -> Suspects {
    let Some(probe) = seen.at(seen.now) else { return nowhere(seen) };
    match &probe.outcome {
        Outcome::Answered(reply) => answered(seen, probe, reply),
        Outcome::NotTried(why) => not_tried(seen, why),
        Outcome::Certificate(why) => certificate(seen, why),
        Outcome::WantsClientCertificate(why) => {
            Suspects::of(Cause::ClientCertificate, format!("the server asks for a client certificate: {why}"))
        }
        Outcome::NoAnswer(why) => Suspects::of(
            Cause::ApiError,
            format!("TLS stands and {why}: what refuses a call answers at once, so it is the API itself"),
        ),
        failed => no_connection(seen, failed),
    }
}

/// The system's resolver gives no address.
fn nowhere(seen: &Observations) -> Suspects {
    let system = seen.system.answer();
    if let Way::NotReady(why) = &seen.policy.way {
        return Suspects::of(Cause::ListMissing, why.clone());
    }
    if let Answer::Failed(why) | Answer::Silent(why) = &system {
        if why.contains("no list yet") {
            return Suspects::of(Cause::ListMissing, why.clone());
        }
        let out_of_reach = matches!(seen.public, Answer::Silent(_)) && seen.policy.way == Way::Public;
        if out_of_reach && (why.contains("public upstream") || seen.running.is_some()) {
            return public_dns_unreachable(seen);
        }
        let because = format!("the system's resolver says: {why}");
        return match &seen.vpc {
            Answer::Silent(_) => Suspects::of(Cause::DnsFailing, because),
            _ if lacks_endpoint(seen) => Suspects::of(Cause::NoEndpoint, because),
            _ => Suspects::of(Cause::DnsFailing, because),
        };
    }
    let gone = match system {
        Answer::NoAddress => "the name has no address for the system's resolver",
        _ => "the name does not exist for the system's resolver",
    };
    let because = |rest: &str| format!("{gone}; {rest}");
    if knows(&seen.endpoint) {
        let (cause, rest) = match seen.policy.way {
            Way::Endpoint => (Cause::PrivateApiFromInternet, "the endpoint serves it, and the policy sends it there"),
            _ => (Cause::PrivateIdUnknown, "the endpoint serves it, and no list of private ids has it"),
        };
        return Suspects::of(cause, because(rest));
    }
    if seen.policy.way == Way::Endpoint && seen.policy.origin.is_some() {
        if let (true, Answer::Silent(why)) = (lacks_endpoint(seen), &seen.vpc) {
            return Suspects::of(Cause::DnsFailing, because(&format!("the VPC's resolver does not answer: {why}")));
        }
        if lacks_endpoint(seen) {
            return Suspects::of(Cause::NoEndpoint, because("it is known to be private, and no endpoint is known"));
        }
        return Suspects::of(Cause::PrivateApiFromInternet, because("it is known to be private"));
    }
    match seen.name.map(|name| name.form) {
        Some(Form::Api) => Suspects::of(Cause::PrivateApiFromInternet, because("public DNS knows no private API"))
            .or(&[Cause::NoSuchApi])
            .decided_by(
                "GetRestApi, or the console, shows whether the id exists and is PRIVATE; a new public name may take \
                 minutes to appear",
            ),
        Some(_) => Suspects::of(Cause::NoSuchApi, because("a name of its form is public if it exists")),
        None => Suspects::of(Cause::NotApiGateway, because("it is no name of API Gateway's either")),
    }
}

/// A private name without an address to lead it to.
fn lacks_endpoint(seen: &Observations) -> bool {
    seen.policy.way == Way::Endpoint && seen.endpoint.addresses.is_empty()
}

fn public_dns_unreachable(seen: &Observations) -> Suspects {
    let why = match &seen.public {
        Answer::Silent(why) | Answer::Failed(why) => why.as_str(),
        _ => "no answer",
    };
    Suspects::of(
        Cause::PublicDnsUnreachable,
        format!("the policy sends the name to public DNS, which is silent: {why}"),
    )
}

/// The place was left alone: headers, a method, or nowhere to go.
fn not_tried(seen: &Observations, why: &str) -> Suspects {
    let (now, meant) = (seen.now.who(), seen.with_sidegate.who());
    let leads = format!("the system's resolver leads to {now}, the policy to {meant}");
    match (seen.now, seen.with_sidegate) {
        (Place::Endpoint, Place::Internet) if seen.alias_in_zone.is_some() => {
            Suspects::of(Cause::CustomDomainCaptured, leads)
        }
        (Place::Endpoint, Place::Internet) => Suspects::of(Cause::PublicApiThroughEndpoint, leads),
        (Place::Internet, Place::Endpoint) => Suspects::of(Cause::PrivateApiFromInternet, leads),
        _ => Suspects::of(Cause::NotProbed, format!("{} was not called: {why}", seen.now.who())),
    }
}

fn certificate(seen: &Observations, why: &str) -> Suspects {
    let because = format!("the certificate of {} is not accepted: {why}", seen.now.who());
    if is_captured(seen) {
        return Suspects::of(Cause::CustomDomainCaptured, because);
    }
    Suspects::of(Cause::Certificate, because)
}

/// A custom domain whose alias the VPC's resolver leads to the endpoint.
fn is_captured(seen: &Observations) -> bool {
    seen.now == Place::Endpoint && seen.alias_in_zone.is_some() && seen.policy.way != Way::Endpoint
}

/// Public DNS, asked by the policy's own servers, gives the endpoint's addresses: it is no public DNS.
fn public_dns_is_captured(seen: &Observations) -> bool {
    seen.policy.way == Way::Public && seen.with_sidegate == Place::Endpoint
}

/// What the internet's side has shown to be a public API. A denial is no proof: private ones may deny there too.
fn is_public(seen: &Observations) -> bool {
    knows(&seen.internet) && seen.policy.origin.as_deref() != Some("policy.private_names")
}

/// Whether a place has shown that it knows the API: it answered what only the API, or its stage, can.
pub(super) fn knows(probe: &Probe) -> bool {
    let of_the_api = |says| !matches!(says, Says::Forbidden | Says::SomePolicyDenies | Says::EndpointPolicyDenies);
    let reply = probe.outcome.reply().filter(|reply| reply.is_of_api_gateway() || reply.says() == Says::Works);
    reply.is_some_and(|reply| of_the_api(reply.says()))
        || probe.control.as_ref().is_some_and(|control| of_the_api(control.says()))
}

/// A connection that did not come about, or a handshake that was refused.
fn no_connection(seen: &Observations, failed: &Outcome) -> Suspects {
    let (what, at_endpoint) = match failed {
        Outcome::ConnectTimeout => ("no connection within 3 s".to_owned(), Cause::SecurityGroup),
        Outcome::TlsRefused(why) => (format!("no TLS: {why}"), Cause::StrictAccessMode),
        Outcome::Unreachable(why) | Outcome::ProxyRefused(why) => (why.clone(), Cause::EndpointUnreachable),
        other => (format!("{other:?}"), Cause::ApiError),
    };
    let because = format!("{}: {what}", seen.now.who());
    let refused_tls = matches!(failed, Outcome::TlsRefused(_));
    match seen.now {
        Place::Endpoint if is_captured(seen) => Suspects::of(Cause::CustomDomainCaptured, because).or(&[at_endpoint]),
        // It has no business there, whatever else is wrong.
        Place::Endpoint if is_public(seen) && seen.policy.way != Way::Endpoint => {
            Suspects::of(Cause::PublicApiThroughEndpoint, because).or(&[at_endpoint])
        }
        Place::Endpoint if refused_tls => Suspects::of(at_endpoint, because).decided_by(
            "get-rest-api or get-domain-name shows the endpoint access mode and the security policy of the API",
        ),
        Place::Endpoint if at_endpoint == Cause::SecurityGroup => Suspects::of(at_endpoint, because).decided_by(
            "flow logs of the endpoint's interfaces: REJECT is a security group or a network ACL; no entry at all, a route",
        ),
        Place::Endpoint => Suspects::of(at_endpoint, because),
        Place::Internet if seen.with_sidegate == Place::Endpoint || knows(&seen.endpoint) => {
            Suspects::of(Cause::PrivateApiFromInternet, because).or(&[Cause::NoRouteOut])
        }
        _ if refused_tls => Suspects::of(Cause::TlsRefused, because),
        Place::Internet => Suspects::of(Cause::NoRouteOut, because),
        // Whose addresses these are, only the VPC's resolver could say.
        _ => match &seen.vpc {
            Answer::Silent(why) => {
                let both = format!("the VPC's resolver does not answer ({why}); {because}");
                Suspects::of(Cause::DnsFailing, both).or(&[at_endpoint])
            }
            _ => Suspects::of(Cause::EndpointUnreachable, because),
        },
    }
}

/// An HTTP answer.
fn answered(seen: &Observations, probe: &Probe, reply: &Reply) -> Suspects {
    let says = reply.says();
    let because = format!("{} answered {}", seen.now.who(), in_words(reply));
    let of = |cause| Suspects::of(cause, because.clone());
    if says == Says::Works {
        return of(Cause::Works);
    }
    let is_named = seen.name.is_some() || seen.alias_in_zone.is_some() || seen.policy.way == Way::Endpoint;
    if !is_named && !reply.is_of_api_gateway() && says != Says::Waf {
        return of(Cause::NotApiGateway);
    }
    let refuses = matches!(
        says,
        Says::Forbidden
            | Says::SomePolicyDenies
            | Says::ResourcePolicyDenies
            | Says::EndpointPolicyDenies
            | Says::NoSuchRoute
            | Says::NotFound
    );
    // On the internet's side, what a private API's name is answered is not settled: any refusal will do.
    let is_at_home_elsewhere = seen.policy.way == Way::Endpoint || knows(&seen.endpoint);
    if seen.now == Place::Internet && refuses && is_at_home_elsewhere && !is_public(seen) {
        return of(Cause::PrivateApiFromInternet);
    }
    match says {
        Says::Forbidden => forbidden(seen, probe, &because),
        Says::EndpointPolicyDenies if is_public(seen) && seen.policy.way != Way::Endpoint => {
            of(Cause::PublicApiThroughEndpoint).or(&[Cause::EndpointPolicy])
        }
        Says::EndpointPolicyDenies => of(Cause::EndpointPolicy),
        Says::ResourcePolicyDenies => of(Cause::ResourcePolicy),
        Says::IdentityDenies => of(Cause::IdentityPolicy),
        Says::SomePolicyDenies if seen.now == Place::Internet => {
            of(Cause::ResourcePolicy).or(&[Cause::IdentityPolicy]).decided_by(
                "get-rest-api shows the resource policy; if it allows the caller, it is the policy of whoever signs",
            )
        }
        Says::SomePolicyDenies if is_public(seen) && seen.policy.way != Way::Endpoint => {
            of(Cause::PublicApiThroughEndpoint).or(&[Cause::EndpointPolicy])
        }
        Says::SomePolicyDenies => {
            of(Cause::ResourcePolicy).or(&[Cause::EndpointPolicy, Cause::IdentityPolicy]).decided_by(
                "the API's access log has the call if the resource policy denied it; the endpoint's policy denies \
                 before the API sees it (describe-vpc-endpoints shows it)",
            )
        }
        Says::Waf => of(Cause::Waf),
        Says::NoSuchRoute => of(Cause::MissingRoute).or(&[Cause::MissingStage]),
        Says::NotFound => of(Cause::MissingRoute).or(&[Cause::DisabledDefaultEndpoint]),
        Says::Credentials | Says::AuthorizerForbids => of(Cause::Credentials),
        Says::OtherError | Says::Works => of(Cause::ApiError),
    }
}

/// `{"message":"Forbidden"}`, which stands for more than any other answer.
fn forbidden(seen: &Observations, probe: &Probe, because: &str) -> Suspects {
    if let Some(form @ (Form::DomainTarget | Form::Apex)) = seen.name.map(|name| name.form) {
        let what = match form {
            Form::Apex => "the apex is for callers that send x-apigw-api-id",
            _ => "the name is what a custom domain is an alias of, and the domain is what to call",
        };
        return Suspects::of(Cause::NotCallable, format!("{because}; {what}"));
    }
    if knows(probe) || seen.now == Place::Internet {
        return forbidden_by_api(seen, probe, because);
    }
    if public_dns_is_captured(seen) {
        return Suspects::of(Cause::PublicDnsCaptured, format!("{because}; public DNS gave the endpoint's addresses"));
    }
    if is_captured(seen) {
        let so = if knows(&seen.internet) { ", and the internet's side serves the name" } else { "" };
        return Suspects::of(Cause::CustomDomainCaptured, format!("{because}{so}"));
    }
    if is_public(seen) {
        let so = format!("{because}, and the internet's side knows the API");
        return Suspects::of(Cause::PublicApiThroughEndpoint, so);
    }
    forbidden_anywhere(seen, probe, because)
}

/// Status, type and message of an answer, on one line.
pub fn in_words(reply: &Reply) -> String {
    let mut words = reply.status.to_string();
    if let Some(error_type) = &reply.error_type {
        words = format!("{words} {error_type}");
    }
    let body: String = reply.body.split_whitespace().collect::<Vec<_>>().join(" ");
    if !body.is_empty() {
        let cut: String = body.chars().take(120).collect();
        let more = if cut.len() < body.len() { "..." } else { "" };
        words = format!("{words} {cut}{more}");
    }
    words
}

#[cfg(test)]
mod tests;
