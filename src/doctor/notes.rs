//! What was seen beside the cause, and will bite later: one line each.
//!
//! Pure; for `sidegate doctor`.

use std::net::IpAddr;

use super::observations::{Answer, Observations, Outcome, Place};

/// Everything worth a line.
pub fn notes(seen: &Observations) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(disagreement(seen));
    notes.extend(families(seen));
    if !seen.system.hosts_file.is_empty() {
        notes.push("the hosts file has the name: no resolver is asked for it".to_owned());
    }
    if let Some(alias) = &seen.alias_in_zone {
        notes.push(format!("an alias of {alias}"));
    }
    let leads = |place| matches!(place, Place::Endpoint | Place::Internet);
    if let Some(running) = seen.running
        && running != seen.with_sidegate
        && leads(running)
        && leads(seen.with_sidegate)
    {
        notes.push(format!(
            "the running Sidegate leads to {}, this configuration to {}: another configuration, or other lists",
            running.who(),
            seen.with_sidegate.who()
        ));
    }
    if let Answer::Silent(why) = &seen.vpc {
        notes.push(format!("the VPC's resolver (upstream.vpc) does not answer: {why}"));
    }
    for (probe, place) in [(&seen.endpoint, Place::Endpoint), (&seen.internet, Place::Internet)] {
        let reached = probe.addresses.len() > probe.failed.len();
        if reached && !probe.failed.is_empty() {
            let failed: Vec<String> = probe.failed.iter().map(|(address, _)| address.ip().to_string()).collect();
            notes.push(format!("{}: {} takes no connection, others do", place.word(), failed.join(", ")));
        }
        if let Some(proxy) = &probe.proxy {
            notes.push(format!("the {} is called through forward.parent_proxy {proxy}", place.word()));
        }
    }
    if matches!(&seen.internet.outcome, Outcome::NotTried(why) if why.contains("only where the policy"))
        || matches!(&seen.endpoint.outcome, Outcome::NotTried(why) if why.contains("only where the policy"))
    {
        notes.push("a call with headers or a method of its own is sent only where the policy sends it".to_owned());
    }
    notes
}

/// Servers of resolv.conf that say different things: which one a program believes is chance (musl asks all at once).
fn disagreement(seen: &Observations) -> Option<String> {
    let set = |answer: &Answer| {
        let mut addresses: Vec<IpAddr> = answer.addresses().to_vec();
        addresses.sort_unstable();
        addresses
    };
    let answered = seen.system.servers.iter().filter(|(_, answer)| answer.is_about_the_name());
    let mut all: Vec<Vec<IpAddr>> = answered.map(|(_, answer)| set(answer)).collect();
    all.dedup();
    (all.len() > 1).then(|| "the servers of resolv.conf disagree: which one a program believes is chance".to_owned())
}

/// One family at the endpoint and the other on the internet.
fn families(seen: &Observations) -> Option<String> {
    let system = seen.system.answer();
    let is_of_endpoint = |ip: &&IpAddr| seen.endpoint.addresses.iter().any(|address| address.ip() == **ip);
    let at_endpoint = system.addresses().iter().filter(is_of_endpoint).count();
    let mixed = at_endpoint > 0 && at_endpoint < system.addresses().len() && !seen.endpoint.addresses.is_empty();
    let has_both = system.addresses().iter().any(IpAddr::is_ipv4) && system.addresses().iter().any(IpAddr::is_ipv6);
    (mixed && has_both)
        .then(|| "IPv4 and IPv6 lead to different places: which one a program takes is chance".to_owned())
}
