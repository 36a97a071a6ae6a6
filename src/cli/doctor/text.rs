//! An examination for people: at most some forty lines of at most a hundred columns.

use std::net::IpAddr;

use crate::doctor::{Answer, Observations, Outcome, Place, PrivateDns, Probe, Request, Verdict, Way, in_words, notes};

/// Columns of a label, and of a line.
const LABEL: usize = 15;
const LINE: usize = 100;
/// Addresses that are shown of one answer.
const SHOWN: usize = 4;

pub(super) fn of(request: &Request, seen: &Observations, verdict: &Verdict) -> String {
    let mut out = Lines::default();
    out.put("call", &format!("{} https://{}{}", request.method, request.host, request.path()));
    out.gap();
    names(&mut out, seen);
    out.gap();
    ways(&mut out, seen);
    out.gap();
    calls(&mut out, seen);
    out.gap();
    out.put("verdict", &format!("{} ({})", verdict.cause.title(), verdict.cause.key()));
    out.put("because", &verdict.because);
    if !verdict.also.is_empty() {
        let also: Vec<_> = verdict.also.iter().map(|cause| cause.title()).collect();
        out.put("or", &also.join("; or "));
    }
    if let Some(decides) = &verdict.decides {
        out.put("what decides", decides);
    }
    notes(seen).iter().for_each(|note| out.put("note", note));
    out.gap();
    out.put("do", &verdict.action);
    out.0
}

fn names(out: &mut Lines, seen: &Observations) {
    if !seen.system.hosts_file.is_empty() {
        out.put("system", &format!("{}, from the hosts file", listed(&seen.system.hosts_file)));
    }
    for (server, answer) in &seen.system.servers {
        out.put("system", &format!("{}, says {}", in_short(answer), server.ip()));
    }
    out.put("vpc", &in_short(&seen.vpc));
    out.put("public", &in_short(&seen.public));
    match seen.sidegate.iter().find(|(_, answer)| !matches!(answer, Answer::Silent(_))) {
        Some((address, answer)) => out.put("sidegate", &format!("{}, says {address}", in_short(answer))),
        None if seen.sidegate.is_empty() => out.put("sidegate", "dns.listen is off"),
        None => {
            let asked: Vec<_> = seen.sidegate.iter().map(|(address, _)| address.to_string()).collect();
            out.put("sidegate", &format!("nobody answers at {}", asked.join(", ")));
        }
    }
    let private_dns = match (&seen.private_dns, &seen.apex) {
        (PrivateDns::On, Some((apex, answer))) => format!("on: {apex} is {}", listed(answer.addresses())),
        (PrivateDns::Off, Some((apex, answer))) => format!("off: {apex} is {}", in_short(answer)),
        (_, Some((apex, answer))) => format!("not known: {apex}: {}", in_short(answer)),
        (_, None) => "not concerned: the name is in no execute-api zone, nor its alias".to_owned(),
    };
    out.put("private DNS", &private_dns);
}

fn ways(out: &mut Lines, seen: &Observations) {
    out.put("way now", seen.now.word());
    let rule = match &seen.policy.rule {
        Some((number, text)) => format!(", by rule {number}, {text}"),
        None => String::new(),
    };
    let origin = seen.policy.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    let why = match &seen.policy.way {
        Way::NotReady(why) => format!(", not ready: {why}"),
        Way::Unknown(why) => format!(", not known: {why}"),
        _ => String::new(),
    };
    out.put("with Sidegate", &format!("{}{rule}{origin}{why}", seen.with_sidegate.word()));
}

fn calls(out: &mut Lines, seen: &Observations) {
    for place in [Place::Endpoint, Place::Internet, Place::Elsewhere] {
        if let Some(probe) = seen.at(place) {
            out.put(place.word(), &called(probe));
        }
    }
}

fn called(probe: &Probe) -> String {
    let taken = probe.addresses.iter().find(|address| probe.failed.iter().all(|(failed, _)| failed != *address));
    let at = match (&probe.proxy, taken.or(probe.addresses.first())) {
        (Some(proxy), _) => format!("through {proxy}: "),
        (None, Some(address)) => format!("{address}: "),
        (None, None) => String::new(),
    };
    let came = match &probe.outcome {
        Outcome::NotTried(why) => return format!("not called: {why}"),
        Outcome::ConnectTimeout => "no connection in time".to_owned(),
        Outcome::Unreachable(why) => format!("no connection: {why}"),
        Outcome::ProxyRefused(why) => why.clone(),
        Outcome::Certificate(why) => format!("its certificate is not accepted: {why}"),
        Outcome::WantsClientCertificate(why) => format!("it wants a client certificate: {why}"),
        Outcome::TlsRefused(why) => format!("no TLS: {why}"),
        Outcome::NoAnswer(why) => why.clone(),
        Outcome::Answered(reply) => {
            let id = reply.request_id.as_ref().map(|(name, value)| format!(" [{name} {value}]"));
            format!("{}{}", in_words(reply), id.unwrap_or_default())
        }
    };
    let control = probe.control.as_ref().map(|reply| format!("; a path that no API has: {}", in_words(reply)));
    format!("{at}{came}{}", control.unwrap_or_default())
}

fn in_short(answer: &Answer) -> String {
    match answer {
        Answer::Found { aliases, addresses } => match aliases.last() {
            Some(last) => format!("{} by way of {last}", listed(addresses)),
            None => listed(addresses),
        },
        Answer::NoAddress => "no address".to_owned(),
        Answer::NoSuchName => "no such name".to_owned(),
        Answer::Failed(why) => why.clone(),
        Answer::Silent(why) => format!("no answer: {why}"),
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    let shown: Vec<_> = addresses.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = addresses.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// Labels on the left, words on the right, broken between words.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, label: &str, words: &str) {
        let mut line = format!("{label:<LABEL$}");
        let mut is_first = true;
        for word in words.split_whitespace() {
            let space = usize::from(!is_first);
            if !is_first && line.chars().count() + space + word.chars().count() > LINE {
                self.0.push_str(line.trim_end());
                self.0.push('\n');
                line = " ".repeat(LABEL);
                is_first = true;
            }
            if !is_first {
                line.push(' ');
            }
            line.push_str(word);
            is_first = false;
        }
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}
