//! Upstream replies that are not the reply: none is taken, whatever is wrong with it, and none does any harm.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;

use crate::gate::Gate;
use crate::upstream::{Action, Upstream};
use crate::wire::{A, Answer, Ask, a, asked_name, data, question_end};

fn good(query: &[u8]) -> Vec<u8> {
    Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire()
}

/// A reply that would be good but for its address and whatever is done to it.
fn forged(query: &[u8], spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut reply = Answer::to(query).with(&asked_name(query), 60, a("192.0.2.66")).to_wire();
    spoil(&mut reply);
    reply
}

/// One of each kind.
fn forgeries(query: &[u8]) -> Vec<(&'static str, Action)> {
    let end = question_end(query);
    let reply = |spoil: &dyn Fn(&mut Vec<u8>)| Action::Reply(forged(query, spoil));
    vec![
        ("another id", reply(&|reply| reply[1] ^= 1)),
        ("id 0", reply(&|reply| reply[..2].fill(0))),
        ("another socket", Action::ReplyFromElsewhere(forged(query, |_| {}))),
        ("another name", reply(&|reply| reply[13] = b'x')),
        ("another case", reply(&|reply| reply[13] = reply[13].to_ascii_uppercase())),
        ("another type", reply(&|reply| reply[end - 3] = 28)),
        ("another class", reply(&|reply| reply[end - 1] = 3)),
        ("no question", reply(&|reply| drop(reply.splice(4..end, [0; 8])))),
        ("a count of no question", reply(&|reply| reply[5] = 0)),
        (
            "two questions",
            reply(&|reply| {
                let question = reply[12..end].to_vec();
                reply[5] = 2;
                drop(reply.splice(end..end, question));
            }),
        ),
        ("no reply but a query", reply(&|reply| reply[2] &= 0x7f)),
        ("another opcode", reply(&|reply| reply[2] |= 0x28)),
        ("half a header", reply(&|reply| reply.truncate(7))),
        ("half a question", reply(&|reply| reply.truncate(end - 3))),
        ("nothing", Action::Reply(Vec::new())),
        ("noise", Action::Reply(vec![0xff; 600])),
    ]
}

#[tokio::test]
async fn only_the_exact_reply_is_taken_whatever_comes_before_it() {
    for position in 0..forgeries(&Ask::new("www.example.com", A).to_wire()).len() {
        let upstream = Upstream::start(move |asked| {
            vec![forgeries(&asked.query).swap_remove(position).1, Action::Reply(good(&asked.query))]
        })
        .await;
        let gate = Gate::start(&[upstream.address]);
        let reply = gate.ask(&Ask::new("www.example.com", A)).await;
        let what = forgeries(&upstream.asked()[0].query).swap_remove(position).0;
        assert_eq!(data(&reply), ["192.0.2.1"], "{what}");
        assert_eq!(upstream.count(), 1, "{what}");
    }
}

#[tokio::test]
async fn over_tcp_too_only_the_exact_reply_is_taken() {
    let upstream = Upstream::start(|asked| {
        if !asked.tcp {
            return vec![Action::Reply(Answer::to(&asked.query).flag(0x0200).to_wire())];
        }
        let forged = forgeries(&asked.query).into_iter().filter(|(what, _)| *what != "another socket");
        forged.map(|(_, action)| action).chain([Action::Reply(good(&asked.query))]).collect()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    assert_eq!(data(&gate.ask(&Ask::new("www.example.com", A)).await), ["192.0.2.1"]);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn two_thousand_forged_replies_change_neither_the_answer_nor_the_servers_health() {
    let upstream = Upstream::start(|asked| {
        let kinds: Vec<Action> = forgeries(&asked.query).into_iter().map(|(_, action)| action).collect();
        let mut actions: Vec<Action> = kinds.iter().cycle().take(2_000).cloned().collect();
        // A socket holds only so many of them, so the good one comes until it must have found room.
        for _ in 0..50 {
            actions.push(Action::Reply(good(&asked.query)));
            actions.push(Action::Wait(Duration::from_millis(20)));
        }
        actions
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    assert_eq!(data(&gate.ask(&Ask::new("www.example.com", A)).await), ["192.0.2.1"]);
    let service = gate.plane.service();
    let states = service.borrow().resolver.upstreams().states();
    assert_eq!(states.iter().map(|(_, _, failures, _)| *failures).collect::<Vec<_>>(), [0]);
}

/// How far counts are from being equal: beyond 60 for sixteen of them is once in many millions where chance is fair.
fn chi_square(values: impl Iterator<Item = u16>, bucket: impl Fn(u16) -> usize) -> f64 {
    let mut counts: HashMap<usize, u32> = (0..16).map(|bucket| (bucket, 0)).collect();
    let mut total = 0;
    for value in values {
        *counts.entry(bucket(value)).or_default() += 1;
        total += 1;
    }
    let expected = f64::from(total) / 16.0;
    counts.values().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
}

#[tokio::test]
async fn ids_and_source_ports_of_upstream_questions_cannot_be_guessed() {
    let upstream = Upstream::answering(good).await;
    let gate = Gate::start(&[upstream.address]);
    let asks = (0..8_000).map(|number| {
        let gate = &gate;
        async move { gate.ask(&Ask::new(&format!("n{number}.example.com"), A)).await }
    });
    futures_util::stream::iter(asks).buffer_unordered(16).for_each(async |reply| drop(reply)).await;
    let asked = upstream.asked();
    assert!(asked.len() >= 8_000);
    let ids = || asked.iter().map(|asked| u16::from_be_bytes([asked.query[0], asked.query[1]]));
    for (what, figure) in [
        ("upper bits", chi_square(ids(), |id| usize::from(id >> 12))),
        ("lower bits", chi_square(ids(), |id| usize::from(id & 15))),
        ("steps", chi_square(ids().zip(ids().skip(1)).map(|(a, b)| b.wrapping_sub(a)), |id| usize::from(id >> 12))),
    ] {
        assert!(figure < 60.0, "{what} of ids: {figure}");
    }
    let mut questions: HashMap<u16, u32> = HashMap::new();
    asked.iter().for_each(|asked| *questions.entry(asked.from.port()).or_default() += 1);
    // 32 at a time; chance may choose a port again.
    assert!(questions.values().all(|&questions| questions <= 3 * 32), "one port carries few questions: {questions:?}");
    let ports = || questions.keys().copied();
    let (least, most) = (ports().min().unwrap(), ports().max().unwrap());
    let span = u32::from(most - least) + 1;
    let figure = chi_square(ports(), |port| (u32::from(port - least) * 16 / span) as usize);
    assert!(figure < 60.0, "ports: {figure}");
    assert!(span > 10_000, "ports lie between {least} and {most}");
}
