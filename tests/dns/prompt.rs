//! A server that is known to answer soon is asked by the worker that has the client, by datagrams or over a connection: what is
//! unusual must end as if the resolver had asked from the beginning, with no query more.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_proto::op::{Message, ResponseCode};
use sidegate::dns::Upstreams;
use sidegate::policy::Upstream as Group;
use tokio::time::timeout;

use crate::gate::{Gate, PATIENCE, ZONE, ask_udp, config, loopback, table, until, with_ids};
use crate::upstream::{Action, Asked, Closed, Upstream};
use crate::wire::{A, Answer, Ask, a, asked_name, cname, code, data};

fn ask(name: &str) -> Ask {
    Ask::new(name, A).edns(1232, false)
}

fn good(query: &[u8]) -> Vec<u8> {
    Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire()
}

/// A server that answers names beginning with `known` well, and all others by the script.
async fn known_and(script: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |asked| match asked_name(&asked.query).starts_with("known") {
        true => vec![Action::Reply(good(&asked.query))],
        false => script(asked),
    })
    .await
}

/// By datagrams, and over a connection.
const WAYS: [&str; 2] = ["udp", "tcp"];

/// Servers that are asked this way.
fn by(way: &str, servers: &[SocketAddr]) -> Upstreams {
    let server = |address: &SocketAddr| format!("{way}://{address}").parse().unwrap();
    Upstreams { public: servers.iter().map(server).collect(), ..Upstreams::default() }
}

/// A gate whose servers have answered, so that the first of them is asked without further ado.
async fn prompt(way: &str, servers: &[&Upstream]) -> Gate {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let gate = Gate::with(config(&[loopback()], by(way, &addresses)), table(Group::Public));
    make_prompt(&gate).await;
    gate
}

async fn make_prompt(gate: &Gate) {
    assert_eq!(data(&gate.ask(&ask("known.example.com")).await), ["192.0.2.1"]);
}

/// How many datagrams and how many queries over TCP were about a name.
fn asked(upstream: &Upstream, name: &str) -> (usize, usize) {
    let about: Vec<Asked> = upstream.asked().into_iter().filter(|asked| asked_name(&asked.query) == name).collect();
    let tcp = about.iter().filter(|asked| asked.tcp).count();
    (about.len() - tcp, tcp)
}

/// How often a name was asked, whatever the way.
fn times(upstream: &Upstream, name: &str) -> usize {
    let (datagrams, tcp) = asked(upstream, name);
    datagrams + tcp
}

