//! The CNAME rule end to end: the VPC resolver follows a custom domain into the endpoint's hidden zone, and the client
//! gets the public answer all the same.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::{HTTPS as HttpsData, SVCB};

use crate::gate::{Gate, ZONE, config, loopback, table, until, with_ids};
use crate::upstream::Upstream;
use crate::wire::{
    A, AAAA, ANY, Answer, Ask, CNAME_TYPE, HTTPS, a, asked_name, asked_type, cname, code, data, extended_errors, name,
};
use sidegate::dns::Upstreams;
use sidegate::dns::upstream::Server;
use sidegate::policy::{EndpointIndex, Names, NotReady, Upstream as Group};

const DOMAIN: &str = "api.example.com";

/// What the VPC resolver says of a custom domain: the whole chain, ending in the endpoint's own address.
async fn capturing(target: &'static str) -> Upstream {
    Upstream::answering(move |query| {
        let target = format!("{target}.{ZONE}");
        let answer = Answer::to(query).with(DOMAIN, 300, cname(&target)).with(&target, 60, cname(ZONE)).flag(0x0020);
        let answer = if asked_type(query) == A { answer.with(ZONE, 60, a("10.0.0.66")) } else { answer };
        answer.option(15, b"\x00\x04of the vpc").to_wire()
    })
    .await
}

/// Public DNS: addresses of the regional gateway for any name.
async fn public() -> Upstream {
    Upstream::answering(|query| {
        let owner = asked_name(query);
        let answer = Answer::to(query);
        match asked_type(query) {
            A => answer.with(&owner, 40, a("198.51.100.7")),
            AAAA => answer.with(&owner, 40, RData::AAAA("2001:db8::7".parse().unwrap())),
            HTTPS => answer.with(&owner, 40, RData::HTTPS(HttpsData(SVCB::new(1, name("."), Vec::new())))),
            _ => answer.soa(ZONE, 30),
        }
        .flag(0x0020)
        .to_wire()
    })
    .await
}

fn gate(vpc: &Upstream, public: &Upstream) -> Gate {
    let upstreams = Upstreams {
        public: vec![Server::udp(public.address)],
        vpc: vec![Server::udp(vpc.address)],
        ..Upstreams::default()
    };
    Gate::with(config(&[loopback()], upstreams), table(Group::Vpc))
}

fn ask(qtype: u16) -> Ask {
    Ask::new(DOMAIN, qtype).flags(0x0120).edns(1232, true)
}

#[tokio::test]
async fn a_captured_custom_domain_gets_its_public_addresses() {
    let (vpc, public) = (capturing("d-abc").await, public().await);
    let gate = gate(&vpc, &public);
    for _ in ["asked", "from the cache"] {
        let reply = gate.ask(&ask(A)).await;
        assert_eq!(data(&reply), [format!("d-abc.{ZONE}."), "198.51.100.7".to_owned()]);
        assert!(reply.answers.iter().all(|record| (30..=40).contains(&record.ttl)), "the least of all");
        assert!(!reply.metadata.authentic_data, "nobody signed the whole");
        assert_eq!(extended_errors(&reply), [], "the tail has none");
    }
    assert_eq!((vpc.count(), public.count()), (1, 1));
    assert_eq!(asked_name(&public.asked()[0].query), format!("d-abc.{ZONE}"));
}

#[tokio::test]
async fn every_type_is_cut_and_the_tail_is_asked_for_the_same_one() {
    let (vpc, public) = (capturing("d-abc").await, public().await);
    let gate = gate(&vpc, &public);
    for (qtype, tail) in [(AAAA, "2001:db8::7"), (HTTPS, "1 .")] {
        let reply = gate.ask(&ask(qtype)).await;
        assert_eq!(reply.answers.len(), 2, "{reply}");
        assert_eq!(reply.answers[1].data.to_string().trim(), tail);
        assert_eq!(reply.answers[1].name.to_ascii(), format!("d-abc.{ZONE}."));
    }
    let reply = gate.ask(&ask(16)).await;
    assert_eq!((reply.answers.len(), reply.authorities.len()), (1, 1), "no data at the tail is the tail's no data");
}

#[tokio::test]
async fn a_custom_domain_of_a_private_api_gets_the_endpoint() {
    let (vpc, public) = (capturing("priv1").await, public().await);
    let gate = gate(&vpc, &public);
    assert_eq!(data(&gate.ask(&ask(A)).await), [format!("priv1.{ZONE}."), "10.0.0.1".to_owned()]);
    let none = gate.ask(&ask(AAAA)).await;
    assert_eq!((data(&none), none.authorities.len()), (vec![format!("priv1.{ZONE}.")], 1), "no address hint either");
    assert_eq!(public.count(), 0);
}

