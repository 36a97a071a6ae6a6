//! `dns.answer = "forwarder"` end to end: the names of our zones resolve to the forwarder, nothing else does, and a
//! reload turns it on and off without flushing anything.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RData;

use crate::gate::{Gate, ZONE, config, loopback, table, until};
use crate::upstream::{Action, Upstream};
use crate::wire::{A, AAAA, Answer, Ask, HTTPS, a, asked_name, asked_type, cname, code, data, extended_errors};
use sidegate::dns::upstream::Server;
use sidegate::dns::{Config, Existence, Observer, Upstreams, ZoneAnswer};
use sidegate::policy::{Family, Names, Table, Upstream as Group};
use tokio::sync::watch;

/// Public DNS: `none…` does not exist, `sick…` is a failure, anything else is an alias of something with an address.
async fn public() -> Upstream {
    Upstream::answering(|query| {
        let name = asked_name(query);
        let answer = Answer::to(query).flag(0x0020);
        match (&name[..4], asked_type(query)) {
            ("none", _) => answer.rcode(3).soa(ZONE, 30),
            ("sick", _) => answer.rcode(2).option(15, b"\x00\x16sick"),
            (_, A) => {
                answer.with(&name, 300, cname("edge.example.net")).with("edge.example.net", 40, a("198.51.100.7"))
            }
            (_, AAAA) => answer.with(&name, 40, RData::AAAA("2001:db8::7".parse().unwrap())),
            _ => answer.soa(ZONE, 30),
        }
        .to_wire()
    })
    .await
}

/// The VPC resolver: follows `<label>.example.com` into `<label>` of the endpoint's hidden zone.
async fn vpc() -> Upstream {
    Upstream::answering(|query| {
        let name = asked_name(query);
        let target = name.replace("example.com", ZONE);
        Answer::to(query).with(&name, 300, cname(&target)).with(&target, 60, a("10.0.0.66")).to_wire()
    })
    .await
}

fn forwarding(public: &Upstream, vpc: Option<&Upstream>) -> Config {
    let vpc = vpc.map(|server| Server::udp(server.address)).into_iter().collect();
    let upstreams = Upstreams { public: vec![Server::udp(public.address)], vpc, ..Upstreams::default() };
    let answer = ZoneAnswer::Forwarder(vec!["10.0.9.1".parse().unwrap()]);
    Config { answer, ..config(&[loopback()], upstreams) }
}

fn ask(label: &str, qtype: u16) -> Ask {
    Ask::new(&format!("{label}.{ZONE}"), qtype).flags(0x0120).edns(1232, true)
}

#[tokio::test]
async fn every_name_that_exists_resolves_to_the_forwarder_asked_for_or_cached() {
    let public = public().await;
    let gate = Gate::with(forwarding(&public, None), table(Group::Public));
    for _ in ["asked", "from the cache"] {
        for reply in [gate.ask(&ask("pub1", A)).await, gate.ask_tcp(&ask("d-abc", A)).await] {
            assert_eq!(data(&reply), ["10.0.9.1"]);
            assert!((30..=40).contains(&reply.answers[0].ttl), "as long as public DNS said, at most");
            assert!(!reply.metadata.authentic_data);
        }
        let v6 = gate.ask(&ask("pub1", AAAA)).await;
        assert_eq!((code(&v6), v6.answers.len(), v6.authorities.len()), (ResponseCode::NoError, 0, 1));
    }
    assert_eq!(public.count(), 3);
    assert_eq!(data(&gate.ask(&ask("priv1", A)).await), ["10.0.9.1"]);
    assert_eq!(gate.ask(&ask("pub1", HTTPS)).await.answers.len(), 0);
    assert_eq!(public.count(), 3);
}

#[tokio::test]
async fn names_that_do_not_exist_and_failures_pass_as_they_are() {
    let public = public().await;
    let gate = Gate::with(forwarding(&public, None), table(Group::Public));
    for _ in ["asked", "from the cache"] {
        let none = gate.ask(&ask("none1", A)).await;
        assert_eq!((code(&none), none.answers.len(), none.authorities.len()), (ResponseCode::NXDomain, 0, 1));
        let sick = gate.ask(&ask("sick1", A)).await;
        assert_eq!((code(&sick), extended_errors(&sick)), (ResponseCode::ServFail, vec![(22, "sick".to_owned())]));
    }
}

