//! Against metadata services on loopback that speak as AWS's do.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Serves each request by its method and path; ends with the test.
async fn serve(answer: fn(&str) -> (u16, &'static str)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let (status, body) = answer(&head);
            let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    address
}

fn imds(head: &str) -> (u16, &'static str) {
    if head.starts_with("PUT /latest/api/token ") {
        return (200, "secret");
    }
    match head.split(' ').nth(1).filter(|_| head.contains("x-aws-ec2-metadata-token: secret")) {
        Some("/latest/meta-data/placement/availability-zone") => (200, "us-east-1a\n"),
        Some("/latest/meta-data/placement/availability-zone-id") => (200, "use1-az1"),
        _ => (401, ""),
    }
}

fn zone(names: &[&str]) -> Zone {
    Zone::of(names.iter().map(|&name| name.to_owned())).unwrap()
}

#[tokio::test]
async fn a_task_says_its_zone_by_name_and_an_instance_by_id_as_well() {
    let task = serve(|head| match head.starts_with("GET /v4/abc/task ") {
        true => (200, r#"{"AvailabilityZone": "us-east-1b", "Family": "f"}"#),
        false => (404, ""),
    });
    let ecs = Some(format!("http://{}/v4/abc", task.await));
    let imds = serve(imds).await;
    assert_eq!(Metadata { ecs, imds }.zone().await, Some(zone(&["us-east-1b"])));
    assert_eq!(Metadata { ecs: None, imds }.zone().await, Some(zone(&["us-east-1a", "use1-az1"])));
    let older_agent = serve(|_| (200, "{}")).await;
    let ecs = Some(format!("http://{older_agent}"));
    assert_eq!(Metadata { ecs, imds }.zone().await, Some(zone(&["us-east-1a", "use1-az1"])));
}

#[tokio::test]
async fn without_an_answer_there_is_no_zone_after_one_second() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(Metadata { ecs: None, imds: silent.local_addr().unwrap() }.zone().await, None);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(Metadata { ecs: None, imds: serve(|_| (200, "not a.label")).await }.zone().await, None);
}

#[test]
fn a_regional_name_has_one_name_for_each_name_of_the_zone() {
    let here = zone(&["us-east-1a", "use1-az1"]);
    let names = |text: &str| here.names_of(&text.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
    let rest = "execute-api.us-east-1.vpce.amazonaws.com";
    assert_eq!(
        names(&format!("vpce-0123456789abcdef0-abcdefgh.{rest}")),
        ["us-east-1a", "use1-az1"].map(|zone| format!("vpce-0123456789abcdef0-abcdefgh-{zone}.{rest}"))
    );
    assert_eq!(names("vpce-1-x.execute-api.cn-north-1.vpce.amazonaws.com.cn").len(), 2);
    for other in [
        format!("vpce-0123456789abcdef0-abcdefgh-us-east-1b.{rest}"),
        format!("vpce-0123456789abcdef0.{rest}"),
        "vpce-0123456789abcdef0-abcdefgh.s3.us-east-1.vpce.amazonaws.com".to_owned(),
        "a1-vpce-0123456789abcdef0.execute-api.us-east-1.amazonaws.com".to_owned(),
        "gate.corp.example".to_owned(),
    ] {
        assert!(names(&other).is_empty(), "{other}");
    }
}