#[tokio::test]
async fn many_who_ask_the_same_at_once_cost_one_query_and_each_has_its_own_reply() {
    for way in WAYS {
        let upstream =
            known_and(|asked| vec![Action::Wait(Duration::from_millis(50)), Action::Reply(good(&asked.query))]).await;
        let gate = prompt(way, &[&upstream]).await;
        let asks = (0..40).map(|number| {
            let name = if number % 2 == 0 { "www.example.com." } else { "WWW.Example.COM." };
            let (gate, edns) = (&gate, number % 4 < 2);
            async move {
                let ask = if edns { ask(name) } else { Ask::new(name, A) };
                let reply = gate.ask(&ask).await;
                assert_eq!((data(&reply), reply.edns.is_some()), (vec!["192.0.2.1".to_owned()], edns));
                assert_eq!(reply.queries[0].name().to_ascii(), name, "in the case it was asked in");
            }
        });
        join_all(asks).await;
        assert_eq!(upstream.count(), 2, "the one before included");
    }
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_is_fetched_over_tcp_without_asking_again() {
    let upstream = known_and(|asked| match asked.tcp {
        true => vec![Action::Reply(good(&asked.query))],
        false => vec![Action::Reply(Answer::to(&asked.query).flag(0x0200).to_wire())],
    })
    .await;
    let gate = prompt("udp", &[&upstream]).await;
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    assert_eq!(asked(&upstream, "www.example.com"), (1, 1));
}

#[tokio::test]
async fn what_a_server_refuses_or_fails_at_is_asked_of_the_next_and_not_of_it_again() {
    for way in WAYS {
        for rcode in [2, 4, 5] {
            let bad = known_and(move |asked| {
                vec![Action::Reply(Answer::to(&asked.query).rcode(rcode).option(15, b"\x00\x06bogus").to_wire())]
            })
            .await;
            let next = known_and(|asked| vec![Action::Reply(good(&asked.query))]).await;
            let gate = prompt(way, &[&bad, &next]).await;
            assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"], "rcode {rcode}");
            assert_eq!((times(&bad, "www.example.com"), times(&next, "www.example.com")), (1, 1), "{way} {rcode}");
        }
    }
}

#[tokio::test]
async fn a_bare_refusal_of_edns_is_followed_by_the_question_without() {
    let upstream = known_and(|asked| {
        let has_edns = asked.query[11] > 0;
        if !has_edns {
            return vec![Action::Reply(good(&asked.query))];
        }
        let mut refusal = vec![0; 12];
        refusal[..2].copy_from_slice(&asked.query[..2]);
        (refusal[2], refusal[3]) = (0x80, 1);
        vec![Action::Reply(refusal)]
    })
    .await;
    let gate = prompt("udp", &[&upstream]).await;
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    let edns = |asked: &Asked| asked.query[11] > 0;
    assert_eq!(upstream.asked()[1..].iter().map(edns).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_joined_by_the_next() {
    for way in WAYS {
        let silent = known_and(|_| Vec::new()).await;
        let next = known_and(|asked| vec![Action::Reply(good(&asked.query))]).await;
        let gate = prompt(way, &[&silent, &next]).await;
        let started = Instant::now();
        assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        assert_eq!((times(&silent, "www.example.com"), times(&next, "www.example.com")), (1, 1), "{way}");
        assert_eq!(data(&gate.ask(&ask("other.example.com")).await), ["192.0.2.1"]);
        assert_eq!(times(&silent, "other.example.com"), 0, "{way}: it is no first choice any more");
    }
}

#[tokio::test]
async fn a_late_reply_is_taken_from_where_it_comes_to() {
    for way in WAYS {
        let upstream =
            known_and(|asked| vec![Action::Wait(Duration::from_millis(600)), Action::Reply(good(&asked.query))]).await;
        let gate = prompt(way, &[&upstream]).await;
        assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
        assert_eq!(times(&upstream, "www.example.com"), 1, "{way}");
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_a_stub_does_for_a_server_that_falls_silent() {
    for way in WAYS {
        let upstream = known_and(|_| Vec::new()).await;
        let gate = prompt(way, &[&upstream]).await;
        let started = Instant::now();
        assert_eq!(code(&gate.ask(&ask("www.example.com")).await), ResponseCode::ServFail);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(times(&upstream, "www.example.com"), 2, "{way}: once more, as one datagram may be lost");
        until("nothing is left behind", || async { gate.plane.service().borrow().resolver.in_flight() == 0 }).await;
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_passed_over_at_once() {
    for way in WAYS {
        let (going, next) =
            (known_and(|_| Vec::new()).await, known_and(|asked| vec![Action::Reply(good(&asked.query))]).await);
        let gate = prompt(way, &[&going, &next]).await;
        let address = going.address;
        drop(going);
        let is_free = || std::net::UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok();
        until("its ports are closed", || async { is_free() }).await;
        let started = Instant::now();
        for name in ["a.example.com", "b.example.com", "c.example.com"] {
            assert_eq!(data(&gate.ask(&ask(name)).await), ["192.0.2.1"]);
        }
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn an_answer_that_leads_to_a_private_name_is_cut_there() {
    for way in WAYS {
        let upstream = known_and(|asked| {
            let target = format!("priv1.{ZONE}.");
            let reply = Answer::to(&asked.query).with(&asked_name(&asked.query), 60, cname(&target));
            vec![Action::Reply(reply.with(&target, 60, a("198.51.100.66")).to_wire())]
        })
        .await;
        let gate = prompt(way, &[&upstream]).await;
        let reply = gate.ask(&ask("api.example.com")).await;
        assert_eq!(data(&reply), [format!("priv1.{ZONE}."), "10.0.0.1".to_owned()]);
        assert_eq!(times(&upstream, "api.example.com"), 1, "{way}");
    }
}

#[tokio::test]
async fn a_reload_loses_nobody_who_waits() {
    for way in WAYS {
        let upstream =
            known_and(|asked| vec![Action::Wait(Duration::from_millis(200)), Action::Reply(good(&asked.query))]).await;
        let mut gate = prompt(way, &[&upstream]).await;
        let address = gate.address;
        let waiting: Vec<_> = (0..8)
            .map(|number| {
                tokio::spawn(async move { ask_udp(address, &ask(&format!("n{number}.example.com")).to_wire()).await })
            })
            .collect();
        until("all are asked", || async { upstream.count() >= 9 }).await;

        gate.reload(config(&[loopback()], by(way, &[upstream.address]))).await.unwrap();
        for reply in waiting {
            let reply = timeout(PATIENCE, reply).await.unwrap().unwrap();
            assert_eq!(data(&crate::wire::read(&reply)), ["192.0.2.1"]);
        }
    }
}

/// Nobody is asked again because an id has changed that has nothing to do with an answer.
#[tokio::test]
async fn a_new_table_that_routes_an_answers_names_as_before_costs_no_query() {
    for way in WAYS {
        let upstream = known_and(|asked| {
            let reply = Answer::to(&asked.query).with(&asked_name(&asked.query), 60, cname("edge.example.net."));
            vec![Action::Reply(reply.with("edge.example.net.", 60, a("192.0.2.7")).to_wire())]
        })
        .await;
        let gate = prompt(way, &[&upstream]).await;
        for _ in 0..3 {
            assert_eq!(data(&gate.ask(&ask("www.example.com")).await)[1], "192.0.2.7");
            gate.change_table(|table| with_ids(table, &["priv1", "priv2"]));
        }
        assert_eq!(times(&upstream, "www.example.com"), 1, "{way}");
    }
}

/// The worker asks nothing that the resolver is asking.
#[tokio::test]
async fn who_asks_by_a_datagram_what_is_asked_over_tcp_already_waits_for_the_same_answer() {
    let upstream =
        known_and(|asked| vec![Action::Wait(Duration::from_millis(200)), Action::Reply(good(&asked.query))]).await;
    let gate = prompt("udp", &[&upstream]).await;
    let question = ask("www.example.com");
    let over_udp = async {
        until("it is asked", || async { times(&upstream, "www.example.com") == 1 }).await;
        gate.ask(&question).await
    };
    let (over_tcp, over_udp): (Message, Message) = tokio::join!(gate.ask_tcp(&question), over_udp);
    assert_eq!((data(&over_tcp), data(&over_udp)), (vec!["192.0.2.1".into()], vec!["192.0.2.1".into()]));
    assert_eq!(times(&upstream, "www.example.com"), 1);
}

/// All else here would hold as well if the resolver asked from the beginning.
#[tokio::test]
async fn it_is_the_worker_that_asks_a_prompt_server_and_the_resolver_after_a_while() {
    for way in WAYS {
        let upstream =
            known_and(|asked| vec![Action::Wait(Duration::from_millis(600)), Action::Reply(good(&asked.query))]).await;
        let gate = prompt(way, &[&upstream]).await;
        let resolver = Arc::clone(&gate.plane.service().borrow().resolver);
        let under_way = || (resolver.direct().load(Ordering::Relaxed), resolver.in_flight());
        let question = ask("www.example.com");
        let seen = async {
            until("the worker asks", || async { under_way() == (1, 1) }).await;
            until("the resolver goes on with it", || async { under_way() == (1, 2) }).await;
        };
        let (reply, ()) = tokio::join!(gate.ask(&question), seen);
        assert_eq!((data(&reply), times(&upstream, "www.example.com")), (vec!["192.0.2.1".to_owned()], 1), "{way}");
    }
}

/// What is known of a server goes for its transport: where a stream is configured, no datagram leaves.
#[tokio::test]
async fn a_server_that_is_asked_over_tcp_is_sent_no_datagram() {
    let upstream = known_and(|asked| vec![Action::Reply(good(&asked.query))]).await;
    let gate = prompt("tcp", &[&upstream]).await;
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    assert!(upstream.asked().iter().all(|asked| asked.tcp));
}

/// What many clients ask in one moment goes out together; each reply has to find its question.
#[tokio::test]
async fn many_different_questions_share_one_connection_and_each_has_its_own_answer() {
    let upstream = known_and(|asked| {
        let name = asked_name(&asked.query);
        let number: u8 = name[1..name.find('.').unwrap()].parse().unwrap();
        // Late ones first.
        let wait = Duration::from_millis(u64::from(200 - number) / 10);
        let reply = Answer::to(&asked.query).with(&name, 60, a(&format!("192.0.2.{number}")));
        vec![Action::Wait(wait), Action::Reply(reply.to_wire())]
    })
    .await;
    let gate = prompt("tcp", &[&upstream]).await;
    let asks = (0..200).map(|number| {
        let gate = &gate;
        async move {
            let reply = gate.ask(&ask(&format!("n{number}.example.com"))).await;
            assert_eq!(data(&reply), [format!("192.0.2.{number}")]);
        }
    });
    join_all(asks).await;
    let connections: HashSet<SocketAddr> = upstream.asked().iter().map(|asked| asked.from).collect();
    assert_eq!((upstream.count(), connections.len()), (201, 1));
}

/// A stream carries any length, so there is nothing better to be had from a server that cuts its answers there.
#[tokio::test]
async fn an_answer_cut_on_a_stream_is_asked_of_the_next() {
    let cuts = known_and(|asked| vec![Action::Reply(Answer::to(&asked.query).flag(0x0200).to_wire())]).await;
    let next = known_and(|asked| vec![Action::Reply(good(&asked.query))]).await;
    let gate = prompt("tcp", &[&cuts, &next]).await;
    assert_eq!(data(&gate.ask(&ask("www.example.com")).await), ["192.0.2.1"]);
    assert_eq!((times(&cuts, "www.example.com"), times(&next, "www.example.com")), (1, 1));
}

/// Servers close connections that are idle, and some after each reply.
#[tokio::test]
async fn a_connection_that_was_closed_is_made_again_without_anybody_noticing() {
    let upstream = known_and(|asked| vec![Action::Reply(good(&asked.query)), Action::Close]).await;
    let gate = prompt("tcp", &[&upstream]).await;
    for number in 0..20 {
        let name = format!("n{number}.example.com");
        assert_eq!(data(&gate.ask(&ask(&name)).await), ["192.0.2.1"], "{name}");
        assert_eq!(times(&upstream, &name), 1, "{name}");
    }
}

#[tokio::test]
async fn where_nothing_listens_any_more_the_client_is_told_so_at_once() {
    let closed = Closed::reserve().await;
    let gate = Gate::start(&[closed.address]);
    let started = Instant::now();
    for name in ["a.example.com", "b.example.com"] {
        assert_eq!(code(&gate.ask(&ask(name)).await), ResponseCode::ServFail);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
