//! All of an examination as JSON. Its keys are relied upon from outside; DOCTOR.md lists them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::doctor::{
    Answer, Cause, Observations, Outcome, Place, PrivateDns, Probe, Reply, Request, Verdict, Way, notes,
};
use crate::policy::HostName;

pub(super) fn of(request: &Request, seen: &Observations, verdict: &Verdict) -> Value {
    let server = |(address, said): &(SocketAddr, Answer)| {
        let mut value = answer(said);
        value["server"] = json!(address.to_string());
        value
    };
    let cause = |cause: &Cause| json!({ "cause": cause.key(), "title": cause.title() });
    json!({
        "host": seen.host.to_string(),
        "path": request.path(),
        "method": request.method.as_str(),
        "headers": request.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "dns": {
            "system": answer(&seen.system.answer()),
            "hosts_file": seen.system.hosts_file,
            "system_servers": seen.system.servers.iter().map(server).collect::<Vec<_>>(),
            "vpc": answer(&seen.vpc),
            "public": answer(&seen.public),
            "sidegate": seen.sidegate.iter().map(server).collect::<Vec<_>>(),
            "apex": seen.apex.as_ref().map(|(apex, said)| {
                let mut value = answer(said);
                value["name"] = json!(apex.to_string());
                value
            }),
        },
        "private_dns": match seen.private_dns {
            PrivateDns::On => "on",
            PrivateDns::Off => "off",
            PrivateDns::Unknown => "unknown",
        },
        "policy": policy(seen),
        "way": {
            "now": seen.now.word(),
            "with_sidegate": seen.with_sidegate.word(),
            "running_sidegate": seen.running.map(Place::word),
        },
        "calls": {
            "endpoint": probe(&seen.endpoint),
            "internet": probe(&seen.internet),
            "elsewhere": seen.elsewhere.as_ref().map(probe),
        },
        "works": verdict.works(),
        "verdict": {
            "cause": verdict.cause.key(),
            "title": verdict.cause.title(),
            "because": verdict.because,
            "also": verdict.also.iter().map(cause).collect::<Vec<_>>(),
            "decides": verdict.decides,
        },
        "notes": notes(seen),
        "action": verdict.action,
    })
}

fn answer(answer: &Answer) -> Value {
    let (result, why) = match answer {
        Answer::Found { .. } => ("found", None),
        Answer::NoAddress => ("no-address", None),
        Answer::NoSuchName => ("no-such-name", None),
        Answer::Failed(why) => ("failed", Some(why)),
        Answer::Silent(why) => ("silent", Some(why)),
    };
    json!({
        "result": result,
        "addresses": answer.addresses(),
        "aliases": answer.aliases().iter().map(HostName::to_string).collect::<Vec<_>>(),
        "error": why,
    })
}

fn policy(seen: &Observations) -> Value {
    let policy = &seen.policy;
    let (way, why) = match &policy.way {
        Way::Endpoint => ("endpoint", None),
        Way::Public => ("public", None),
        Way::Inside => ("inside", None),
        Way::NoSuchName => ("does not exist", None),
        Way::NotReady(why) => ("not ready", Some(why)),
        Way::Unknown(why) => ("unknown", Some(why)),
    };
    let rule = policy.rule.as_ref();
    json!({
        "way": way,
        "error": why,
        "rule": rule.map(|(number, _)| number),
        "rule_text": rule.map(|(_, text)| text),
        "origin": policy.origin,
        "endpoint": policy.endpoint,
        "alias": seen.alias_in_zone.as_ref().map(HostName::to_string),
    })
}

fn probe(probe: &Probe) -> Value {
    let (result, why) = match &probe.outcome {
        Outcome::NotTried(why) => ("not-called", Some(why)),
        Outcome::ConnectTimeout => ("connect-timeout", None),
        Outcome::Unreachable(why) => ("unreachable", Some(why)),
        Outcome::ProxyRefused(why) => ("proxy-refused", Some(why)),
        Outcome::Certificate(why) => ("certificate", Some(why)),
        Outcome::WantsClientCertificate(why) => ("wants-client-certificate", Some(why)),
        Outcome::TlsRefused(why) => ("tls-refused", Some(why)),
        Outcome::NoAnswer(why) => ("no-answer", Some(why)),
        Outcome::Answered(_) => ("answered", None),
    };
    let failed = |(address, why): &(SocketAddr, String)| json!({ "address": address.to_string(), "error": why });
    json!({
        "result": result,
        "error": why,
        "addresses": probe.addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
        "failed": probe.failed.iter().map(failed).collect::<Vec<_>>(),
        "proxy": probe.proxy,
        "reply": probe.outcome.reply().map(reply),
        "control": probe.control.as_ref().map(reply),
    })
}

fn reply(reply: &Reply) -> Value {
    let id = reply.request_id.as_ref();
    json!({
        "status": reply.status,
        "tls": reply.tls,
        "error_type": reply.error_type,
        "request_id_header": id.map(|(name, _)| name),
        "request_id": id.map(|(_, value)| value),
        "waf_action": reply.waf_action,
        "body": reply.body,
    })
}
