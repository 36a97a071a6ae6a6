//! The CNAME rule: an upstream's answer may lead into names that the policy routes elsewhere.
//!
//! The VPC resolver follows `api.example.com CNAME d-abc.execute-api...` into the endpoint's hidden zone and hands back
//! private addresses in one answer; nobody ever asks it for the `d-` name. So every answer is cut at the first name the
//! policy routes elsewhere, and the tail comes from where that name belongs. Pure; called by `resolver`.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::message::{Message, Record};
use super::question::Question;
use super::relevance::is_within;
use super::wire::rtype;
use crate::policy::{Decision, HostName, Route, Rule, Table, Upstream, route};

/// An answer cut short.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    /// The records that lead to `tail`.
    pub kept: Vec<Record>,
    /// The name to be answered in place of what was cut off.
    pub tail: HostName,
}

/// Cuts an answer of `upstream` at the first name that belongs elsewhere; `None` if it may stay as it is.
///
/// Questions for CNAME and ANY are about the records themselves and never cut.
pub fn cut(message: &Message, question: &Question, table: &Table, upstream: Upstream) -> Option<Cut> {
    if matches!(question.qtype, rtype::CNAME | rtype::ANY) {
        return None;
    }
    let chain = message.chain(question.name.wire());
    let position = chain.iter().position(|link| belongs_elsewhere(link, table, upstream))?;
    let tail = HostName::from_wire(chain[position]).ok()?;
    let leading = &chain[..position];
    // What is above the tail alone is not this upstream's to say either.
    let leads = |record: &&Record| match record.rtype {
        rtype::CNAME | rtype::RRSIG => leading.iter().any(|link| record.is_of(link)),
        rtype::DNAME => leading.iter().any(|link| is_within(link, &record.owner)),
        _ => false,
    };
    Some(Cut { kept: message.answer.iter().filter(leads).cloned().collect(), tail })
}

fn belongs_elsewhere(link: &[u8], table: &Table, upstream: Upstream) -> bool {
    let Ok(name) = HostName::from_wire(link) else { return false };
    leads_elsewhere(&route(table, &name), upstream)
}

/// Whether a name with this decision is not for `upstream` to answer.
pub fn leads_elsewhere(decision: &Decision<'_>, upstream: Upstream) -> bool {
    decision.rule <= Rule::OtherInZone && decision.route != Route::Upstream(upstream)
}

/// Drops additional records of names that belong elsewhere: no client may take an address past the policy because it
/// came along with an MX, SRV or HTTPS record.
pub fn drop_strays(message: &mut Message, table: &Table, upstream: Upstream) {
    message.additional.retain(|record| !belongs_elsewhere(&record.owner, table, upstream));
}

