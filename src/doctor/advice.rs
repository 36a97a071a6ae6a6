//! The one thing to do about each cause.
//!
//! Pure; for `verdict`. One action, the first that has to be done: a list of everything that might help, helps nobody.

use super::cause::Cause;
use super::observations::{Answer, Observations, Outcome, Place, Way};

/// What to do, in one or two sentences.
pub(super) fn advice(cause: Cause, seen: &Observations) -> String {
    match cause {
        Cause::Works => works(seen),
        Cause::PublicApiThroughEndpoint | Cause::CustomDomainCaptured => lead_out(seen),
        Cause::PrivateApiFromInternet => lead_in(seen),
        Cause::PrivateIdUnknown => know_it(seen),
        Cause::NoSuchApi => "Check the id and the region in the name against the console of API Gateway.".into(),
        Cause::ResourcePolicy => {
            "Allow this caller in the API's resource policy (aws:SourceVpce or aws:SourceVpc for a private API), then \
             deploy the API again: a policy counts from the next deployment on."
                .into()
        }
        Cause::EndpointPolicy => {
            "Allow execute-api:Invoke on this API in the policy of the VPC endpoint; a request with a broken signature \
             is denied there as well."
                .into()
        }
        Cause::IdentityPolicy => "Allow execute-api:Invoke on this API to the role or user that signs the call.".into(),
        Cause::Credentials => {
            "Send the credentials that the method's authorizer wants: the way is right, and the API asks who calls."
                .into()
        }
        Cause::ApiKey if seen.call.has_api_key => {
            "Put this key into a usage plan that holds this stage (or correct it).".into()
        }
        Cause::ApiKey => "Send a key of a usage plan that holds this stage: --header 'x-api-key: ...' tries it.".into(),
        Cause::Waf => {
            "Find the call in the sampled requests of the web ACL, and allow it in the rule that blocks it.".into()
        }
        Cause::MissingStage if seen.call.stage.is_none() => {
            "Call a stage: https://HOST/STAGE/PATH, as the console shows it under Stages.".into()
        }
        Cause::MissingStage => {
            "Correct the first part of the path: a stage's name, or with a custom domain one of its base paths.".into()
        }
        Cause::DomainAssociation => {
            "Make a domain name access association between the domain and this VPC endpoint; it counts after some 15 \
             minutes."
                .into()
        }
        Cause::MissingRoute => {
            "Correct method and path against the deployed stage (deploy the API if they are new); sign the call if the \
             method's authorization is AWS_IAM."
                .into()
        }
        Cause::DisabledDefaultEndpoint => {
            "Call the API by its custom domain name, or have disableExecuteApiEndpoint unset and the API deployed."
                .into()
        }
        Cause::NotCallable => "Call the API's own name, <id>.execute-api..., or its custom domain name.".into(),
        Cause::StrictAccessMode if leads_out(seen) => lead_out(seen),
        Cause::StrictAccessMode => {
            "Look at endpointAccessMode and securityPolicy of the API: STRICT serves the API's own kind of endpoint \
             only; BASIC serves as before, some 15 minutes after the change."
                .into()
        }
        Cause::TlsRefused => {
            "Look at the security policy of the API or its domain, and at what inspects TLS on the way there.".into()
        }
        Cause::ClientCertificate => {
            "Send the client certificate that the domain's truststore wants, end to end: forward.connect and \
             forward.sni carry it, forward.http cannot."
                .into()
        }
        Cause::Certificate => {
            "Find out who answers on that address: a proxy that inspects TLS (name its root in forward.extra_roots), a \
             wrong address, or this host's clock."
                .into()
        }
        Cause::SecurityGroup => {
            "Allow TCP 443 from this host in the security group of the VPC endpoint, then in the network ACLs of its \
             subnets."
                .into()
        }
        Cause::EndpointUnreachable => {
            "Compare the addresses with the endpoint's network interfaces, and the routes between here and there."
                .into()
        }
        Cause::NoEndpoint => {
            "Turn private DNS of the endpoint on, or name the endpoint in [[endpoint]] by addresses or dns_name.".into()
        }
        Cause::NoRouteOut => way_out(),
        Cause::PublicDnsUnreachable => {
            "Let UDP and TCP 53 or TCP 443 out to the servers of upstream.public, or set upstream.via_parent with \
             forward.parent_proxy."
                .into()
        }
        Cause::PublicDnsCaptured => {
            "Set upstream.public to resolvers outside the VPC: the VPC's own never tells public addresses of this zone."
                .into()
        }
        Cause::DnsFailing => dns(seen),
        Cause::ListMissing => {
            "Mend the source that is named above, or set required = false on it to go public meanwhile.".into()
        }
        Cause::NotApiGateway => {
            "Ask whoever runs this name: neither private DNS nor Sidegate's policy concerns it.".into()
        }
        Cause::ApiError => "Look into the API's own logs: the call arrives there.".into(),
        Cause::NotProbed => "Run it again without --header and --method, or mend the configuration first.".into(),
    }
}

