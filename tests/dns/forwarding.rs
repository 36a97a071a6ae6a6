//! Everything the policy does not answer is forwarded as a message: what belongs to the answer survives, what belongs
//! to one hop does not.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{RData, RecordType};

use crate::gate::{Gate, config, loopback, table};
use crate::upstream::{Action, Upstream};
use crate::wire::{A, Answer, Ask, TXT_TYPE, a, cname, code, data, extended_errors, options, read, txt};
use sidegate::dns::Upstreams;
use sidegate::dns::upstream::Server;
use sidegate::policy::Upstream as Group;

#[tokio::test]
async fn a_type_that_nobody_knows_comes_through_byte_for_byte() {
    let bytes = b"\x03www\xc0\x0c\x00\xff".to_vec();
    let rdata = RData::Unknown { code: RecordType::Unknown(65_280), rdata: NULL::with(bytes.clone()) };
    let upstream =
        Upstream::answering(move |query| Answer::to(query).with("www.example.com", 60, rdata.clone()).to_wire()).await;
    let gate = Gate::start(&[upstream.address]);
    let reply = gate.udp(&Ask::new("www.example.com", 65_280).to_wire()).await;
    assert!(reply.ends_with(&bytes));
    assert_eq!(data(&read(&reply)).len(), 1);
}

