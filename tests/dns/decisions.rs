//! What was decided about single queries: noted while somebody looks, and only so much of it.

use std::time::Instant;

use sidegate::dns::{Decided, Found, Way};
use sidegate::recent::KEPT;

use crate::gate::{Gate, ZONE};
use crate::upstream::Upstream;
use crate::wire::{A, Answer, Ask, TXT_TYPE, a};

async fn gate() -> (Gate, Upstream) {
    let upstream =
        Upstream::answering(|query| Answer::to(query).with("www.example.com", 60, a("192.0.2.7")).to_wire()).await;
    (Gate::start(&[upstream.address]), upstream)
}

fn look(gate: &Gate) -> Vec<Decided> {
    let service = gate.plane.service().borrow().clone();
    service.counters.decided.look(Instant::now()).into_iter().map(|(_, decided)| decided).collect()
}

#[tokio::test]
async fn queries_are_noted_only_while_somebody_looks() {
    let (gate, _upstream) = gate().await;
    let private = format!("priv1.{ZONE}");
    gate.ask(&Ask::new(&private, A)).await;
    assert_eq!(look(&gate).len(), 0, "nobody had looked");
    for name in [&private, &format!("x.{private}"), "www.example.com", "www.example.com"] {
        gate.ask(&Ask::new(name, A)).await;
    }
    gate.ask_tcp(&Ask::new(&private, TXT_TYPE)).await;
    gate.ask(&Ask::new("health.sidegate.invalid", TXT_TYPE)).await;
    let seen = look(&gate);
    let seen = seen
        .iter()
        .map(|one| (one.name.to_string(), one.qtype, one.way, one.rule.unwrap() as u8, one.found, one.rcode));
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            (private.clone(), A, Way::Endpoint, 2, Found::Here, 0),
            (format!("x.{private}"), A, Way::Nonexistent, 4, Found::Here, 3),
            ("www.example.com".into(), A, Way::Public, 7, Found::Asked, 0),
            ("www.example.com".into(), A, Way::Public, 7, Found::Cached, 0),
            (private, TXT_TYPE, Way::Endpoint, 2, Found::Here, 0),
        ],
        "and what is asked of the listener's own health is not a client's"
    );
}

#[tokio::test]
async fn no_more_than_the_last_few_are_kept() {
    let (gate, _upstream) = gate().await;
    look(&gate);
    for number in 0..KEPT + 9 {
        gate.ask(&Ask::new(&format!("x{number}.priv1.{ZONE}"), A)).await;
    }
    let seen = look(&gate);
    assert_eq!((seen.len(), seen[0].name.to_string()), (KEPT, format!("x9.priv1.{ZONE}")));
}