#[tokio::test]
async fn an_answer_of_public_dns_is_cut_too_where_it_leads_to_something_private() {
    let public = Upstream::answering(|query| {
        let target = "orders.corp.example";
        Answer::to(query).with(DOMAIN, 300, cname(target)).with(target, 300, a("198.51.100.9")).to_wire()
    })
    .await;
    let gate = Gate::start(&[public.address]);
    assert_eq!(data(&gate.ask(&ask(A)).await), ["orders.corp.example.", "10.0.0.1"]);
}

#[tokio::test]
async fn the_tails_result_code_and_extended_errors_are_the_answers() {
    let vpc = capturing("d-abc").await;
    let public = Upstream::answering(|query| {
        Answer::to(query).rcode(3).soa(ZONE, 30).option(15, b"\x00\x11by public dns").to_wire()
    })
    .await;
    let gate = gate(&vpc, &public);
    let reply = gate.ask(&ask(A)).await;
    assert_eq!((code(&reply), reply.answers.len()), (ResponseCode::NXDomain, 1));
    assert_eq!(extended_errors(&reply), [(17, "by public dns".to_owned())]);
}

#[tokio::test]
async fn where_the_tail_cannot_be_told_yet_or_not_at_all_the_answer_is_a_failure_and_never_the_captured_one() {
    let vpc = capturing("unknown1").await;
    let broken = Upstream::answering(|query| Answer::to(query).rcode(2).to_wire()).await;
    let gate = gate(&vpc, &broken);
    assert_eq!(code(&gate.ask(&ask(A)).await), ResponseCode::ServFail);
    gate.change_table(|table| table.not_ready = Some(NotReady { source: "file /ids".into(), last_error: None }));
    until("the new table is in force", || async {
        let reply = gate.ask(&ask(A)).await;
        assert_eq!(code(&reply), ResponseCode::ServFail);
        extended_errors(&reply) == [(14, "no list yet from file /ids".to_owned())]
    })
    .await;
    gate.change_table(|table| {
        table.not_ready = None;
        with_ids(table, &["unknown1"]);
    });
    let reply = gate.ask(&ask(A)).await;
    assert_eq!(data(&reply), [format!("unknown1.{ZONE}."), "10.0.0.1".to_owned()], "not ready is never kept");
}

#[tokio::test]
async fn questions_about_the_alias_itself_are_untouched() {
    let (vpc, public) = (capturing("d-abc").await, public().await);
    let gate = gate(&vpc, &public);
    for qtype in [CNAME_TYPE, ANY] {
        assert_eq!(data(&gate.ask(&ask(qtype)).await), [format!("d-abc.{ZONE}."), format!("{ZONE}.")]);
    }
    assert_eq!(public.count(), 0);
}

#[tokio::test]
async fn a_table_change_drops_every_chain_through_the_name_at_once() {
    let (vpc, public) = (capturing("abc1").await, public().await);
    let gate = gate(&vpc, &public);
    assert_eq!(data(&gate.ask(&ask(A)).await)[1], "198.51.100.7");
    gate.change_table(|table| with_ids(table, &["abc1"]));
    assert_eq!(data(&gate.ask(&ask(A)).await)[1], "10.0.0.1");
    gate.change_table(|table| with_ids(table, &[]));
    assert_eq!(data(&gate.ask(&ask(A)).await)[1], "198.51.100.7");
    assert_eq!(data(&gate.ask_tcp(&ask(A)).await)[1], "198.51.100.7");
}

#[tokio::test]
async fn a_reload_that_lists_a_name_drops_chains_that_were_nobodys_business_before() {
    let vpc = Upstream::answering(|query| {
        let target = "edge.example.net";
        Answer::to(query).with(DOMAIN, 300, cname(target)).with(target, 300, a("192.0.2.9")).to_wire()
    })
    .await;
    let public = public().await;
    let gate = gate(&vpc, &public);
    assert_eq!(data(&gate.ask(&ask(A)).await)[1], "192.0.2.9");
    gate.change_table(|table| {
        let private_names = [("edge.example.net".parse().unwrap(), EndpointIndex(0))].into();
        table.names = Names { private_names, default_upstream: Group::Vpc, ..Names::default() }.into();
    });
    assert_eq!(data(&gate.ask(&ask(A)).await)[1], "10.0.0.1");
}

#[tokio::test]
async fn a_tail_from_the_cache_has_only_what_is_left_of_its_time() {
    let (vpc, public) = (capturing("d-abc").await, public().await);
    let gate = gate(&vpc, &public);
    let tail = || async { gate.ask(&Ask::new(&format!("d-abc.{ZONE}"), A).flags(0x0120).edns(1232, true)).await };
    until("the tail has aged", || async { tail().await.answers[0].ttl <= 38 }).await;
    assert!(gate.ask(&ask(A)).await.answers.iter().all(|record| record.ttl <= 38));
    assert_eq!(public.count(), 1);
}
