//! What a caller sends is sent where it belongs, and shown nowhere.

use std::sync::Arc;

use sidegate::doctor::{Cause, Outcome, Request, diagnose, notes};

use super::lab::{ENDPOINT, INTERNET, Lab, Manner, PRIVATE, PUBLIC, System, marked, serves};

const LISTED: &str = "private_api_ids = [\"a1b2c3d4e5\"]";

fn with_key(host: &str) -> Request {
    Request::of_url(&format!("{host}/prod/orders?token=hush")).unwrap().with_header("x-api-key: hush-hush").unwrap()
}

#[tokio::test]
async fn headers_go_only_where_the_policy_sends_the_name() {
    // A private API: never to the internet, though the resolver leads there.
    let system = System::Hosts(INTERNET.into());
    let lab = Lab { policy: LISTED, endpoint: serves(), system, ..Lab::default() }.start().await;
    let seen = lab.examine(&with_key(PRIVATE)).await;
    assert!(matches!(seen.internet.outcome, Outcome::NotTried(_)), "{:?}", seen.internet);
    assert_eq!(diagnose(&seen).cause, Cause::PrivateApiFromInternet);
    assert_eq!(*lab.seen.lock().unwrap(), [(ENDPOINT, "GET /prod/orders?token=hush hush-hush".to_owned())]);
    assert!(notes(&seen).iter().any(|note| note.contains("only where the policy")), "{:?}", notes(&seen));

    // A public API: not to the endpoint, though the resolver leads there.
    let lab = Lab::default().start().await;
    let seen = lab.examine(&with_key(PUBLIC)).await;
    assert_eq!(diagnose(&seen).cause, Cause::PublicApiThroughEndpoint);
    assert!(lab.seen.lock().unwrap().iter().all(|(place, _)| *place == INTERNET));
}

#[tokio::test]
async fn another_method_goes_to_one_place_and_a_plain_get_to_both() {
    let lab = Lab::default().start().await;
    let post = Request::of_url(&format!("{PUBLIC}/prod/orders")).unwrap().with_method("post").unwrap();
    lab.examine(&post).await;
    assert_eq!(*lab.seen.lock().unwrap(), [(INTERNET, "POST /prod/orders".to_owned())]);
    lab.seen.lock().unwrap().clear();
    lab.examine(&Request::of_url(&format!("{PUBLIC}/prod/orders")).unwrap()).await;
    let mut seen = lab.seen.lock().unwrap().clone();
    seen.sort();
    let expected = [(ENDPOINT, "GET /prod/orders".to_owned()), (INTERNET, "GET /prod/orders".to_owned())];
    assert_eq!(seen, expected, "and no control where the right side serves it");
}

/// A signature may stand in it.
#[tokio::test]
async fn the_query_of_what_may_be_private_stays_in_the_vpc() {
    let system = System::Hosts(INTERNET.into());
    let lab = Lab { policy: LISTED, endpoint: serves(), internet: serves(), system, ..Lab::default() }.start().await;
    lab.examine(&Request::of_url(&format!("{PRIVATE}/prod/orders?token=hush")).unwrap()).await;
    let mut seen = lab.seen.lock().unwrap().clone();
    seen.sort();
    let expected = [(ENDPOINT, "GET /prod/orders?token=hush".to_owned()), (INTERNET, "GET /prod/orders".to_owned())];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn with_headers_and_nowhere_that_the_policy_knows_nothing_is_called() {
    let lab = Lab { system: System::Hosts("10.9.9.9".parse().unwrap()), ..Lab::default() }.start().await;
    let seen = lab.examine(&with_key(PUBLIC)).await;
    assert_eq!(diagnose(&seen).cause, Cause::NotProbed);
}

#[tokio::test]
async fn a_body_that_repeats_a_secret_is_kept_without_it_and_a_good_one_not_at_all() {
    let echoes = |status: u16| {
        Manner::Says(Arc::new(move |request| {
            let key = request.headers().get("x-api-key").map_or("", |key| key.to_str().unwrap());
            marked(status, "", &format!("{} and {key}", request.uri()))
        }))
    };
    for (status, body) in [(418, "/prod/orders?[redacted] and [redacted]"), (200, "")] {
        let lab = Lab { policy: LISTED, endpoint: echoes(status), ..Lab::default() }.start().await;
        let seen = lab.examine(&with_key(PRIVATE)).await;
        assert_eq!(seen.endpoint.outcome.reply().unwrap().body, body);
        assert!(!format!("{seen:?}").contains("hush"));
    }
}

#[tokio::test]
async fn a_secret_in_another_spelling_or_in_a_header_is_hidden_too() {
    let echoes = Manner::Says(Arc::new(|_| {
        let (status, mut fields, body) = marked(418, "", "token a/b+c, {\"key\":\"hu\\\"sh\"}");
        fields[0].1 = "id-hu\"sh".to_owned();
        fields[1].1 = "a/b+c".to_owned();
        fields.push(("x-amzn-ErrorType", "Hu: hu\"sh".to_owned()));
        (status, fields, body)
    }));
    let lab = Lab { policy: LISTED, endpoint: echoes, ..Lab::default() }.start().await;
    let request = Request::of_url(&format!("{PRIVATE}/prod/orders?token=a%2Fb%2Bc")).unwrap();
    let seen = lab.examine(&request.with_header("x-api-key: hu\"sh").unwrap()).await;
    let reply = seen.endpoint.outcome.reply().unwrap();
    assert_eq!(reply.body, "token [redacted], {\"key\":\"[redacted]\"}");
    let said = format!("{reply:?}");
    assert!(!said.contains("a/b+c") && !said.contains("sh\\\""), "{said}");
    assert_eq!(reply.request_id.as_ref().map(|(_, id)| id.as_str()), Some("[redacted]"));
}