/// A number that stands for how the table routes the names an answer passes through or brings along: while it is the
/// same, the answer is what would be given again. Endpoint addresses count too, since tails are made of them.
pub fn routing(message: &Message, question: &Question, table: &Table) -> u64 {
    let mut hasher = DefaultHasher::new();
    let additional = message.additional.iter().map(|record| &*record.owner);
    for link in message.chain(question.name.wire()).into_iter().chain(additional) {
        let Ok(name) = HostName::from_wire(link) else { continue };
        let decision = route(table, &name);
        match decision.route {
            Route::Endpoint(endpoint) => (0, &endpoint.addresses.v4, &endpoint.addresses.v6).hash(&mut hasher),
            Route::NoSuchName => 1.hash(&mut hasher),
            // Whether it is rule 5, 6 or 7 decides whether an answer is cut there.
            Route::Upstream(upstream) => (2, upstream, decision.rule as u8).hash(&mut hasher),
            Route::NotReady(_) => 3.hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// Puts the tail's answer behind the records that lead to it. Result code, authority and extended errors are the tail's;
/// nobody signed the whole, so AD is clear, and no part lives longer than the shortest.
pub fn join(kept: Vec<Record>, tail: Message) -> Message {
    let mut answer = kept;
    answer.extend(tail.answer);
    let least = answer.iter().map(|record| record.ttl).min().unwrap_or(0);
    for record in &mut answer {
        record.ttl = least;
    }
    Message { answer, authentic: false, ..tail }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::dns::wire::rcode;
    use crate::policy::{Addresses, Endpoint, Knowledge, Names, Origin, PrivateIds};

    const ZONE: &str = "execute-api.us-east-1.amazonaws.com";

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn wire(text: &str) -> Box<[u8]> {
        name(text).wire().into()
    }

    fn cname(owner: &str, target: &str, ttl: u32) -> Record {
        Record { owner: wire(owner), rtype: rtype::CNAME, class: 1, ttl, rdata: wire(target) }
    }

    fn a(owner: &str, ttl: u32) -> Record {
        Record { owner: wire(owner), rtype: rtype::A, class: 1, ttl, rdata: [10, 0, 0, 1].into() }
    }

    fn table() -> Table {
        let endpoint = Endpoint {
            region: "us-east-1".parse().unwrap(),
            vpce_id: None,
            addresses: Addresses::default(),
            port: 443,
        };
        let mut ids = PrivateIds::default();
        ids.add(&"priv1".parse().unwrap(), Knowledge::of(&Origin::Static));
        let mut table = Table::new(vec![endpoint], Arc::default(), None).unwrap();
        table.ids = Arc::new(ids);
        table
    }

    fn captured(target: &str) -> Message {
        let target = format!("{target}.{ZONE}");
        let answer = vec![
            cname("api.example.com", "edge.example.net", 300),
            cname("edge.example.net", &target, 200),
            cname(&target, ZONE, 60),
            a(ZONE, 60),
        ];
        Message { answer, authentic: true, ..Message::default() }
    }

    #[test]
    fn an_answer_is_cut_at_the_first_name_that_belongs_elsewhere() {
        let question = Question::new(name("api.example.com"), rtype::A);
        let cut = cut(&captured("d-abc"), &question, &table(), Upstream::Vpc).unwrap();
        assert_eq!(cut.tail, name(&format!("d-abc.{ZONE}")));
        assert_eq!(cut.kept, captured("d-abc").answer[..2]);
    }

    #[test]
    fn a_private_name_in_a_public_answer_is_cut_too() {
        let question = Question::new(name("api.example.com"), rtype::A);
        let cut = cut(&captured("priv1"), &question, &table(), Upstream::Public).unwrap();
        assert_eq!(cut.tail, name(&format!("priv1.{ZONE}")));
    }

    #[test]
    fn a_dname_stays_where_it_leads_to_the_tail_and_goes_where_it_is_above_the_tail_alone() {
        let dname = |owner: &str| Record { rtype: rtype::DNAME, ..cname(owner, "elsewhere.example", 300) };
        let question = Question::new(name("api.example.com"), rtype::A);
        let mut message = captured("priv1");
        message.answer.extend([dname("example.com"), dname(ZONE)]);
        let kept = cut(&message, &question, &table(), Upstream::Public).unwrap().kept;
        let dnames: Vec<_> = kept.iter().filter(|record| record.rtype == rtype::DNAME).collect();
        assert_eq!(dnames, [&dname("example.com")]);
    }

    #[test]
    fn what_the_right_group_answered_stays_whole() {
        let question = Question::new(name("api.example.com"), rtype::A);
        let mut message = captured("d-abc");
        message.answer.truncate(2);
        message.answer.push(a(&format!("d-abc.{ZONE}"), 60));
        assert_eq!(cut(&message, &question, &table(), Upstream::Public), None);
        message.answer = vec![a("api.example.com", 60)];
        assert_eq!(cut(&message, &question, &table(), Upstream::Vpc), None);
    }

    #[test]
    fn the_routing_of_an_answer_changes_with_any_name_it_passes_through_and_with_nothing_else() {
        let question = Question::new(name("api.example.com"), rtype::A);
        let (mut message, mut table) = (captured("d-abc"), table());
        message.answer.truncate(2);
        let before = routing(&message, &question, &table);
        table.learned = Arc::new([name(&format!("other1.{ZONE}"))].into());
        table.generation += 1;
        assert_eq!(routing(&message, &question, &table), before);
        let mut listed = table.clone();
        listed.names = Arc::new(Names { always_public_names: [name("edge.example.net")].into(), ..Names::default() });
        assert_ne!(routing(&message, &question, &listed), before);
        message.additional = vec![a(&format!("other2.{ZONE}"), 60)];
        let before = routing(&message, &question, &table);
        table.learned = Arc::new([name(&format!("other2.{ZONE}"))].into());
        assert_ne!(routing(&message, &question, &table), before, "what came along belongs elsewhere now");
    }

    #[test]
    fn questions_about_the_records_themselves_are_untouched() {
        for qtype in [rtype::CNAME, rtype::ANY] {
            let question = Question::new(name("api.example.com"), qtype);
            assert_eq!(cut(&captured("d-abc"), &question, &table(), Upstream::Vpc), None);
        }
    }

    #[test]
    fn every_type_is_cut_not_only_addresses() {
        for qtype in [rtype::AAAA, rtype::HTTPS, rtype::TXT] {
            let question = Question::new(name("api.example.com"), qtype);
            assert!(cut(&captured("d-abc"), &question, &table(), Upstream::Vpc).is_some());
        }
    }

    #[test]
    fn no_address_comes_along_past_the_policy() {
        let mut message =
            Message { additional: vec![a(&format!("priv1.{ZONE}"), 60), a("other.example", 60)], ..Message::default() };
        drop_strays(&mut message, &table(), Upstream::Public);
        assert_eq!(message.additional, [a("other.example", 60)]);
    }

    #[test]
    fn the_whole_lives_as_long_as_its_shortest_part_and_speaks_with_the_tails_voice() {
        let tail = Message {
            answer: vec![a("x.example", 17)],
            rcode: rcode::NXDOMAIN,
            authentic: true,
            options: vec![1],
            ..Message::default()
        };
        let joined = join(vec![cname("api.example.com", "x.example", 300)], tail);
        assert!(joined.answer.iter().all(|record| record.ttl == 17));
        assert_eq!((joined.rcode, joined.authentic, joined.options), (rcode::NXDOMAIN, false, vec![1]));
    }
}
