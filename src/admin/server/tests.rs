//! Who may ask, and what is answered; requests byte by byte over loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::admin::readiness::Block;
use crate::policy::Networks;

struct Lab {
    address: SocketAddr,
    readiness: Readiness,
    gate: watch::Sender<Gate>,
    quit: CancellationToken,
    stop: CancellationToken,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lab(alive: bool) -> Lab {
    let readiness = Readiness::default();
    let gate = watch::Sender::new(Gate { clients: Networks::private(), hosts: vec!["sidegate.corp".parse().unwrap()] });
    let quit = CancellationToken::new();
    let answers = Answers {
        readiness: readiness.clone(),
        liveness: Arc::new(move || Box::pin(async move { if alive { Ok(()) } else { Err("dead".to_owned()) } })),
        status: Arc::new(|| "{\"sources\":[]}".to_owned()),
        route: Arc::new(|name| format!("{{\"name\":\"{name}\"}}")),
        decisions: Arc::new(|| "{\"decisions\":[]}".to_owned()),
        metrics: Arc::new(|| "sidegate_ready 1\n".to_owned()),
        reload: Arc::new(move || {
            let refused = NotReloaded::Refused("line 1: no such key".to_owned());
            Box::pin(async move { if alive { Ok(()) } else { Err(refused) } })
        }),
        quit: quit.clone(),
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(listen, gate.subscribe(), answers).unwrap();
    let (address, stop) = (server.address().unwrap(), CancellationToken::new());
    tokio::spawn(server.serve(stop.clone()));
    Lab { address, readiness, gate, quit, stop }
}

async fn send(lab: &Lab, request: &str) -> String {
    let mut stream = TcpStream::connect(lab.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

async fn get(lab: &Lab, path: &str) -> (u16, String) {
    let reply = send(lab, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn status(reply: &str) -> &str {
    reply.get(9..12).unwrap_or_default()
}

#[tokio::test]
async fn startup_ready_and_live_say_what_they_should_at_each_stage() {
    let lab = lab(true);
    let block: Block = lab.readiness.block("endpoint addresses");
    assert_eq!(get(&lab, "/startup").await, (503, "starting\n".into()));
    assert_eq!(get(&lab, "/ready").await, (503, "pending: bind, endpoint addresses\n".into()));
    lab.readiness.bound();
    assert_eq!(get(&lab, "/startup").await, (200, "started\n".into()));
    assert_eq!(get(&lab, "/ready").await, (503, "pending: endpoint addresses\n".into()));
    drop(block);
    assert_eq!(get(&lab, "/ready").await, (200, "ready\n".into()));
    assert_eq!(get(&lab, "/live").await, (200, "alive\n".into()));
    lab.readiness.drain();
    assert_eq!(get(&lab, "/ready").await, (503, "draining\n".into()));
    assert_eq!(get(&lab, "/other").await.0, 404);
}

#[tokio::test]
async fn a_dead_listener_is_not_live_and_the_reason_is_said() {
    assert_eq!(get(&lab(false), "/live").await, (503, "dead\n".into()));
}

#[tokio::test]
async fn only_hosts_that_no_web_page_can_be_at_are_answered() {
    let lab = lab(true);
    for host in ["localhost", "LOCALHOST:9180", "127.0.0.1", "10.0.0.1:9180", "[::1]:9180", "sidegate.corp"] {
        let reply = send(&lab, &format!("GET /live HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(status(&reply), "200", "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "user@evil.example", ""] {
        let reply = send(&lab, &format!("GET /live HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(status(&reply), "403", "{host}");
    }
    let doubled = send(&lab, "GET /live HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n").await;
    assert!(status(&doubled).starts_with('4'), "{doubled}");
    let missing = send(&lab, "GET /live HTTP/1.1\r\n\r\n").await;
    assert!(status(&missing).starts_with('4'), "{missing}");
}

#[tokio::test]
async fn nothing_but_reading_is_done_here() {
    let reply = send(&lab(true), "POST /live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(status(&reply), "405");
}

#[tokio::test]
async fn this_host_gets_an_answer_whatever_clients_says() {
    let lab = lab(true);
    lab.gate.send_modify(|gate| gate.clients = Networks::new(vec!["10.0.0.0/8".parse().unwrap()]));
    let reply = send(&lab, "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&reply), "200");
}

#[tokio::test]
async fn silent_connections_never_keep_a_probe_waiting() {
    let lab = lab(true);
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        silent.push(TcpStream::connect(lab.address).await.unwrap());
    }
    assert_eq!(get(&lab, "/live").await.0, 200);
    let mut evicted = [0; 1];
    assert_eq!(silent[0].read(&mut evicted).await.unwrap_or(0), 0, "the oldest had to go");
}

#[tokio::test]
async fn metrics_are_of_the_type_that_every_scraper_knows() {
    let reply = send(&lab(true), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\nsidegate_ready 1\n"), "{reply}");
}

#[tokio::test]
async fn status_is_json_and_a_reload_is_asked_for_by_post_and_answered_with_its_outcome() {
    let post = "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let well = lab(true);
    let status = send(&well, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(status.starts_with("HTTP/1.1 200") && status.contains("content-type: application/json"), "{status}");
    assert!(status.ends_with("{\"sources\":[]}"), "{status}");
    let reloaded = send(&well, post).await;
    assert!(reloaded.starts_with("HTTP/1.1 200") && reloaded.ends_with("\r\n\r\nreloaded\n"), "{reloaded}");
    assert_eq!(get(&well, "/reload").await.0, 405);
    let refused = send(&lab(false), post).await;
    assert!(refused.starts_with("HTTP/1.1 422") && refused.ends_with("line 1: no such key\n"), "{refused}");
    let foreign = post.replace("Content-Length", "Origin: http://evil.example\r\nContent-Length");
    assert!(send(&well, &foreign).await.starts_with("HTTP/1.1 403"));
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn drain_takes_it_out_of_service_for_good_and_ends_nothing() {
    let lab = lab(true);
    lab.readiness.bound();
    assert_eq!(get(&lab, "/drain").await, (405, "POST only\n".into()));
    assert_eq!(get(&lab, "/ready").await.0, 200);
    for _ in 0..2 {
        assert!(send(&lab, &post("/drain")).await.starts_with("HTTP/1.1 200"));
        assert_eq!(get(&lab, "/ready").await, (503, "draining\n".into()));
    }
    assert_eq!(get(&lab, "/live").await.0, 200);
    assert!(!lab.quit.is_cancelled());
}

#[tokio::test]
async fn quitquitquit_is_answered_before_the_end_is_asked_for() {
    let lab = lab(true);
    lab.readiness.bound();
    assert_eq!(get(&lab, "/quitquitquit").await.0, 405);
    let foreign = post("/quitquitquit").replace("Content-Length", "Origin: http://evil.example\r\nContent-Length");
    assert_eq!(status(&send(&lab, &foreign).await), "403");
    assert!(!lab.quit.is_cancelled());
    let reply = send(&lab, &post("/quitquitquit")).await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("\r\n\r\nending\n"), "{reply}");
    lab.quit.cancelled().await;
    assert_eq!(get(&lab, "/ready").await.0, 503);
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_the_answer_is_obeyed_too() {
    let lab = lab(true);
    let mut stream = TcpStream::connect(lab.address).await.unwrap();
    stream.write_all(post("/quitquitquit").as_bytes()).await.unwrap();
    drop(stream);
    lab.quit.cancelled().await;
}

#[tokio::test]
async fn the_page_and_all_else_is_kept_by_nobody_and_taken_for_no_other_type() {
    let lab = lab(true);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/status", "application/json"),
        ("/decisions", "application/json"),
        ("/route?name=a.example", "application/json"),
        ("/ready", "text/plain; charset=utf-8"),
    ] {
        let reply = send(&lab, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        for line in [&format!("content-type: {kind}"), "cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(reply.contains(&format!("\r\n{line}\r\n")), "{path} without {line}: {reply}");
        }
        assert_eq!(reply.contains("content-security-policy: default-src 'none'; "), path == "/", "{path}");
        assert!(!reply.to_lowercase().contains("access-control-"), "{path}");
    }
}

#[tokio::test]
async fn a_route_is_told_by_name_and_a_bad_name_is_answered_with_the_rule() {
    let lab = lab(true);
    assert_eq!(get(&lab, "/route?name=A.example.").await, (200, "{\"name\":\"a.example\"}".into()));
    for (path, words) in
        [("/route?name=a..b", "no empty label"), ("/route", "which name?"), ("/route?n=a", "there is no")]
    {
        let (status, body) = get(&lab, path).await;
        assert!(status == 400 && body.contains(words), "{path}: {status} {body}");
    }
    let post = "POST /route?name=a.example HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(status(&send(&lab, post).await), "405");
}

#[tokio::test]
async fn a_page_of_another_name_gets_nothing_of_what_is_known() {
    let lab = lab(true);
    for path in ["/", "/status", "/decisions", "/route?name=a.example"] {
        let reply = send(&lab, &format!("GET {path} HTTP/1.1\r\nHost: rebound.example\r\n\r\n")).await;
        assert_eq!(status(&reply), "403", "{path}");
    }
}
