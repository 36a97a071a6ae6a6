//! What a reply looks like whatever it says: flags, question, OPT record, size; and what gets no regular answer.

use super::*;
use crate::dns::cache::Validity;
use crate::dns::question::Question;

#[test]
fn the_question_comes_back_in_the_case_it_was_asked_in() {
    let packet = ask(&format!("PriV1.{}", US.to_uppercase()), rtype::A);
    let (_, out) = outcome(&table(), &packet, ReplyLimit::Udp);
    assert_eq!(out[12..packet.len()], packet[12..]);
    assert_eq!(answers(&table(), &format!("PriV1.{}", US.to_uppercase()), rtype::A).len(), 3);
}

#[test]
fn id_rd_and_cd_are_copied_and_we_are_a_resolver_without_authority() {
    for (sent, expected) in [(0x0000, 0x8080), (0x0100, 0x8180), (0x0010, 0x8090), (0x0130, 0x8190)] {
        let mut packet = ask(US, rtype::A);
        packet[..2].copy_from_slice(&[0xbe, 0xef]);
        packet[2..4].copy_from_slice(&u16::to_be_bytes(sent));
        let (_, out) = outcome(&table(), &packet, ReplyLimit::Udp);
        assert_eq!(out[..2], [0xbe, 0xef]);
        assert_eq!(u16::from_be_bytes([out[2], out[3]]), expected, "{sent:04x} sent");
    }
}

#[test]
fn an_opt_record_comes_back_only_to_those_who_sent_one_and_with_their_do_bit() {
    for name in [format!("priv1.{US}"), format!("x.priv1.{US}"), HEALTH_NAME.to_owned()] {
        assert!(reply(&table(), &ask(&name, rtype::TXT)).edns.is_none());
        for dnssec_ok in [false, true] {
            let edns = reply(&table(), &with_opt(ask(&name, rtype::TXT), 4096, 0, dnssec_ok)).edns.unwrap();
            assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, 1232, dnssec_ok), "{name}");
        }
    }
}

#[test]
fn a_reply_never_exceeds_what_the_client_takes_and_a_cut_one_holds_only_the_question() {
    let mut table = table();
    let many =
        |count: u8| Addresses { v4: (0..count).map(|last| [10, 0, 0, last].into()).collect(), ..Addresses::default() };
    let plain = ask(US, rtype::A);
    let offering = |size| with_opt(plain.clone(), size, 0, false);
    for (count, packet, limit, whole) in [
        (28, plain.clone(), ReplyLimit::Udp, true),
        (29, plain.clone(), ReplyLimit::Udp, false),
        (29, plain.clone(), ReplyLimit::LoopbackUdp, false),
        (29, plain.clone(), ReplyLimit::Stream, true),
        (29, offering(100), ReplyLimit::Udp, false),
        (29, offering(1232), ReplyLimit::Udp, true),
        (100, offering(4096), ReplyLimit::Udp, false),
        (100, offering(4096), ReplyLimit::LoopbackUdp, true),
        (100, offering(1232), ReplyLimit::LoopbackUdp, false),
    ] {
        table.set_addresses(EndpointIndex(0), many(count));
        let (_, out) = outcome(&table, &packet, limit);
        let reply = Proto::from_vec(&out).unwrap();
        assert_eq!(reply.metadata.truncation, !whole, "{count} addresses, {limit:?}");
        assert_eq!(reply.answers.len(), if whole { count.into() } else { 0 });
        assert_eq!(reply.authorities.len() + reply.additionals.len(), 0);
        assert_eq!(reply.queries.len(), 1);
        assert_eq!(reply.edns.is_some(), packet.len() > plain.len());
    }
}

#[test]
fn a_later_edns_version_is_told_ours() {
    let reply = reply(&table(), &with_opt(ask(US, rtype::A), 1232, 1, false));
    assert_eq!(u16::from(reply.metadata.response_code), rcode::BADVERS);
    assert_eq!((reply.edns.unwrap().version(), reply.answers.len()), (0, 0));
}

#[test]
fn a_client_that_is_not_permitted_is_refused_whatever_it_asks() {
    for name in [format!("priv1.{US}"), "example.com".to_owned(), HEALTH_NAME.to_owned()] {
        let mut out = Vec::new();
        let packet = with_opt(ask(&name, rtype::A), 1232, 0, false);
        let cache = Cache::new(1 << 16);
        let responded = respond(&packet, sources(&table(), &cache), false, Instant::now(), ReplyLimit::Udp, &mut out);
        assert_eq!((responded.outcome, responded.way), (Outcome::Reply, Way::Refused));
        let reply = Proto::from_vec(&out).unwrap();
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::Refused, 0));
        assert_eq!(extended_error(&reply).0, 18);
    }
}

#[test]
fn the_health_name_says_ok_and_nothing_else_beside_it_exists_or_is_asked_upstream() {
    let table = table();
    assert_eq!(answers(&table, "Health.Sidegate.invalid", rtype::TXT), ["ok"]);
    let never_upstream = [
        (HEALTH_NAME, rtype::A),
        (HEALTH_NAME, rtype::ANY),
        ("sidegate.invalid", rtype::TXT),
        ("x.health.sidegate.invalid", rtype::TXT),
        ("other.sidegate.invalid", rtype::AAAA),
    ];
    for (name, qtype) in never_upstream {
        let reply = reply(&table, &ask(name, qtype));
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NXDomain, 0), "{name}");
    }
    for name in ["invalid", "xsidegate.invalid", "sidegate.invalid.example"] {
        assert_eq!(outcome(&table, &ask(name, rtype::TXT), ReplyLimit::Udp).0, Outcome::Ask(Upstream::Vpc), "{name}");
    }
}

