//! API Gateway's control plane, as far as `GetRestApis` goes: pages by `limit` and `position`, `item` for the APIs, errors
//! by name.

use std::ops::Range;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::server::{Answer, Asked, Server, answer, header};

/// The id of the API with this number.
pub fn id(number: usize) -> String {
    format!("api{number:07}")
}

/// An API of one type.
pub fn api(number: usize, kind: &str) -> Value {
    json!({
        "id": id(number),
        "name": format!("orders {number}"),
        "createdDate": 1_700_000_000,
        "apiKeySource": "HEADER",
        "endpointConfiguration": { "types": [kind], "ipAddressType": "dualstack" },
        "disableExecuteApiEndpoint": false,
    })
}

/// Private APIs.
pub fn private(numbers: Range<usize>) -> Vec<Value> {
    numbers.map(|number| api(number, "PRIVATE")).collect()
}

/// An account with these APIs.
pub fn account(apis: Vec<Value>) -> Server {
    Server::start(move |asked, _| page(&apis, asked))
}

/// What API Gateway answers to a request for some of these APIs.
pub fn page(apis: &[Value], asked: &Asked) -> Answer {
    if asked.uri().path() != "/restapis" || header(asked, "accept") != "application/json" {
        return answer(404, "{}");
    }
    if !header(asked, "authorization").starts_with("AWS4-HMAC-SHA256 ") {
        return refusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token");
    }
    let limit = parameter(asked, "limit").map_or(25, |limit| limit.parse().unwrap());
    assert!(limit <= 500, "limit {limit}");
    let start = parameter(asked, "position").map_or(0, |position| position.trim_start_matches("p-").parse().unwrap());
    let end = apis.len().min(start + limit);
    let mut body = json!({ "item": &apis[start..end] });
    if end < apis.len() {
        body["position"] = json!(format!("p-{end}"));
    }
    answer(200, body.to_string())
}

/// A parameter of the query.
pub fn parameter(asked: &Asked, name: &str) -> Option<String> {
    let query = asked.uri().query()?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// An error as API Gateway names it.
pub fn refusal(status: u16, name: &str, message: &str) -> Answer {
    let mut response = Response::new(Bytes::from(json!({ "message": message }).to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("x-amzn-errortype", name.parse().unwrap());
    Answer::Whole(response)
}

pub fn throttled() -> Answer {
    refusal(429, "TooManyRequestsException", "Too Many Requests")
}
