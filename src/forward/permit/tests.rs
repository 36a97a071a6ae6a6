//! What may be dialled, by which entrance, and which way it goes.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::policy::{Addresses, EndpointIndex, Knowledge, Names, NotReady, Origin, PrivateIds};

const ZONE: &str = "execute-api.us-east-1.amazonaws.com";

fn table() -> Table {
    let endpoint = |region: &str| Endpoint {
        region: region.parse().unwrap(),
        vpce_id: None,
        addresses: Addresses { v4: vec![Ipv4Addr::new(10, 0, 1, 10)], ..Addresses::default() },
        port: 443,
    };
    let names = Names {
        private_names: [("orders.corp.example".parse().unwrap(), EndpointIndex(0))].into(),
        ..Names::default()
    };
    let mut ids = PrivateIds::default();
    let everywhere = Knowledge::of(&Origin::Static);
    ids.add(&"a1b2c3d4e5".parse().unwrap(), everywhere);
    let mut table = Table::new(vec![endpoint("us-east-1"), endpoint("eu-west-1")], Arc::new(names), None).unwrap();
    table.ids = Arc::new(ids);
    table
}

fn rules(others: Others) -> Destinations {
    let entry = |name: &str, below, port| AllowedDestination { name: name.parse().unwrap(), below, port };
    Destinations { allow: vec![entry("partner.example", false, 443), entry("lab.example", true, 8443)], others }
}

fn ask(entrance: Entrance, others: Others, target: &str) -> Result<Permit, Refusal> {
    permit(&table(), &rules(others), entrance, Destination::of_connect(target).unwrap())
}

#[test]
fn names_of_ours_and_allowed_ones_pass_every_entrance() {
    for entrance in [Entrance::Connect, Entrance::Sni, Entrance::Http] {
        let way = |target: &str| ask(entrance, Others::Refuse, target).map(|permit| permit.way.label());
        assert_eq!(way(&format!("a1b2c3d4e5.{ZONE}:443")), Ok("endpoint"));
        assert_eq!(way(&format!("f6g7h8i9j0.{ZONE}:443")), Ok("public"));
        assert_eq!(way("orders.corp.example:443"), Ok("endpoint"));
        assert_eq!(way("partner.example:443"), Ok("public"));
        assert_eq!(way("x.lab.example:8443"), Ok("public"));
        for refused in ["lab.example:8443", "x.lab.example:443", "sub.partner.example:443", "partner.example:80"] {
            assert_eq!(way(refused).unwrap_err().cause, Cause::NotAllowed, "{refused}");
        }
        let other_port = way(&format!("a1b2c3d4e5.{ZONE}:8443")).unwrap_err();
        assert_eq!(other_port.cause, Cause::NotAllowed);
        assert!(other_port.words.contains("port 443 only"), "{other_port}");
    }
}

#[test]
fn other_names_pass_connect_only_where_it_is_direct_and_only_on_443() {
    assert!(ask(Entrance::Connect, Others::Direct, "www.example.com:443").is_ok());
    for (entrance, others, target) in [
        (Entrance::Connect, Others::Refuse, "www.example.com:443"),
        (Entrance::Connect, Others::Direct, "www.example.com:22"),
        (Entrance::Sni, Others::Direct, "www.example.com:443"),
        (Entrance::Http, Others::Direct, "www.example.com:443"),
    ] {
        let refusal = ask(entrance, others, target).unwrap_err();
        assert_eq!(refusal.cause, Cause::NotAllowed);
        assert!(refusal.words.contains("forward.allow"), "{refusal}");
    }
}

#[test]
fn only_other_names_may_lead_to_addresses_of_the_vpc() {
    let inside = |others, target: &str| ask(Entrance::Connect, others, target).unwrap().may_stay_inside;
    assert!(inside(Others::Direct, "www.example.com:443"));
    assert!(!inside(Others::Refuse, "partner.example:443"), "the public route of an allowed name");
    assert!(!inside(Others::Direct, &format!("f6g7h8i9j0.{ZONE}:443")), "a public API is never inside");
}

#[test]
fn what_the_policy_cannot_connect_is_told_apart() {
    let mut table = table();
    let rules = rules(Others::Refuse);
    let cause = |table: &Table, host: &str| {
        permit(table, &rules, Entrance::Sni, Destination::of_connect(&format!("{host}:443")).unwrap())
            .unwrap_err()
            .cause
    };
    assert_eq!(cause(&table, &format!("x.a1b2c3d4e5.{ZONE}")), Cause::NoSuchName);
    assert_eq!(cause(&table, "below.orders.corp.example"), Cause::NoSuchName);
    table.not_ready = Some(NotReady { source: "file ids".into(), last_error: None });
    assert_eq!(cause(&table, &format!("f6g7h8i9j0.{ZONE}")), Cause::NotReady);
    table.set_addresses(EndpointIndex(0), Addresses::default());
    assert_eq!(cause(&table, &format!("a1b2c3d4e5.{ZONE}")), Cause::NoAddress);
}

/// T14: the header overrules the Host at the far side.
#[test]
fn an_api_id_header_must_lead_where_the_name_leads() {
    let table = table();
    let check = |target: &str, id: &str| {
        let permit = ask(Entrance::Http, Others::Refuse, &format!("{target}:443")).unwrap();
        permit_api_id(&table, &permit, id.as_bytes()).map_err(|refusal| refusal.cause)
    };
    let (private, public) = (format!("a1b2c3d4e5.{ZONE}"), format!("f6g7h8i9j0.{ZONE}"));
    assert_eq!(check(&private, "a1b2c3d4e5"), Ok(()));
    assert_eq!(check(ZONE, "a1b2c3d4e5"), Ok(()));
    assert_eq!(check("orders.corp.example", "a1b2c3d4e5"), Ok(()));
    assert_eq!(check(&public, "k1l2m3n4o5"), Ok(()));
    assert_eq!(check(&public, "a1b2c3d4e5"), Err(Cause::Mismatch), "a public host must not open a private API");
    assert_eq!(check("partner.example", "a1b2c3d4e5"), Err(Cause::Mismatch));
    assert_eq!(check(&private, "f6g7h8i9j0"), Err(Cause::Mismatch));
    assert_eq!(check(ZONE, "f6g7h8i9j0"), Err(Cause::Mismatch));
    assert_eq!(check(&private, "a1b2c3d4e5, f6g7h8i9j0"), Err(Cause::Mismatch));
}
