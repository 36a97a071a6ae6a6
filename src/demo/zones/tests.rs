//! What a resolver answers from its zones, in particular from one that private DNS has captured.

use super::*;

const ZONE: &str = "execute-api.us-east-1.amazonaws.com";
const ENDPOINT: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 1, 10), Ipv4Addr::new(10, 0, 2, 10)];

fn zones() -> Zones {
    let mut zones = Zones::default();
    zones.add_zone(".").unwrap();
    zones.add_zone("example.com").unwrap();
    zones.add_captured_zone(ZONE, 60, &ENDPOINT).unwrap();
    zones.add_cname("api.example.com", 300, &format!("d-abcdef1234.{ZONE}")).unwrap();
    zones.add_a("a.deep.example.com", 300, &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
    zones
}

fn ask(name: &str, kind: RecordType) -> Answer {
    zones().answer(&Name::from_ascii(name).unwrap(), kind)
}

fn text(answer: &Answer) -> Vec<String> {
    answer.answers.iter().map(ToString::to_string).collect()
}

#[test]
fn a_captured_zone_answers_any_name_with_an_alias_of_its_apex_and_the_endpoint() {
    let answer = ask("Whatever.execute-api.us-east-1.amazonaws.com.", RecordType::A);
    assert_eq!(answer.code, ResponseCode::NoError);
    assert_eq!(
        text(&answer),
        [
            "Whatever.execute-api.us-east-1.amazonaws.com. 60 IN CNAME execute-api.us-east-1.amazonaws.com.",
            "execute-api.us-east-1.amazonaws.com. 60 IN A 10.0.1.10",
            "execute-api.us-east-1.amazonaws.com. 60 IN A 10.0.2.10",
        ]
    );
}

#[test]
fn a_chain_into_a_captured_zone_comes_back_whole_in_one_answer() {
    let owners: Vec<String> =
        ask("api.example.com.", RecordType::A).answers.iter().map(|record| record.name.to_string()).collect();
    let (target, apex) = (format!("d-abcdef1234.{ZONE}."), format!("{ZONE}."));
    assert_eq!(owners, ["api.example.com.", &target, &apex, &apex]);
}

#[test]
fn a_type_that_a_captured_name_lacks_is_no_data_with_the_soa_of_the_zone() {
    let answer = ask("whatever.execute-api.us-east-1.amazonaws.com.", RecordType::AAAA);
    assert_eq!((answer.code, answer.answers.len()), (ResponseCode::NoError, 1));
    assert_eq!(answer.soa.unwrap().name.to_string(), format!("{ZONE}."));
}

#[test]
fn the_apex_of_a_captured_zone_is_no_alias() {
    assert_eq!(ask(&format!("{ZONE}."), RecordType::A).answers.len(), 2);
}

#[test]
fn a_name_that_nobody_has_does_not_exist() {
    let answer = ask("nobody.example.com.", RecordType::A);
    assert_eq!((answer.code, answer.answers.len()), (ResponseCode::NXDomain, 0));
    assert_eq!(answer.soa.unwrap().name.to_string(), "example.com.");
}

#[test]
fn a_name_above_an_existing_one_exists_without_data() {
    assert_eq!(ask("deep.example.com.", RecordType::A).code, ResponseCode::NoError);
}

#[test]
fn a_question_for_cname_gets_the_alias_and_not_its_target() {
    assert_eq!(ask("api.example.com.", RecordType::CNAME).answers.len(), 1);
}

#[test]
fn aliases_that_go_round_are_a_server_failure() {
    let mut zones = zones();
    zones.add_cname("x.example.com", 60, "y.example.com").unwrap();
    zones.add_cname("y.example.com", 60, "x.example.com").unwrap();
    let answer = zones.answer(&Name::from_ascii("x.example.com.").unwrap(), RecordType::A);
    assert_eq!(answer.code, ResponseCode::ServFail);
}

#[test]
fn without_a_root_zone_a_foreign_name_is_refused() {
    let answer = Zones::default().answer(&Name::from_ascii("example.org.").unwrap(), RecordType::A);
    assert_eq!(answer.code, ResponseCode::Refused);
}
