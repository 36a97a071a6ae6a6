//! What the forwarder's dialer is told of a name: the addresses a client would get, and failures in words.

use std::net::IpAddr;
use std::sync::Arc;

use crate::gate::{Gate, ZONE, config, loopback, table};
use crate::upstream::Upstream;
use crate::wire::{AAAA, Answer, a, asked_name, asked_type, cname};
use sidegate::dns::upstream::Server;
use sidegate::dns::{LookUpError, Upstreams};
use sidegate::policy::{Family, Upstream as Group};

async fn look_up(gate: &Gate, name: &str, family: Family, group: Group) -> Result<Vec<IpAddr>, LookUpError> {
    let resolver = Arc::clone(&gate.plane.service().borrow().resolver);
    resolver.addresses(&name.parse().unwrap(), family, group).await
}

fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_chain_that_enters_something_private_ends_at_the_endpoint() {
    let vpc = Upstream::answering(|query| {
        let target = format!("priv1.{ZONE}");
        Answer::to(query).with("api.example.com", 300, cname(&target)).with(&target, 60, a("10.0.0.66")).to_wire()
    })
    .await;
    let upstreams = Upstreams { vpc: vec![Server::udp(vpc.address)], ..Upstreams::default() };
    let gate = Gate::with(config(&[loopback()], upstreams), table(Group::Vpc));
    assert_eq!(look_up(&gate, "api.example.com", Family::V4, Group::Vpc).await, Ok(parsed(&["10.0.0.1"])));
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_its_addresses_come_in_the_order_of_the_answer() {
    let public = Upstream::answering(|query| {
        let name = asked_name(query);
        Answer::to(query).with(&name, 60, a("198.51.100.7")).with(&name, 60, a("198.51.100.3")).to_wire()
    })
    .await;
    let gate = Gate::start(&[public.address]);
    for _ in ["asked", "from the cache"] {
        let found = look_up(&gate, "www.example.com", Family::V4, Group::Public).await;
        assert_eq!(found, Ok(parsed(&["198.51.100.7", "198.51.100.3"])));
    }
    assert_eq!(public.count(), 1);
}

#[tokio::test]
async fn no_address_of_a_family_is_an_answer_and_a_missing_name_is_not() {
    let public = Upstream::answering(|query| {
        let answer = Answer::to(query).soa("example.com", 30);
        let answer = if asked_name(query).starts_with("none") { answer.rcode(3) } else { answer };
        assert_eq!(asked_type(query), AAAA);
        answer.to_wire()
    })
    .await;
    let gate = Gate::start(&[public.address]);
    assert_eq!(look_up(&gate, "www.example.com", Family::V6, Group::Public).await, Ok(Vec::new()));
    let missing = look_up(&gate, "none.example.com", Family::V6, Group::Public).await;
    assert_eq!(missing, Err(LookUpError::NoSuchName));
}

#[tokio::test]
async fn a_failure_says_what_the_upstream_said_or_why_there_is_no_upstream() {
    let broken = Upstream::answering(|query| {
        Answer::to(query).rcode(2).option(15, b"\x00\x16all authorities are silent").to_wire()
    })
    .await;
    let gate = Gate::start(&[broken.address]);
    let failed = |words: &str| Err(LookUpError::Failed(words.to_owned()));
    let found = look_up(&gate, "www.example.com", Family::V4, Group::Public).await;
    assert_eq!(found, failed("all authorities are silent"));
    let found = look_up(&gate, "www.example.com", Family::V4, Group::Vpc).await;
    assert_eq!(found, failed("vpc upstream: no server is configured"));
}