#[test]
fn a_cached_answer_is_served_by_its_age_to_those_who_asked_the_same_and_refreshed_before_it_runs_out() {
    let (table, cache, start) = (table(), Cache::new(1 << 20), Instant::now());
    let name: HostName = "example.com".parse().unwrap();
    let data = [192, 0, 2, 1].into();
    let record = Record { owner: name.wire().into(), rtype: rtype::A, class: 1, ttl: 100, rdata: data };
    let message = Message { answer: vec![record], ..Message::default() };
    let question = Question::new(name, rtype::A);
    let key = CacheKey::of_question(&question, Upstream::Vpc).unwrap();
    cache.insert(&key, Answer::encode(name.wire(), rtype::A, &message, 0), start, Validity::Always);
    let at = |packet: &[u8], seconds| {
        let (mut out, now) = (Vec::new(), start + Duration::from_secs(seconds));
        let responded = respond(packet, sources(&table, &cache), true, now, ReplyLimit::Udp, &mut out);
        (responded.outcome, Proto::from_vec(&out).ok().map(|reply| reply.answers[0].ttl))
    };
    let packet = ask("EXAMPLE.com", rtype::A);
    assert_eq!(at(&packet, 0), (Outcome::Reply, Some(100)));
    assert_eq!(at(&packet, 89), (Outcome::Reply, Some(11)));
    assert_eq!(at(&packet, 91), (Outcome::ReplyAndRefresh(Upstream::Vpc), Some(9)));
    assert_eq!(at(&packet, 100).0, Outcome::Ask(Upstream::Vpc));
    assert_eq!(at(&with_opt(packet, 1232, 0, true), 1).0, Outcome::Ask(Upstream::Vpc), "DO asks for more");
}

/// Whether a packet is a plain question: anything else must never reach an upstream.
fn is_a_query(packet: &[u8]) -> bool {
    packet.len() >= 12 && packet[2] & 0xf8 == 0 && packet[4..6] == [0, 1] && packet[6..10] == [0; 4]
}

fn allowed(packet: &[u8], limit: ReplyLimit) -> usize {
    let offered = match Query::parse(packet) {
        Ok(Query { edns: Some(edns), .. }) => edns.udp_size.into(),
        Ok(_) | Err(_) => 512,
    };
    match limit {
        ReplyLimit::Udp => offered.min(1232),
        ReplyLimit::LoopbackUdp => offered,
        ReplyLimit::Stream => 65_535,
    }
}

/// Queries that are right, then spoilt at some octets or cut or lengthened.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let host = prop_oneof![
        Just(format!("priv1.{US}")),
        Just(format!("x.priv1.{EU}")),
        Just(format!("priv1.{AP}")),
        Just(HEALTH_NAME.to_owned()),
        "[a-zA-Z0-9]{1,63}(\\.[a-z]{1,40}){0,4}",
    ];
    let sound = (host, any::<u16>(), any::<Option<(u16, bool)>>()).prop_map(|(host, qtype, opt)| match opt {
        Some((size, dnssec_ok)) => with_opt(ask(&host, qtype), size, 0, dnssec_ok),
        None => ask(&host, qtype),
    });
    let spoilt = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let tail = prop::collection::vec(any::<u8>(), 0..8);
    let near = (sound, spoilt, tail, 0..3u8).prop_map(|(mut packet, spoilt, tail, way)| {
        for (at, octet) in spoilt {
            let at = at.index(packet.len());
            packet[at] = octet;
        }
        match way {
            0 => packet.extend(tail),
            1 => packet.truncate(packet.len() - tail.len()),
            _ => {}
        }
        packet
    });
    prop_oneof![4 => near, 1 => prop::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn whatever_comes_in_what_goes_out_is_a_reply_to_it_of_a_size_it_allows(
        packet in any_packet(),
        permitted: bool,
        limit in prop_oneof![Just(ReplyLimit::Udp), Just(ReplyLimit::LoopbackUdp), Just(ReplyLimit::Stream)],
    ) {
        let mut out = Vec::new();
        let cache = Cache::new(0);
        let responded = respond(&packet, sources(&table(), &cache), permitted, Instant::now(), limit, &mut out);
        match responded.outcome {
            Outcome::Ask(_) => prop_assert!(permitted && is_a_query(&packet)),
            Outcome::Drop => prop_assert!(packet.len() < 12 || packet[2] & 0x80 != 0),
            Outcome::Reply | Outcome::ReplyAndRefresh(_) => {
                prop_assert!(out.len() <= allowed(&packet, limit), "{} octets", out.len());
                prop_assert_eq!(&out[..2], &packet[..2]);
                let reply = Proto::from_vec(&out);
                prop_assert!(reply.is_ok(), "{:?}: {:?}", reply, out);
                prop_assert_eq!(reply.map(|reply| u16::from(reply.metadata.response_code)).ok(), Some(responded.rcode));
            }
        }
    }
}
