//! Ids learned from public DNS: what it says of a name reaches the observer, and what that publishes is answered.

use std::sync::{Arc, Mutex};

use hickory_proto::op::ResponseCode;
use tokio::sync::watch;

use crate::gate::{Gate, ZONE, config, loopback, public, table};
use crate::upstream::Upstream;
use crate::wire::{A, AAAA, Answer, Ask, HTTPS, a, asked_name, code, data};
use sidegate::dns::{Existence, Observer};
use sidegate::policy::{Names, Table, Upstream as Group};

type Heard = Arc<Mutex<Vec<(String, Existence)>>>;

/// A gate whose observer notes what it hears, and learns names that do not exist.
fn learning(upstream: &Upstream) -> (Gate, Heard) {
    let mut start = table(Group::Public);
    start.names = Names { learn: true, ..Names::default() }.into();
    let sender = Arc::new(watch::Sender::new(Arc::new(start)));
    let (heard, publish) = (Heard::default(), Arc::clone(&sender));
    let notes = Arc::clone(&heard);
    let observer: Observer = Arc::new(move |name, existence| {
        notes.lock().unwrap().push((name.to_string(), existence));
        if existence == Existence::NoSuchName {
            publish.send_modify(|table| {
                let mut next = Table::clone(table);
                next.learned = Arc::new([*name].into());
                next.generation += 1;
                *table = Arc::new(next);
            });
        }
    });
    let config = config(&[loopback()], public(&[upstream.address]));
    (Gate::observed(config, sender, Some(observer)).unwrap(), heard)
}

/// Names that begin with `new` do not exist, others have an address; `sick` is a failure.
async fn upstream() -> Upstream {
    Upstream::answering(|query| {
        let name = asked_name(query);
        let answer = Answer::to(query);
        match &name[..4] {
            "new1" | "d-ne" => answer.rcode(3).soa(ZONE, 900),
            "sick" => answer.rcode(2),
            "lame" => answer.rcode(5),
            _ => answer.with(&name, 60, a("198.51.100.7")),
        }
        .to_wire()
    })
    .await
}

#[tokio::test]
async fn a_name_that_public_dns_does_not_know_is_answered_with_the_endpoint_from_the_first_question_on() {
    for qtypes in [[A, AAAA, HTTPS], [AAAA, A, A], [HTTPS, AAAA, A]] {
        let upstream = upstream().await;
        let (gate, heard) = learning(&upstream);
        for qtype in qtypes {
            let reply = gate.ask(&Ask::new(&format!("new1.{ZONE}"), qtype)).await;
            let expected: &[&str] = if qtype == A { &["10.0.0.1"] } else { &[] };
            assert_eq!(
                (code(&reply), data(&reply)),
                (ResponseCode::NoError, expected.iter().map(ToString::to_string).collect())
            );
            assert_eq!(reply.authorities.len(), usize::from(qtype != A), "no data needs an SOA record");
        }
        assert_eq!(*heard.lock().unwrap(), [(format!("new1.{ZONE}"), Existence::NoSuchName)]);
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test]
async fn what_public_dns_knows_is_reported_as_existing() {
    let upstream = upstream().await;
    let (gate, heard) = learning(&upstream);
    assert_eq!(data(&gate.ask(&Ask::new(&format!("pub1.{ZONE}"), A)).await), ["198.51.100.7"]);
    assert_eq!(*heard.lock().unwrap(), [(format!("pub1.{ZONE}"), Existence::Exists)]);
}

#[tokio::test]
async fn failures_and_names_that_cannot_be_ids_are_never_learned() {
    let upstream = upstream().await;
    let (gate, heard) = learning(&upstream);
    for (name, expected) in [
        (format!("sick1.{ZONE}"), ResponseCode::ServFail),
        (format!("lame1.{ZONE}"), ResponseCode::ServFail),
        (format!("d-new.{ZONE}"), ResponseCode::NXDomain),
        (format!("new1.x.{ZONE}"), ResponseCode::NXDomain),
        ("new1.example.com".to_owned(), ResponseCode::NXDomain),
    ] {
        assert_eq!(code(&gate.ask(&Ask::new(&name, A)).await), expected, "{name}");
    }
    assert_eq!(*heard.lock().unwrap(), []);
    assert!(gate.table.borrow().learned.is_empty());
}

#[tokio::test]
async fn silence_is_never_learned() {
    let silent = Upstream::silent().await;
    let (gate, heard) = learning(&silent);
    assert_eq!(code(&gate.ask(&Ask::new(&format!("new1.{ZONE}"), A)).await), ResponseCode::ServFail);
    assert_eq!(*heard.lock().unwrap(), []);
}