#[tokio::test]
async fn an_id_that_is_learned_resolves_to_the_forwarder_too() {
    let public = public().await;
    let mut start = table(Group::Public);
    start.names = Names { learn: true, ..Names::default() }.into();
    let sender = Arc::new(watch::Sender::new(Arc::new(start)));
    let publish = Arc::clone(&sender);
    let observer: Observer = Arc::new(move |name, existence| {
        assert_eq!(existence, Existence::NoSuchName);
        publish.send_modify(|table| {
            let mut next = Table::clone(table);
            next.learned = Arc::new([*name].into());
            next.generation += 1;
            *table = Arc::new(next);
        });
    });
    let gate = Gate::observed(forwarding(&public, None), sender, Some(observer)).unwrap();
    for _ in ["learned", "known"] {
        assert_eq!(data(&gate.ask(&ask("none1", A)).await), ["10.0.9.1"]);
    }
    assert_eq!(public.count(), 1);
}

#[tokio::test]
async fn aliases_of_other_names_and_the_dialer_resolve_beneath_it() {
    let (public, vpc) = (public().await, vpc().await);
    let gate = Gate::with(forwarding(&public, Some(&vpc)), table(Group::Vpc));
    for (label, end) in [("priv1", "10.0.0.1"), ("d-abc", "198.51.100.7")] {
        let reply = gate.ask(&Ask::new(&format!("{label}.example.com"), A)).await;
        assert_eq!(
            data(&reply).last().map(String::as_str),
            Some(end),
            "the forwarder does not serve {label}.example.com"
        );
    }
    assert_eq!(data(&gate.ask(&Ask::new("orders.corp.example", A)).await), ["10.0.0.1"]);
    let resolver = Arc::clone(&gate.plane.service().borrow().resolver);
    let found = resolver.addresses(&format!("d-abc.{ZONE}").parse().unwrap(), Family::V4, Group::Public).await;
    assert_eq!(found, Ok(vec!["198.51.100.7".parse().unwrap()]));
    assert_eq!(data(&gate.ask(&ask("d-abc", A)).await), ["10.0.9.1"]);
}

#[tokio::test]
async fn a_reload_turns_it_on_and_off_and_the_cache_is_right_both_ways() {
    let public = public().await;
    let on = forwarding(&public, None);
    let off = Config { answer: ZoneAnswer::Endpoint, ..on.clone() };
    let moved = Config { answer: ZoneAnswer::Forwarder(vec!["10.0.9.2".parse().unwrap()]), ..on.clone() };
    let mut gate = Gate::with(on.clone(), table(Group::Public));
    for (config, private, known) in [
        (on.clone(), "10.0.9.1", &["10.0.9.1"][..]),
        (off, "10.0.0.1", &["edge.example.net.", "198.51.100.7"]),
        (moved, "10.0.9.2", &["10.0.9.2"]),
        (on, "10.0.9.1", &["10.0.9.1"]),
    ] {
        gate.reload(config).await.unwrap();
        assert_eq!(data(&gate.ask(&ask("priv1", A)).await), [private]);
        assert_eq!(data(&gate.ask(&ask("pub1", A)).await), known);
    }
    assert_eq!(public.count(), 1, "nothing was flushed");
}

#[tokio::test]
async fn while_public_dns_is_silent_a_name_that_existed_still_does() {
    let public = Upstream::start(|asked| {
        let reply = Answer::to(&asked.query).with(&asked_name(&asked.query), 1, a("198.51.100.7"));
        let reply = if asked.position == 0 { reply } else { Answer::to(&asked.query).rcode(2) };
        vec![Action::Reply(reply.to_wire())]
    })
    .await;
    let gate = Gate::with(forwarding(&public, None), table(Group::Public));
    until("the answer has run out", || async {
        let reply = gate.ask(&ask("pub1", A)).await;
        assert_eq!(data(&reply), ["10.0.9.1"]);
        public.count() > 1
    })
    .await;
    assert_eq!(data(&gate.ask(&ask("pub1", A)).await), ["10.0.9.1"]);
}
