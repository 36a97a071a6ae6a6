//! Reading all of an account.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::gateway::{account, api, id, page, parameter, private, throttled};
use super::program::Program;
use super::server::{Server, answer, header, name_server};

fn ids(listed: &[Value]) -> Vec<&str> {
    listed.iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[test]
fn all_pages_are_read_500_at_a_time_and_only_private_apis_are_listed() {
    let kinds = ["PRIVATE", "REGIONAL", "EDGE"];
    let server = account((0..1200).map(|number| api(number, kinds[number % 3])).collect());
    let listed = Program::asking(&server.url()).with_keys().discovered();
    let expected: Vec<_> = (0..1200).step_by(3).map(id).collect();
    assert_eq!(ids(&listed), expected);
    let positions: Vec<_> = server.asked().iter().map(|asked| parameter(asked, "position")).collect();
    assert_eq!(positions, [None, Some("p-500".to_owned()), Some("p-1000".to_owned())]);
    assert!(server.asked().iter().all(|asked| parameter(asked, "limit").unwrap() == "500"));
}

#[test]
fn every_request_is_signed_for_the_region() {
    let server = account(private(0..1));
    Program::asking(&server.url()).with_keys().with("AWS_SESSION_TOKEN", "session").discovered();
    let asked = &server.asked()[0];
    let authorization = header(asked, "authorization");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDFROMENV/"), "{authorization}");
    assert!(authorization.contains("/us-east-1/apigateway/aws4_request"), "{authorization}");
    assert_eq!(header(asked, "x-amz-security-token"), "session");
    assert_ne!(header(asked, "x-amz-date"), "");
    assert_eq!(header(asked, "host"), server.address.to_string());
}

#[test]
fn its_name_is_asked_of_the_vpc_upstream() {
    let server = account(private(0..1));
    let url = format!("http://apigateway.lab.example:{}", server.address.port());
    let listed = Program::asking(&url).with_vpc(&name_server()).with_keys().discovered();
    assert_eq!(ids(&listed), [id(0)]);
    assert!(header(&server.asked()[0], "host").starts_with("apigateway.lab.example:"));
}

#[test]
fn region_name_and_endpoints_come_along() {
    let mut bound = api(1, "PRIVATE");
    bound["endpointConfiguration"]["vpcEndpointIds"] = json!(["vpce-0123456789abcdef0", "no endpoint"]);
    let server = account(vec![bound]);
    let program = Program::new().with_keys().configured(&format!(
        "[[discovery]]\nkind = \"api-gateway\"\nregion = \"eu-west-1\"\nendpoint_url = \"{}\"",
        server.url()
    ));
    let listed = program.discovered();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], id(1));
    assert_eq!(listed[0]["name"], "orders 1");
    assert_eq!(listed[0]["region"], "eu-west-1");
    assert_eq!(listed[0]["vpc_endpoint_ids"], json!(["vpce-0123456789abcdef0"]));
    assert!(header(&server.asked()[0], "authorization").contains("/eu-west-1/apigateway/"));
}

#[test]
fn a_type_counts_as_it_is_now() {
    let private_now = Arc::new(AtomicBool::new(true));
    let server = Server::start({
        let private_now = Arc::clone(&private_now);
        move |asked, _| {
            let kind = if private_now.load(Ordering::Relaxed) { "PRIVATE" } else { "REGIONAL" };
            page(&[api(1, kind), api(2, "PRIVATE")], asked)
        }
    });
    let program = Program::asking(&server.url()).with_keys();
    assert_eq!(program.discovered().len(), 2);
    private_now.store(false, Ordering::Relaxed);
    assert_eq!(ids(&program.discovered()), [id(2)]);
}

#[test]
fn an_id_that_is_none_is_left_out_and_the_others_are_read() {
    let mut odd = api(1, "PRIVATE");
    odd["id"] = json!("no.id");
    let server = account(vec![odd, api(2, "PRIVATE")]);
    assert_eq!(ids(&Program::asking(&server.url()).with_keys().discovered()), [id(2)]);
}

/// Takes the SDK's adaptive mode some 20 s.
#[test]
fn throttling_in_the_middle_is_waited_out() {
    let throttled_once = AtomicBool::new(false);
    let apis = private(0..600);
    let server = Server::start(move |asked, _| {
        if parameter(asked, "position").is_some() && !throttled_once.swap(true, Ordering::Relaxed) {
            return throttled();
        }
        page(&apis, asked)
    });
    assert_eq!(Program::asking(&server.url()).with_keys().discovered().len(), 600);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn an_account_without_private_apis_is_an_empty_list() {
    let server = account(vec![api(1, "REGIONAL")]);
    assert_eq!(Program::asking(&server.url()).with_keys().discovered(), [json!(null); 0]);
}

#[test]
fn pages_that_go_round_in_a_circle_are_an_error() {
    let server = Server::start(|_, _| answer(200, json!({ "item": private(0..1), "position": "again" }).to_string()));
    let error = Program::asking(&server.url()).with_keys().refused();
    assert!(error.contains("go round in a circle"), "{error}");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn pages_without_end_are_an_error() {
    let server = Server::start(|_, before| {
        answer(200, json!({ "item": private(before..before + 1), "position": format!("p-{before}") }).to_string())
    });
    let error = Program::asking(&server.url()).with_keys().refused();
    assert!(error.contains("more than 40 pages"), "{error}");
    assert_eq!(server.asked().len(), 40);
}
