//! Every row of the policy table as a sentence, then its properties.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::{Addresses, Names, PrivateIds, Region};

const ZONE: &str = "execute-api.us-east-1.amazonaws.com";

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn endpoint(region: &str, vpce_id: Option<&str>) -> Endpoint {
    Endpoint {
        region: region.parse().unwrap(),
        vpce_id: vpce_id.map(|id| id.parse().unwrap()),
        addresses: Addresses::default(),
        port: 443,
    }
}

fn vpce(id: &str) -> VpceId {
    id.parse().unwrap()
}

fn everywhere() -> Knowledge<'static> {
    Knowledge::of(&Origin::Static)
}

/// Names of API Gateway that no endpoint of ours stands for, and names that only look like them.
const OF_OTHERS: [&str; 4] = [
    "a1.execute-api.sa-east-1.amazonaws.com",
    "a1.execute-api.us-east-1.api.aws",
    "a1.execute-api-fips.us-east-1.amazonaws.com",
    "execute-api.cn-north-1.amazonaws.com.cn",
];

#[test]
fn what_may_come_back_from_the_vpcs_resolver_goes_to_public_dns_where_a_whole_vpc_asks() {
    let upstream = |whole_vpc, host: &str| {
        let mut table = table();
        table.names = Arc::new(Names { default_upstream: Upstream::Vpc, whole_vpc, ..Names::default() });
        let decision = route(&table, &name(host));
        assert_eq!(decision.rule, Rule::Default, "{host}");
        let Route::Upstream(upstream) = decision.route else { panic!("{host}: {decision:?}") };
        upstream
    };
    for host in OF_OTHERS {
        assert_eq!(upstream(true, host), Upstream::Public, "{host}");
        assert_eq!(upstream(false, host), Upstream::Vpc, "{host}");
    }
    for host in ["vpce-1.execute-api.us-east-1.vpce.amazonaws.com", "sqs.us-east-1.amazonaws.com", "db.example"] {
        assert_eq!(upstream(true, host), Upstream::Vpc, "{host}");
    }
}

/// Two endpoints in us-east-1, one in eu-west-1; some ids, names and zones.
fn table() -> Table {
    let names = Names {
        always_public_ids: ["pub1", "both1"].map(|id| id.parse().unwrap()).into(),
        always_public_names: [name("shop.example.com")].into(),
        private_names: [(name("orders.corp.example"), EndpointIndex(1))].into(),
        forward_zones: [(name("corp.internal"), 0), (name("deep.corp.internal"), 1)].into(),
        ..Names::default()
    };
    let endpoints = vec![
        endpoint("us-east-1", Some("vpce-0aaaaaaaaaaaaaaa0")),
        endpoint("us-east-1", Some("vpce-0bbbbbbbbbbbbbbb0")),
        endpoint("eu-west-1", Some("vpce-0ccccccccccccccc0")),
    ];
    let mut ids = PrivateIds::default();
    let (eu, second, third) =
        ("eu-west-1".parse().unwrap(), vpce("vpce-0bbbbbbbbbbbbbbb0"), vpce("vpce-0ccccccccccccccc0"));
    for (id, region, binding) in [
        ("priv1", None, None),
        ("both1", None, None),
        ("bound1", None, Some(Binding::Ids(std::slice::from_ref(&second)))),
        ("astray1", None, Some(Binding::Ids(std::slice::from_ref(&third)))),
        ("eu1", Some(&eu), Some(Binding::Index(EndpointIndex(2)))),
    ] {
        ids.add(&id.parse().unwrap(), Knowledge { region, binding, ..everywhere() });
    }
    let mut table = Table::new(endpoints, Arc::new(names), None).unwrap();
    table.ids = Arc::new(ids);
    table
}

/// The decision as the contract writes it: the rule's number and the way.
fn decide(table: &Table, host: &str) -> (u8, String) {
    let decision = route(table, &name(host));
    let way = match decision.route {
        Route::Endpoint(endpoint) => endpoint.label()[5..7].to_owned(),
        Route::NoSuchName => "nxdomain".to_owned(),
        Route::Upstream(upstream) => format!("{upstream:?}").to_lowercase(),
        Route::NotReady(_) => "not ready".to_owned(),
    };
    (decision.rule as u8, way)
}

