//! What is kept, and for how long: answers, negative answers, failures, and what is served after its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::ResponseCode;

use crate::gate::{Gate, ZONE, until};
use crate::upstream::{Action, Upstream};
use crate::wire::{A, Answer, Ask, a, asked_name, code, data, extended_errors};

fn ask(name: &str) -> Ask {
    Ask::new(name, A).edns(1232, false)
}

#[tokio::test]
async fn an_answer_is_kept_for_its_ttl_and_one_without_is_not() {
    let upstream = Upstream::answering(|query| {
        let ttl = if asked_name(query).starts_with("zero") { 0 } else { 60 };
        Answer::to(query).with(&asked_name(query), ttl, a("192.0.2.1")).to_wire()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    for _ in 0..3 {
        assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
        assert_eq!(data(&gate.ask_tcp(&ask("www.example.com")).await), ["192.0.2.1"]);
    }
    assert_eq!(upstream.count(), 1);
    until("the TTL goes down", || async { gate.ask(&ask("www.example.com")).await.answers[0].ttl < 60 }).await;
    for _ in 0..3 {
        gate.ask(&ask("zero.example.com")).await;
    }
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn negative_answers_are_kept_by_their_soa_and_those_without_are_not() {
    let upstream = Upstream::answering(|query| {
        let name = asked_name(query);
        let answer = if name.starts_with("nx") { Answer::to(query).rcode(3) } else { Answer::to(query) };
        if name.contains("soa") { answer.soa("example.com", 300) } else { answer }.to_wire()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    for (name, times) in [("nx-soa.example.com", 1), ("nodata-soa.example.com", 1), ("nx.example.com", 3)] {
        let before = upstream.count();
        for _ in 0..3 {
            let expected = if name.starts_with("nx") { ResponseCode::NXDomain } else { ResponseCode::NoError };
            assert_eq!(code(&gate.ask(&ask(name)).await), expected);
        }
        assert_eq!(upstream.count() - before, times, "{name}");
    }
}

#[tokio::test]
async fn a_client_keeps_a_negative_answer_no_longer_than_we_do() {
    let upstream = Upstream::answering(|query| Answer::to(query).rcode(3).soa("amazonaws.com", 86_400).to_wire()).await;
    let gate = Gate::start(&[upstream.address]);
    for (name, most) in [(format!("new1.{ZONE}"), 60), ("new1.amazonaws.com".to_owned(), 900)] {
        let reply = gate.ask(&ask(&name)).await;
        assert_eq!(reply.authorities[0].ttl, most, "{name}: an API created a moment later must be seen");
    }
}

#[tokio::test]
async fn failures_are_remembered_so_that_a_storm_of_retries_does_not_reach_the_servers() {
    let upstream = Upstream::answering(|query| Answer::to(query).rcode(2).to_wire()).await;
    let gate = Gate::start(&[upstream.address]);
    for _ in 0..20 {
        assert_eq!(code(&gate.ask(&ask("www.example.com")).await), ResponseCode::ServFail);
    }
    assert!(upstream.count() <= 4, "{} questions", upstream.count());
}

#[tokio::test]
async fn records_that_were_not_asked_for_are_neither_passed_on_nor_kept() {
    let upstream = Upstream::answering(|query| {
        let answer = Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1"));
        if asked_name(query).starts_with("www") { answer.with("bank.example.org", 60, a("192.0.2.66")) } else { answer }
            .to_wire()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    assert_eq!(data(&gate.ask(&ask("bank.example.org")).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn when_the_server_dies_the_last_answer_is_served_and_says_that_it_is_stale() {
    let upstream =
        Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 1, a("192.0.2.1")).to_wire()).await;
    let gate = Gate::start(&[upstream.address]);
    gate.ask(&ask("www.example.com")).await;
    drop(upstream);
    until("the answer is stale", || async {
        let reply = gate.ask(&ask("www.example.com")).await;
        assert_eq!((code(&reply), data(&reply)), (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
        assert!(reply.answers[0].ttl <= 30);
        extended_errors(&reply).iter().any(|(code, _)| *code == 3)
    })
    .await;
    assert_eq!(code(&gate.ask(&ask("never-asked.example.com")).await), ResponseCode::ServFail);
}

#[tokio::test]
async fn while_the_server_is_silent_stale_answers_come_early_without_asking_each_time_and_end_when_it_is_back() {
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let upstream = Upstream::start(move |asked| {
        let address = if asked.position == 0 { "192.0.2.1" } else { "192.0.2.2" };
        let reply = Answer::to(&asked.query).with("www.example.com", 1, a(address)).to_wire();
        if is_silent.load(Ordering::SeqCst) { Vec::new() } else { vec![Action::Reply(reply)] }
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    gate.ask(&ask("www.example.com")).await;
    silent.store(true, Ordering::SeqCst);
    let is_stale = async || {
        let reply = gate.ask(&ask("www.example.com")).await;
        assert_eq!(data(&reply), ["192.0.2.1"]);
        !extended_errors(&reply).is_empty()
    };
    until("the answer is stale", is_stale).await;
    until("the failure is known", || async { gate.plane.service().borrow().resolver.in_flight() == 0 }).await;
    let asked = upstream.count();
    for _ in 0..10 {
        assert!(is_stale().await);
    }
    assert_eq!(upstream.count(), asked, "a server known to fail is left alone for a while");
    silent.store(false, Ordering::SeqCst);
    until("it is asked again", || async { data(&gate.ask(&ask("www.example.com")).await) == ["192.0.2.2"] }).await;
}
