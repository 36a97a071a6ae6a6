//! Against metadata services on loopback that speak as AWS's do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Serves each request by its method, path and head; ends with the test.
async fn serve(answer: fn(&str) -> (u16, &'static str)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let (status, body) = answer(&String::from_utf8(head).unwrap());
            let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    address
}

fn imds(head: &str) -> (u16, &'static str) {
    if head.starts_with("PUT /latest/api/token ") && head.contains("x-aws-ec2-metadata-token-ttl-seconds: 60") {
        (200, "secret")
    } else if head.starts_with("GET /latest/meta-data/placement/region ")
        && head.contains("x-aws-ec2-metadata-token: secret")
    {
        (200, "eu-west-1\n")
    } else {
        (401, "")
    }
}

#[tokio::test]
async fn a_task_is_asked_first() {
    let task = serve(|head| match head.starts_with("GET /v4/abc/task ") {
        true => (200, r#"{"TaskARN": "arn:aws:ecs:ap-south-1:111122223333:task/x", "Family": "f"}"#),
        false => (404, ""),
    });
    let metadata = Metadata { ecs: Some(format!("http://{}/v4/abc", task.await)), imds: serve(imds).await };
    assert_eq!(metadata.region().await.unwrap().as_str(), "ap-south-1");
}

#[tokio::test]
async fn an_instance_is_asked_with_a_token() {
    let metadata = Metadata { ecs: None, imds: serve(imds).await };
    assert_eq!(metadata.region().await.unwrap().as_str(), "eu-west-1");
}

#[tokio::test]
async fn an_odd_task_answer_leads_on_to_the_instance() {
    let task = serve(|_| (200, "[]")).await;
    let metadata = Metadata { ecs: Some(format!("http://{task}")), imds: serve(imds).await };
    assert_eq!(metadata.region().await.unwrap().as_str(), "eu-west-1");
}

#[tokio::test]
async fn without_any_answer_the_error_says_what_was_asked_and_what_to_set() {
    let metadata = Metadata { ecs: None, imds: serve(|_| (403, "")).await };
    let error = metadata.region().await.unwrap_err().to_string();
    assert!(error.starts_with("no region: set policy.region or AWS_REGION"), "{error}");
    assert!(error.contains("IMDS: answered 403"), "{error}");
}

#[tokio::test]
async fn a_service_that_never_answers_costs_a_second_at_most() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metadata = Metadata { ecs: None, imds: listener.local_addr().unwrap() };
    let error = metadata.region().await.unwrap_err().to_string();
    assert!(error.contains("no answer within one second"), "{error}");
}