#[test]
fn every_row_of_the_table_decides_as_written() {
    let table = table();
    for (host, rule, way) in [
        ("shop.example.com", 0, "public"),
        ("pub1.execute-api.us-east-1.amazonaws.com", 0, "public"),
        ("both1.execute-api.us-east-1.amazonaws.com", 0, "public"),
        ("orders.corp.example", 0, "0b"),
        ("execute-api.us-east-1.amazonaws.com", 1, "0a"),
        ("execute-api.eu-west-1.amazonaws.com", 1, "0c"),
        ("priv1.execute-api.us-east-1.amazonaws.com", 2, "0a"),
        ("priv1.execute-api.eu-west-1.amazonaws.com", 2, "0c"),
        ("bound1.execute-api.us-east-1.amazonaws.com", 2, "0b"),
        ("astray1.execute-api.us-east-1.amazonaws.com", 2, "0a"),
        ("eu1.execute-api.eu-west-1.amazonaws.com", 2, "0c"),
        ("eu1.execute-api.us-east-1.amazonaws.com", 5, "public"),
        ("any1-vpce-0bbbbbbbbbbbbbbb0.execute-api.us-east-1.amazonaws.com", 3, "0b"),
        ("any1-vpce-0ccccccccccccccc0.execute-api.us-east-1.amazonaws.com", 3, "public"),
        ("any1-vpce-0fffffffffffffff0.execute-api.us-east-1.amazonaws.com", 3, "public"),
        ("x.priv1.execute-api.us-east-1.amazonaws.com", 4, "nxdomain"),
        ("x.y.priv1.execute-api.us-east-1.amazonaws.com", 4, "nxdomain"),
        ("x.any1-vpce-0bbbbbbbbbbbbbbb0.execute-api.us-east-1.amazonaws.com", 4, "nxdomain"),
        ("v2.orders.corp.example", 4, "nxdomain"),
        ("unknown1.execute-api.us-east-1.amazonaws.com", 5, "public"),
        ("d-abcdefghij.execute-api.us-east-1.amazonaws.com", 5, "public"),
        ("priv1.unknown1.execute-api.us-east-1.amazonaws.com", 5, "public"),
        ("corp.internal", 6, "zone(0)"),
        ("a.corp.internal", 6, "zone(0)"),
        ("a.deep.corp.internal", 6, "zone(1)"),
        ("acorp.internal", 7, "public"),
        ("priv1.execute-api.us-west-2.amazonaws.com", 7, "public"),
        ("priv1.execute-api.us-east-1.api.aws", 7, "public"),
        ("priv1.execute-api-fips.us-east-1.amazonaws.com", 7, "public"),
        ("priv1.execute-api.us-east-1.amazonaws.com.cn", 7, "public"),
        ("priv1.execute-api.us-east-1.amazonaws.com.svc.cluster.local", 7, "public"),
        ("vpce-0aaaaaaaaaaaaaaa0-x.execute-api.us-east-1.vpce.amazonaws.com", 7, "public"),
        ("example.com", 7, "public"),
        (".", 7, "public"),
    ] {
        assert_eq!(decide(&table, host), (rule, way.to_owned()), "{host}");
    }
}