/// Whether the policy leads away from where the call goes now.
fn leads_out(seen: &Observations) -> bool {
    seen.now == Place::Endpoint && seen.with_sidegate == Place::Internet
}

fn works(seen: &Observations) -> String {
    match (seen.now, seen.with_sidegate) {
        (Place::Endpoint, Place::Internet | Place::Nowhere) if seen.api_id().is_some() => {
            format!("Nothing now; before Sidegate resolves here, {}", uncapitalised(&know_it(seen)))
        }
        (Place::Internet, Place::Endpoint) => match &seen.policy.origin {
            Some(origin) => format!("Nothing now; take the id out of {origin} if the API is public."),
            None => "Nothing.".into(),
        },
        _ => "Nothing.".into(),
    }
}

/// To the internet's side, for an API that is at home there.
fn lead_out(seen: &Observations) -> String {
    if let (Way::Endpoint, Some(origin)) = (&seen.policy.way, &seen.policy.origin) {
        return format!("Take the id out of {origin}: the API is public.");
    }
    if let Way::NotReady(why) = &seen.policy.way {
        return format!("Mend the source of private ids ({why}); then {}", uncapitalised(&resolve_here(seen)));
    }
    let no_way_out =
        matches!(seen.internet.outcome, Outcome::ConnectTimeout | Outcome::Unreachable(_) | Outcome::ProxyRefused(_));
    if no_way_out {
        return format!("{} Then {}", way_out(), uncapitalised(&resolve_here(seen)));
    }
    resolve_here(seen)
}

/// To the endpoint, for an API that is private.
fn lead_in(seen: &Observations) -> String {
    let is_known = seen.policy.way == Way::Endpoint;
    match (is_known, seen.endpoint.addresses.is_empty()) {
        (true, false) => resolve_here(seen),
        (false, false) => know_it(seen),
        _ => "Call it from a VPC with an execute-api endpoint whose private DNS is on, or name the endpoint in \
              [[endpoint]] and the id in policy.private_api_ids."
            .into(),
    }
}

fn know_it(seen: &Observations) -> String {
    match seen.api_id() {
        None => "Add the name to policy.private_names with the vpce_id of its endpoint.".into(),
        Some(id) => format!("Add {id} to policy.private_api_ids, or to the list that a [[discovery]] source reads."),
    }
}

fn way_out() -> String {
    "Give these subnets a way out (NAT gateway, egress of the security group), or set forward.parent_proxy.".into()
}

/// Have programs ask Sidegate.
fn resolve_here(seen: &Observations) -> String {
    let listeners: Vec<_> = seen.sidegate.iter().map(|(address, _)| address).collect();
    let asks_us = seen.system.servers.iter().any(|(server, _)| listeners.contains(&server));
    match (asks_us, seen.running) {
        (_, Some(running)) if running == seen.now && running != seen.with_sidegate => {
            "Reload the running Sidegate (SIGHUP or POST /reload): it works by another configuration than this one."
                .into()
        }
        (true, _) => {
            "Clear what names were cached by the program, and the hosts file: Sidegate answers rightly.".into()
        }
        (false, Some(_)) => {
            "Have programs ask the running Sidegate: sidegate resolv-conf install, or HTTPS_PROXY for those that \
             cannot."
                .into()
        }
        (false, None) => {
            "Run Sidegate beside the program and have it resolve there: sidegate run, then sidegate resolv-conf \
             install."
                .into()
        }
    }
}

fn dns(seen: &Observations) -> String {
    if let (Way::Endpoint, Answer::Silent(_)) = (&seen.policy.way, &seen.vpc) {
        return "Let UDP and TCP 53 through to the VPC's resolver, or correct upstream.vpc: the endpoint's addresses come \
                from there."
            .into();
    }
    let servers: Vec<String> = seen.system.servers.iter().map(|(server, _)| server.ip().to_string()).collect();
    match servers.as_slice() {
        [] => "Name a server in resolv.conf: sidegate resolv-conf install makes it Sidegate.".into(),
        _ => format!("See why {} does not answer for this name: its own log says so.", servers.join(", ")),
    }
}

fn uncapitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