#[tokio::test]
async fn nine_kilobytes_of_text_come_whole_over_tcp_and_as_truncated_over_udp() {
    let whole = |query: &[u8]| Answer::to(query).with("big.example.com", 60, txt(9_000)).to_wire();
    let upstream = Upstream::start(move |asked| {
        let cut = Answer::to(&asked.query).flag(0x0200).to_wire();
        vec![Action::Reply(if asked.tcp { whole(&asked.query) } else { cut })]
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    for ask in [Ask::new("big.example.com", TXT_TYPE), Ask::new("big.example.com", TXT_TYPE).edns(4096, false)] {
        let cut = gate.ask(&ask).await;
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        let whole = gate.ask_tcp(&ask).await;
        assert!(!whole.metadata.truncation);
        assert_eq!(whole.answers[0].data.to_string().len(), txt(9_000).to_string().len());
    }
    assert_eq!(upstream.asked().iter().map(|asked| asked.tcp).collect::<Vec<_>>(), [false, true], "asked once");
    let loopback = gate.ask(&Ask::new("big.example.com", TXT_TYPE).edns(16_000, false)).await;
    assert_eq!(loopback.answers.len(), 1, "a client on this host gets what it offers");
}

#[tokio::test]
async fn chains_of_names_come_through_in_their_order() {
    let upstream = Upstream::answering(|query| {
        let mut answer = Answer::to(query);
        for link in 0..7 {
            answer = answer.with(&format!("n{link}.example.com"), 60, cname(&format!("n{}.example.com", link + 1)));
        }
        answer.with("n7.example.com", 60, a("192.0.2.7")).to_wire()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    let reply = gate.ask(&Ask::new("n0.example.com", A)).await;
    assert_eq!(reply.answers.len(), 8);
    assert_eq!(data(&reply)[7], "192.0.2.7");
}

#[tokio::test]
async fn result_codes_and_extended_errors_are_the_upstreams() {
    let upstream = Upstream::answering(|query| {
        Answer::to(query).rcode(3).soa("example.com", 60).option(15, b"\x00\x11filtered here").to_wire()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    for _ in ["asked", "from the cache"] {
        let reply = gate.ask(&Ask::new("www.example.com", A).edns(1232, false)).await;
        assert_eq!(code(&reply), ResponseCode::NXDomain);
        assert_eq!(extended_errors(&reply), [(17, "filtered here".to_owned())]);
        assert_eq!(reply.authorities.len(), 1);
    }
    assert_eq!(upstream.count(), 1);
    assert!(gate.ask(&Ask::new("www.example.com", A)).await.edns.is_none());
}

#[tokio::test]
async fn do_cd_ad_and_the_client_subnet_go_on_and_nothing_else_of_the_clients_hop_does() {
    const SUBNET: &[u8] = &[0, 1, 24, 0, 192, 0, 2];
    const SCOPED: &[u8] = &[0, 1, 24, 20, 192, 0, 2];
    let upstream = Upstream::answering(|query| {
        Answer::to(query)
            .with("www.example.com", 60, a("192.0.2.1"))
            .flag(0x0020)
            .option(3, b"server-7")
            .option(8, SCOPED)
            .option(10, &[1; 24])
            .option(11, &[0, 100])
            .option(12, &[0; 40])
            .to_wire()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    let ask = Ask::new("www.example.com", A)
        .flags(0x0130)
        .edns(4096, true)
        .option(3, &[])
        .option(8, SUBNET)
        .option(10, &[2; 8])
        .option(11, &[])
        .option(12, &[0; 20]);
    for reply in [gate.ask(&ask).await, gate.ask_tcp(&ask).await] {
        assert_eq!(options(&reply), [(8, SCOPED.to_vec())], "only the subnet comes back");
        assert!(reply.metadata.authentic_data && reply.metadata.checking_disabled);
        assert!(reply.edns.unwrap().flags().dnssec_ok);
    }
    for asked in upstream.asked() {
        let query = read(&asked.query);
        assert_eq!(options(&query), [(8, SUBNET.to_vec())], "only the subnet goes on");
        assert!(query.metadata.authentic_data && query.metadata.checking_disabled);
        let edns = query.edns.unwrap();
        assert_eq!((edns.flags().dnssec_ok, edns.max_payload()), (true, 1232));
    }
    assert_eq!(upstream.count(), 2, "an answer made for a subnet is not kept");
}

#[tokio::test]
async fn authentic_data_is_passed_on_to_those_who_asked_and_never_made_up() {
    let upstream = Upstream::answering(|query| {
        let answer = Answer::to(query).with("www.example.com", 60, a("192.0.2.1"));
        (if read(query).metadata.authentic_data { answer.flag(0x0020) } else { answer }).to_wire()
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    let authentic = async |ask: &Ask| gate.ask(ask).await.metadata.authentic_data;
    assert!(authentic(&Ask::new("www.example.com", A).flags(0x0120)).await);
    assert!(!authentic(&Ask::new("www.example.com", A)).await);
    assert!(!authentic(&Ask::new("www.example.com", A).edns(1232, true)).await);
}

#[tokio::test]
async fn the_case_of_the_question_is_the_clients_whatever_was_asked_or_cached() {
    let upstream =
        Upstream::answering(|query| Answer::to(query).with("www.example.com", 60, a("192.0.2.1")).to_wire()).await;
    let gate = Gate::start(&[upstream.address]);
    for name in ["www.Example.COM", "WWW.example.com", "wWw.eXaMpLe.CoM"] {
        assert_eq!(gate.ask(&Ask::new(name, A)).await.queries[0].name().to_ascii(), format!("{name}."));
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn each_group_is_asked_for_its_own_names_over_the_transport_it_is_written_with() {
    let named = |address: &'static str| {
        Upstream::answering(move |query| {
            let owner = crate::wire::asked_name(query);
            Answer::to(query).with(&owner, 60, a(address)).to_wire()
        })
    };
    let (public, vpc, zone) = (named("192.0.2.1").await, named("192.0.2.2").await, named("192.0.2.3").await);
    let over_tcp = |upstream: &Upstream| vec![format!("tcp://{}", upstream.address).parse::<Server>().unwrap()];
    let upstreams = Upstreams {
        public: vec![Server::udp(public.address)],
        vpc: over_tcp(&vpc),
        zones: vec![vec![Server::udp(zone.address)]],
        ..Upstreams::default()
    };
    let gate = Gate::with(config(&[loopback()], upstreams), table(Group::Vpc));
    for (name, address) in [
        ("unknown1.execute-api.us-east-1.amazonaws.com", "192.0.2.1"),
        ("www.example.com", "192.0.2.2"),
        ("db.corp.internal", "192.0.2.3"),
        ("priv1.execute-api.us-east-1.amazonaws.com", "10.0.0.1"),
    ] {
        assert_eq!(data(&gate.ask(&Ask::new(name, A)).await), [address], "{name}");
    }
    assert_eq!((public.count(), vpc.count(), zone.count()), (1, 1, 1));
    assert!(vpc.asked()[0].tcp && !public.asked()[0].tcp);
}

#[tokio::test]
async fn equal_questions_in_flight_are_asked_once_and_unequal_ones_are_not_merged() {
    let upstream = Upstream::start(|asked| {
        let reply = Answer::to(&asked.query).with("www.example.com", 60, a("192.0.2.1")).to_wire();
        vec![Action::Wait(Duration::from_millis(250)), Action::Reply(reply)]
    })
    .await;
    let gate = Gate::start(&[upstream.address]);
    let variants = [
        Ask::new("www.example.com", A),
        Ask::new("www.example.com", A).edns(1232, true),
        Ask::new("www.example.com", A).flags(0x0110),
    ];
    let asks = variants.iter().flat_map(|ask| (0..50).map(|_| gate.ask(ask)));
    for reply in futures_util::future::join_all(asks).await {
        assert_eq!(data(&reply), ["192.0.2.1"]);
    }
    let seen: std::collections::HashSet<Vec<u8>> =
        upstream.asked().into_iter().map(|asked| asked.query[2..].to_vec()).collect();
    assert_eq!((upstream.count(), seen.len()), (3, 3));
}