#[test]
fn every_partition_has_its_zone() {
    for (region, zone) in [
        ("us-gov-west-1", "execute-api.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "execute-api.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "execute-api.eusc-de-east-1.amazonaws.eu"),
        ("us-iso-east-1", "execute-api.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "execute-api.us-isob-east-1.sc2s.sgov.gov"),
        ("eu-isoe-west-1", "execute-api.eu-isoe-west-1.cloud.adc-e.uk"),
        ("us-isof-south-1", "execute-api.us-isof-south-1.csp.hci.ic.gov"),
    ] {
        let mut table = Table::new(vec![endpoint(region, None)], Arc::default(), None).unwrap();
        let mut ids = PrivateIds::default();
        ids.add(&"priv1".parse().unwrap(), everywhere());
        table.ids = Arc::new(ids);
        assert_eq!(route(&table, &name(&format!("priv1.{zone}"))).rule, Rule::PrivateId, "{zone}");
        assert_eq!(route(&table, &name(zone)).rule, Rule::Apex, "{zone}");
    }
}

#[test]
fn a_suffix_set_by_hand_replaces_the_partitions() {
    let suffix = name("lab.test");
    let table = Table::new(vec![endpoint("us-east-1", None)], Arc::default(), Some(&suffix)).unwrap();
    assert_eq!(route(&table, &name("execute-api.us-east-1.lab.test")).rule, Rule::Apex);
    assert_eq!(route(&table, &name(ZONE)).rule, Rule::Default);
}

#[test]
fn while_a_required_list_is_missing_possible_ids_wait_and_the_rest_goes_on() {
    let mut table = table();
    table.not_ready = Some(NotReady { source: "file /ids".into(), last_error: None });
    for (host, expected) in [
        ("unknown1", (5, "not ready")),
        ("x.unknown1", (5, "not ready")),
        ("d-abcdefghij", (5, "public")),
        ("priv1", (2, "0a")),
        ("pub1", (0, "public")),
    ] {
        assert_eq!(decide(&table, &format!("{host}.{ZONE}")), (expected.0, expected.1.to_owned()), "{host}");
    }
    assert_eq!(decide(&table, "example.com"), (7, "public".to_owned()));
}

#[test]
fn an_id_learned_from_public_dns_goes_to_the_endpoint_of_its_own_region_only() {
    let mut table = table();
    table.names = Arc::new(Names { learn: true, ..Names::default() });
    let learned = name(&format!("fresh1.{ZONE}"));
    assert!(route(&table, &learned).learnable);
    assert!(!route(&table, &name(&format!("x.fresh1.{ZONE}"))).learnable);
    assert!(!route(&table, &name(&format!("d-fresh1.{ZONE}"))).learnable);
    table.learned = Arc::new([learned].into());
    let decision = route(&table, &learned);
    assert_eq!((decision.rule, decision.origin), (Rule::PrivateId, Some(&Origin::Learned)));
    assert_eq!(decide(&table, "fresh1.execute-api.eu-west-1.amazonaws.com"), (5, "public".to_owned()));
}

#[test]
fn the_first_statement_that_names_an_endpoint_here_decides_the_endpoint_and_the_first_one_is_who_said_so() {
    let mut table = table();
    let (eu, here, elsewhere): (Region, _, _) =
        ("eu-west-1".parse().unwrap(), vpce("vpce-0bbbbbbbbbbbbbbb0"), vpce("vpce-0ddddddddddddddd0"));
    let source = Origin::Source("file /ids".into());
    let mut ids = PrivateIds::default();
    let id = "many1".parse().unwrap();
    let index = |index| Some(Binding::Index(EndpointIndex(index)));
    // Of another region; without an endpoint; with one that is not configured; with one that is; and one more.
    ids.add(&id, Knowledge { region: Some(&eu), binding: index(2), ..Knowledge::of(&Origin::Endpoint) });
    ids.add(&id, everywhere());
    ids.add(&id, Knowledge { binding: Some(Binding::Ids(std::slice::from_ref(&elsewhere))), ..Knowledge::of(&source) });
    ids.add(&id, Knowledge { binding: Some(Binding::Ids(&[elsewhere, here])), ..Knowledge::of(&source) });
    ids.add(&id, Knowledge { binding: index(0), ..Knowledge::of(&source) });
    table.ids = Arc::new(ids);
    let host = name(&format!("many1.{ZONE}"));
    assert_eq!(decide(&table, &format!("many1.{ZONE}")), (2, "0b".to_owned()));
    assert_eq!(route(&table, &host).origin, Some(&Origin::Static));
    let abroad = name("many1.execute-api.eu-west-1.amazonaws.com");
    assert_eq!(route(&table, &abroad).origin, Some(&Origin::Endpoint));
}

/// Names near the zones: the right one, one label off, and arbitrary ones.
fn any_host() -> impl Strategy<Value = String> {
    let label = "[a-z0-9]{1,12}|d-[a-z0-9]{3}|priv1|pub1|bound1|[a-z0-9]{3}-vpce-0bbbbbbbbbbbbbbb0";
    let zone = prop_oneof![
        Just(ZONE.to_owned()),
        Just("execute-api.eu-west-1.amazonaws.com".to_owned()),
        Just("execute-api.us-west-2.amazonaws.com".to_owned()),
        "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}",
    ];
    (prop::collection::vec(label, 0..4), zone)
        .prop_map(|(labels, zone)| labels.into_iter().chain([zone]).collect::<Vec<_>>().join("."))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        if let Ok(host) = HostName::from_wire(&bytes) {
            route(&table(), &host);
        }
    }

    #[test]
    fn case_and_trailing_dot_never_change_the_route(host in any_host(), seed: u64) {
        let table = table();
        let mixed: String = host.chars().enumerate()
            .map(|(i, c)| if seed >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .chain(['.'])
            .collect();
        prop_assert_eq!(route(&table, &name(&mixed)), route(&table, &name(&host)));
    }

    #[test]
    fn a_private_id_in_a_region_with_an_endpoint_is_never_public_unless_listed(id in "[a-z0-9]{1,12}", listed: bool) {
        let mut table = table();
        let mut ids = PrivateIds::default();
        ids.add(&id.parse().unwrap(), everywhere());
        table.ids = Arc::new(ids);
        let always_public_ids = listed.then(|| id.parse().unwrap()).into_iter().collect();
        table.names = Arc::new(Names { always_public_ids, ..Names::default() });
        let host = name(&format!("{id}.{ZONE}"));
        let decision = route(&table, &host);
        if listed {
            prop_assert_eq!((decision.route, decision.rule), (Route::Upstream(Upstream::Public), Rule::Listed));
        } else {
            prop_assert!(matches!(decision.route, Route::Endpoint(_)));
        }
    }

    #[test]
    fn anything_one_label_off_is_never_private(extra in "[a-z0-9]{1,8}", at in 0usize..6) {
        let table = table();
        let mut labels: Vec<&str> = "priv1.execute-api.us-east-1.amazonaws.com".split('.').collect();
        labels.insert(at, &extra);
        let inserted = name(&labels.join("."));
        prop_assert!(!matches!(route(&table, &inserted).route, Route::Endpoint(_)), "{}", inserted);
        labels.remove(at);
        if at < labels.len() {
            labels[at] = &extra;
            let replaced = name(&labels.join("."));
            prop_assume!(at > 0 || !["priv1", "bound1", "astray1"].contains(&extra.as_str()));
            prop_assert!(!matches!(route(&table, &replaced).route, Route::Endpoint(_)), "{}", replaced);
            labels.remove(at);
            let removed = name(&labels.join("."));
            prop_assert!(at == 0 || !matches!(route(&table, &removed).route, Route::Endpoint(_)), "{}", removed);
        }
    }
}
