//! Servers that fail: the next one is asked, and the client has an answer or a reason while it still waits.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;

use crate::gate::{Gate, config, loopback, public, table};
use crate::upstream::{Action, Closed, Upstream};
use crate::wire::{A, Answer, Ask, a, asked_name, code, data, extended_errors, read};
use sidegate::dns::Upstreams;
use sidegate::dns::upstream::Server;
use sidegate::policy::Upstream as Group;

/// Stub resolvers wait five seconds.
const CLIENTS_PATIENCE: Duration = Duration::from_secs(5);

async fn sound() -> Upstream {
    Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire()).await
}

async fn with_code(rcode: u16) -> Upstream {
    Upstream::answering(move |query| Answer::to(query).rcode(rcode).option(15, b"\x00\x06bogus").to_wire()).await
}

fn ask(name: &str) -> Ask {
    Ask::new(name, A).edns(1232, false)
}

#[tokio::test]
async fn a_server_that_refuses_is_passed_over_at_once_and_asked_last_from_then_on() {
    for rcode in [1, 2, 4, 5] {
        let (bad, good) = (with_code(rcode).await, sound().await);
        let gate = Gate::start(&[bad.address, good.address]);
        assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"], "rcode {rcode}");
        assert_eq!((bad.count(), good.count()), (1, 1), "rcode {rcode}");
        if rcode != 2 {
            assert_eq!(data(&gate.ask(&ask("other.example.com")).await), ["192.0.2.1"], "rcode {rcode}");
            assert_eq!((bad.count(), good.count()), (1, 2), "rcode {rcode}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_passed_over() {
    let good = sound().await;
    let closed = Closed::reserve().await;
    let over_tcp = format!("tcp://{}", closed.address).parse().unwrap();
    for servers in [vec![Server::udp(closed.address)], vec![over_tcp]] {
        let public = servers.into_iter().chain([Server::udp(good.address)]).collect();
        let upstreams = Upstreams { public, ..Upstreams::default() };
        let gate = Gate::with(config(&[loopback()], upstreams), table(Group::Public));
        assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn a_silent_server_is_joined_by_the_next_and_asked_after_it_from_then_on() {
    let (silent, good) = (Upstream::silent().await, sound().await);
    let gate = Gate::start(&[silent.address, good.address]);
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    assert_eq!((silent.count(), good.count()), (1, 1));
    assert_eq!(data(&gate.ask(&ask("other.example.com")).await), ["192.0.2.1"]);
    assert_eq!((silent.count(), good.count()), (1, 2));
}

/// Failures in a row of each public server.
fn failures(gate: &Gate) -> Vec<u32> {
    let service = gate.plane.service();
    let states = service.borrow().resolver.upstreams().states();
    states.into_iter().map(|(_, _, failures, _)| failures).collect()
}

/// A server that takes its time.
async fn slow(millis: u64) -> Upstream {
    Upstream::start(move |asked| {
        let reply = Answer::to(&asked.query).with(&asked_name(&asked.query), 60, a("192.0.2.9")).to_wire();
        vec![Action::Wait(Duration::from_millis(millis)), Action::Reply(reply)]
    })
    .await
}

#[tokio::test]
async fn a_silent_server_is_asked_after_a_slow_one_from_then_on() {
    let (silent, slow) = (Upstream::silent().await, slow(450).await);
    let gate = Gate::start(&[silent.address, slow.address]);
    for name in ["www.example.com", "other.example.com", "third.example.com"] {
        assert_eq!(data(&gate.ask(&ask(name)).await), ["192.0.2.9"], "{name}");
        // It would fail once more each time it was asked first.
        assert_eq!(failures(&gate), [1, 0], "{name}");
    }
}

#[tokio::test]
async fn a_server_that_still_works_is_not_asked_again_because_another_fails() {
    let (slow, refusing) = (slow(800).await, with_code(5).await);
    let gate = Gate::start(&[slow.address, refusing.address]);
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.9"]);
    assert_eq!((slow.count(), refusing.count()), (1, 1));
}

#[tokio::test]
async fn a_few_questions_that_a_server_refuses_do_it_no_harm() {
    for rcode in [1, 4, 5] {
        let picky = Upstream::answering(move |query| {
            let (name, answer) = (asked_name(query), Answer::to(query));
            if name.starts_with("odd") { answer.rcode(rcode) } else { answer.with(&name, 60, a("192.0.2.1")) }.to_wire()
        })
        .await;
        let gate = Gate::start(&[picky.address]);
        for round in 0..2 {
            for name in ["odd1", "odd2"] {
                gate.ask(&ask(&format!("{name}.round{round}.example"))).await;
            }
            assert_eq!(failures(&gate), [0], "rcode {rcode}");
            assert_eq!(data(&gate.ask(&ask(&format!("round{round}.example"))).await), ["192.0.2.1"]);
        }
        for (name, failed) in [("odd1", 0), ("odd2", 0), ("odd3", 1)] {
            gate.ask(&ask(&format!("{name}.example"))).await;
            assert_eq!(failures(&gate), [failed], "rcode {rcode}, {name}");
        }
    }
}

#[tokio::test]
async fn a_server_that_servfails_again_and_again_where_another_answers_is_asked_last() {
    let (broken, slow) = (with_code(2).await, slow(200).await);
    let gate = Gate::start(&[broken.address, slow.address]);
    for number in 1..=6 {
        assert_eq!(data(&gate.ask(&ask(&format!("n{number}.example.com"))).await), ["192.0.2.9"]);
    }
    assert_eq!((broken.count(), slow.count(), failures(&gate)), (5, 6, vec![1, 0]));
}

#[tokio::test]
async fn a_server_that_answers_nonsense_is_passed_over() {
    type Script = fn(&[u8]) -> Vec<u8>;
    let scripts: [Script; 3] = [
        // One record is announced and none is there.
        |query| {
            let mut reply = Answer::to(query).to_wire();
            reply[7] = 1;
            reply
        },
        // An address of three octets.
        |query| {
            let mut reply = Answer::to(query).with(&asked_name(query), 60, a("192.0.2.66")).to_wire();
            let at = reply.len() - 5;
            reply[at] = 3;
            reply.truncate(reply.len() - 1);
            reply
        },
        // Truncated, over TCP as well.
        |query| Answer::to(query).flag(0x0200).to_wire(),
    ];
    for script in scripts {
        let (bad, good) = (Upstream::answering(script).await, sound().await);
        let gate = Gate::start(&[bad.address, good.address]);
        assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
        assert!((1..=2).contains(&bad.count()));
    }
}

#[tokio::test]
async fn a_tcp_server_that_hangs_up_is_passed_over_and_one_that_did_so_between_questions_is_not() {
    let hanging_up = Upstream::start(|_| vec![Action::Close]).await;
    let good = Upstream::start(|asked| {
        let reply = Answer::to(&asked.query).with(&asked_name(&asked.query), 60, a("192.0.2.1")).to_wire();
        vec![Action::Reply(reply), Action::Close]
    })
    .await;
    let tcp = |address: SocketAddr| format!("tcp://{address}").parse::<Server>().unwrap();
    let upstreams = Upstreams { public: vec![tcp(hanging_up.address), tcp(good.address)], ..Upstreams::default() };
    let gate = Gate::with(config(&[loopback()], upstreams), table(Group::Public));
    for name in ["www.example.com", "other.example.com", "third.example.com"] {
        assert_eq!(data(&gate.ask(&ask(name)).await), ["192.0.2.1"], "{name}");
    }
}

#[tokio::test]
async fn a_tcp_server_that_closes_after_each_reply_answers_all_and_is_asked_twice_at_most() {
    let brief = Upstream::start(|asked| {
        let reply = Answer::to(&asked.query).with(&asked_name(&asked.query), 60, a("192.0.2.1")).to_wire();
        vec![Action::Reply(reply), Action::Close]
    })
    .await;
    let public = vec![format!("tcp://{}", brief.address).parse().unwrap()];
    let gate = Gate::with(config(&[loopback()], Upstreams { public, ..Upstreams::default() }), table(Group::Public));
    const QUESTIONS: usize = 50;
    let names: Vec<String> = (0..QUESTIONS).map(|number| format!("n{number}.example.com")).collect();
    let replies = join_all(names.iter().map(async |name| gate.ask(&ask(name)).await)).await;
    assert!(replies.iter().all(|reply| data(reply) == ["192.0.2.1"]));
    assert!(brief.count() <= 2 * QUESTIONS, "{} questions", brief.count());
}

#[tokio::test]
async fn a_server_that_does_not_know_edns_is_asked_without() {
    let old = Upstream::answering(|query| {
        let answer = Answer::to(query);
        if read(query).edns.is_some() { answer.rcode(1) } else { answer.with("www.example.com", 60, a("192.0.2.1")) }
            .to_wire()
    })
    .await;
    let gate = Gate::start(&[old.address]);
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    assert_eq!(old.count(), 2);
}

#[tokio::test]
async fn a_bare_header_that_refuses_edns_is_a_hint_to_ask_without_and_no_answer() {
    for rcode in [1, 4, 5] {
        let bare = move |query: &[u8]| [&query[..2], &[0x81, 0x80 | rcode, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        let old = Upstream::answering(move |query| match read(query).edns {
            Some(_) => bare(query),
            None => Answer::to(query).with("www.example.com", 60, a("192.0.2.1")).to_wire(),
        })
        .await;
        let gate = Gate::start(&[old.address]);
        assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"], "rcode {rcode}");
        assert_eq!((old.count(), failures(&gate)), (2, vec![0]), "rcode {rcode}");
    }
}

/// Asks for a name that no server answers; the extended errors of the SERVFAIL.
async fn failure(gate: &Gate) -> Vec<(u16, String)> {
    let started = Instant::now();
    let reply = gate.ask(&ask("www.example.com")).await;
    assert!(started.elapsed() < CLIENTS_PATIENCE, "after {:?}", started.elapsed());
    assert_eq!((code(&reply), reply.answers.len()), (ResponseCode::ServFail, 0));
    extended_errors(&reply)
}

#[tokio::test]
async fn where_all_servers_fail_the_client_learns_why_in_time() {
    let (first, second) = (with_code(2).await, with_code(2).await);
    let gate = Gate::start(&[first.address, second.address]);
    assert_eq!(failure(&gate).await, [(6, "bogus".to_owned())], "the upstream's own reason");
    assert!(first.count() <= 2 && second.count() <= 2);

    let mute = Upstream::answering(|query| Answer::to(query).rcode(2).to_wire()).await;
    let errors = failure(&Gate::start(&[mute.address])).await;
    assert_eq!(errors, [(22, "public upstream: answered SERVFAIL".to_owned())], "ours where it gives none");

    let refusing = with_code(5).await;
    let errors = failure(&Gate::start(&[refusing.address])).await;
    assert_eq!(errors, [(22, "public upstream: answered REFUSED".to_owned())]);

    let closed = Closed::reserve().await;
    let errors = failure(&Gate::start(&[closed.address])).await;
    assert_eq!(errors[0].0, 23, "{errors:?}");

    let errors = failure(&Gate::start(&[])).await;
    assert_eq!(errors, [(22, "public upstream: no server is configured".to_owned())]);
}

#[tokio::test]
async fn where_all_servers_are_silent_or_lie_the_client_learns_why_in_time_and_few_questions_were_asked() {
    let silent = Upstream::silent().await;
    let lying = Upstream::answering(|query| {
        let mut reply = Answer::to(query).with("www.example.com", 60, a("192.0.2.66")).to_wire();
        reply[0] ^= 0xff;
        reply
    })
    .await;
    let gate = Gate::start(&[silent.address, lying.address]);
    assert_eq!(failure(&gate).await, [(22, "public upstream: no answer in time".to_owned())]);
    assert!(silent.count() <= 2 && lying.count() <= 2, "{} and {}", silent.count(), lying.count());
}

#[tokio::test]
async fn an_answer_that_comes_late_from_the_first_server_is_still_taken() {
    let late = Upstream::start(|asked| {
        let reply = Answer::to(&asked.query).with("www.example.com", 60, a("192.0.2.9")).to_wire();
        vec![Action::Wait(Duration::from_millis(600)), Action::Reply(reply)]
    })
    .await;
    let silent = Upstream::silent().await;
    let gate = Gate::with(config(&[loopback()], public(&[late.address, silent.address])), table(Group::Public));
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.9"]);
    assert_eq!(silent.count(), 1, "it was joined after 300 ms");
}
