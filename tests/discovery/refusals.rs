//! Reading nothing of an account, and saying why.

use std::time::{Duration, Instant};

use super::gateway::{account, page, parameter, private, refusal, throttled};
use super::program::{Program, closed_port};
use super::server::{Answer, Server, answer};

#[test]
fn a_failure_half_way_gives_no_list() {
    for sends_half in [false, true] {
        let apis = private(0..600);
        let server = Server::start(move |asked, _| match parameter(asked, "position") {
            None => page(&apis, asked),
            Some(_) if sends_half => Answer::Half(10_000, "{\"item\": ["),
            Some(_) => Answer::Nothing,
        });
        let error = Program::asking(&server.url()).with_keys().refused();
        assert!(error.contains(&format!("{}/restapis: no whole answer", server.url())), "{error}");
        // The first page, then every try of the second.
        assert_eq!(server.asked().len(), 1 + 3);
    }
}

#[test]
fn without_permission_the_error_says_which_one() {
    let message = "User: arn:aws:sts::111122223333:assumed-role/app is not authorized to perform: apigateway:GET";
    for (region, arn) in [
        ("us-east-1", "arn:aws:apigateway:us-east-1::/restapis"),
        ("cn-north-1", "arn:aws-cn:apigateway:cn-north-1::/restapis"),
        ("us-gov-west-1", "arn:aws-us-gov:apigateway:us-gov-west-1::/restapis"),
    ] {
        let server = Server::start(move |_, _| refusal(403, "AccessDeniedException", message));
        let source = format!(
            "[[discovery]]\nkind = \"api-gateway\"\nregion = \"{region}\"\nendpoint_url = \"{}\"",
            server.url()
        );
        let error = Program::new().with_keys().configured(&source).refused();
        assert!(error.contains(&format!("allow apigateway:GET on {arn}")) && error.contains(message), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn wrong_keys_are_told_from_missing_permissions() {
    let server = Server::start(|_, _| refusal(403, "UnrecognizedClientException", "The security token is invalid"));
    let error = Program::asking(&server.url()).with_keys().refused();
    assert!(error.contains("The security token is invalid") && error.contains("renew the credentials"), "{error}");
}

/// Takes the SDK's adaptive mode some 40 s.
#[test]
fn an_account_that_stays_throttled_is_asked_three_times_and_no_more() {
    let server = Server::start(|_, _| throttled());
    let error = Program::asking(&server.url()).with_keys().refused();
    assert!(error.contains("use one scheduled `sidegate discover` for the fleet"), "{error}");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_server_that_is_no_api_gateway_is_an_error() {
    for (status, body) in [
        (200, "<html>"),
        (200, ""),
        (200, "null"),
        (200, "{\"message\": \"ok\"}"),
        (200, "{\"_embedded\": {\"item\": []}}"),
        (200, "{\"item\": null}"),
        (204, ""),
        (302, "<html>"),
    ] {
        let server = Server::start(move |_, _| answer(status, body));
        let error = Program::asking(&server.url()).with_keys().refused();
        let words = format!("its answer is no list of APIs (answered {status} ");
        assert!(error.contains(&words) && error.contains("correct endpoint_url, or what stands in"), "{body}: {error}");
        assert_eq!(server.asked().len(), 1, "{body}");
    }
    let server = Server::start(|_, _| answer(500, "{}"));
    let error = Program::asking(&server.url()).with_keys().refused();
    assert!(error.contains("answered 500"), "{error}");
}

#[test]
fn where_nobody_listens_the_error_says_where() {
    let url = format!("http://127.0.0.1:{}", closed_port());
    let error = Program::asking(&url).with_keys().refused();
    assert!(error.contains(&format!("{url}/restapis: no connection (")), "{error}");
}

#[test]
fn without_credentials_the_error_says_how_to_give_some() {
    let started = Instant::now();
    let error = Program::asking("http://127.0.0.1:1").refused();
    assert!(error.contains("no AWS credentials: give the task, pod or instance a role"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_instance_without_metadata_costs_a_few_tries_and_no_more() {
    let started = Instant::now();
    let error = Program::asking("http://127.0.0.1:1").without("AWS_EC2_METADATA_DISABLED").refused();
    assert!(error.contains("no AWS credentials"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn a_source_that_fails_is_one_warning_and_no_error() {
    let gateway = Server::start(|_, _| answer(500, "{}"));
    let program = Program::asking(&gateway.url())
        .with_keys()
        .configured("[dns]\nlisten = []\n[forward.connect]\nlisten = []\n[admin]\nlisten = \"\"");
    let log = program.logs_until("unknown ids answer SERVFAIL");
    let lines = |level: &str| log.lines().filter(|line| line.contains(level)).collect::<Vec<_>>();
    assert!(lines("ERROR").is_empty(), "{log}");
    let [warning] = lines("WARN")[..] else { panic!("{log}") };
    assert!(warning.contains("answered 500"), "{log}");
}

#[test]
fn an_endpoint_that_is_not_the_regions_own_is_told() {
    let gateway = account(private(0..1));
    let program = Program::new()
        .with_keys()
        .with("AWS_ENDPOINT_URL", &gateway.url())
        .configured("[[discovery]]\nkind = \"api-gateway\"\n[dns]\nlisten = []\n[forward.connect]\nlisten = []\n[admin]\nlisten = \"\"");
    let log = program.logs_until("api-gateway: a new list");
    assert!(log.contains(&format!("asks {}/restapis, which is not AWS's own endpoint", gateway.url())), "{log}");
}

#[test]
fn an_endpoint_that_is_no_url_is_named_without_a_dump_of_the_request() {
    let program = || Program::new().with_keys().configured("[[discovery]]\nkind = \"api-gateway\"");
    let of_profile = program();
    let file = of_profile.file("config", "[default]\nendpoint_url = junk\n");
    for program in [
        program().with("AWS_ENDPOINT_URL", "junk"),
        program().with("AWS_ENDPOINT_URL_API_GATEWAY", "junk"),
        of_profile.with("AWS_CONFIG_FILE", file.to_str().unwrap()),
    ] {
        let error = program.refused();
        assert!(error.contains("\"junk\" is no URL to ask: correct AWS_ENDPOINT_URL") && !error.contains("Request {"));
    }
}
