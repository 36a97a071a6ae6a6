//! `upstream.via_parent`: servers over HTTPS are reached through an egress proxy, which hears their names and nothing
//! else; other servers are not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_proto::op::ResponseCode;
use sidegate::dns::upstream::Server;
use sidegate::dns::{Config, Upstreams};
use sidegate::policy::Upstream as Group;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::encrypted::{NAME, Trust, answers, https_server};
use crate::gate::{Gate, config, loopback, table};
use crate::upstream::Upstream;
use crate::wire::{A, Answer, Ask, a, asked_name, code, extended_errors};

const PROXY: &str = "proxy.test";
/// `user:open sesame`.
const CREDENTIALS: &str = "Proxy-Authorization: Basic dXNlcjpvcGVuIHNlc2FtZQ==\r\n";

/// A CONNECT proxy until it is dropped. Whatever it is asked for, it connects to one address, or says no.
struct Proxy {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    async fn start(target: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                tunnels.spawn(serve(client, target, Arc::clone(&log)));
            }
        });
        Self { address, requests, task: task.abort_handle() }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// As it is configured, by its name.
    fn url(&self) -> String {
        format!("http://user:open%20sesame@{PROXY}:{}", self.address.port())
    }
}

async fn serve(mut client: TcpStream, target: Option<SocketAddr>, log: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(octet) = client.read_u8().await else { return };
        head.push(octet);
    }
    log.lock().unwrap().push(String::from_utf8(head).unwrap());
    let Some(target) = target else {
        client
            .write_all(b"HTTP/1.1 403 Forbidden\r\nProxy-Status: egress; error=http_request_denied\r\n\r\n")
            .await
            .ok();
        return;
    };
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    copy_bidirectional(&mut client, &mut server).await.ok();
}

/// The VPC resolver, which knows where the proxy is.
async fn names() -> Upstream {
    Upstream::answering(|query| match asked_name(query).as_str() {
        PROXY => Answer::to(query).with(PROXY, 60, a("127.0.0.1")).to_wire(),
        _ => Answer::to(query).rcode(3).to_wire(),
    })
    .await
}

fn through(proxy: Option<&str>, trust: &Trust, public: &[String], names: &Upstream) -> Config {
    let public = public.iter().map(|server| server.parse().unwrap()).collect();
    let upstreams = Upstreams { public, vpc: vec![Server::udp(names.address)], ..Upstreams::default() };
    let egress_proxy = proxy.map(|url| url.parse().unwrap());
    Config { egress_proxy, extra_roots: vec![trust.roots.clone()], ..config(&[loopback()], upstreams) }
}

fn connect(host: &str, port: u16) -> String {
    format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{CREDENTIALS}\r\n")
}

#[tokio::test]
async fn a_server_is_asked_over_one_tunnel_and_only_the_proxy_is_looked_up() {
    let (trust, names) = (Trust::new(), names().await);
    let https = https_server(&trust, usize::MAX).await;
    let proxy = Proxy::start(Some(https.address)).await;
    let public = [format!("https://{NAME}:8443/dns-query")];
    let gate = Gate::with(through(Some(&proxy.url()), &trust, &public, &names), table(Group::Public));
    for number in 0..5 {
        assert!(answers(&gate, &format!("n{number}.example.com")).await);
    }
    assert_eq!(proxy.requests(), [connect(NAME, 8443)]);
    assert!(names.asked().iter().all(|asked| asked_name(&asked.query) == PROXY));
}

#[tokio::test]
async fn a_server_that_is_known_by_address_is_asked_for_by_address_and_must_show_its_certificate() {
    let (trust, names) = (Trust::new(), names().await);
    let https = https_server(&trust, usize::MAX).await;
    let proxy = Proxy::start(Some(https.address)).await;
    let public = ["https://[2001:db8::1]/dns-query".to_owned()];
    let gate = Gate::with(through(Some(&proxy.url()), &trust, &public, &names), table(Group::Public));
    assert!(!answers(&gate, "www.example.com").await, "its certificate is for {NAME}");
    assert_eq!(proxy.requests().first(), Some(&connect("[2001:db8::1]", 443)));
}

#[tokio::test]
async fn what_the_proxy_says_of_a_refusal_reaches_whoever_asked_unless_another_server_answers() {
    let (trust, names, proxy) = (Trust::new(), names().await, Proxy::start(None).await);
    let https = format!("https://{NAME}/dns-query");
    let only = through(Some(&proxy.url()), &trust, std::slice::from_ref(&https), &names);
    let gate = Gate::with(only, table(Group::Public));
    let reply = gate.ask(&Ask::new("www.example.com", A).edns(1232, false)).await;
    assert_eq!(code(&reply), ResponseCode::ServFail);
    let words = "public upstream: egress proxy: answered 403 Forbidden (egress; error=http_request_denied): \
                 have it allow this destination";
    assert_eq!(extended_errors(&reply), [(23, words.to_owned())]);

    let tried = proxy.requests().len();
    let plain = Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire());
    let plain = plain.await;
    let public = [https, plain.address.to_string()];
    let gate = Gate::with(through(Some(&proxy.url()), &trust, &public, &names), table(Group::Public));
    assert!(answers(&gate, "www.example.com").await);
    assert!(proxy.requests().len() > tried, "the first was asked first");
}

#[tokio::test]
async fn without_the_proxy_and_for_servers_without_https_nothing_goes_through_it() {
    let (trust, names, proxy) = (Trust::new(), names().await, Proxy::start(None).await);
    let https = https_server(&trust, usize::MAX).await;
    let direct = [format!("https://{NAME}:{}/dns-query", https.address.port())];
    let known = |query: &[u8]| Answer::to(query).with(&asked_name(query), 60, a("127.0.0.1")).to_wire();
    let all_names = Upstream::answering(known).await;
    let gate = Gate::with(through(None, &trust, &direct, &all_names), table(Group::Public));
    assert!(answers(&gate, "www.example.com").await);

    let plain = Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire());
    let plain = plain.await;
    for server in [format!("udp://{}", plain.address), format!("tcp://{}", plain.address)] {
        let gate = Gate::with(through(Some(&proxy.url()), &trust, &[server], &names), table(Group::Public));
        assert!(answers(&gate, "www.example.com").await);
    }
    assert_eq!(proxy.requests(), [""; 0]);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_found_or_reached_is_told_apart_from_the_server() {
    let (trust, names) = (Trust::new(), names().await);
    let closed = crate::upstream::Closed::reserve().await;
    let public = [format!("https://{NAME}/dns-query")];
    for (proxy, words) in [
        (format!("http://{}", closed.address), "public upstream: egress proxy: Connection refused"),
        (
            "http://nowhere.test:3128".to_owned(),
            "public upstream: the way to the server does not resolve: nowhere.test has no address",
        ),
    ] {
        let gate = Gate::with(through(Some(&proxy), &trust, &public, &names), table(Group::Public));
        let reply = gate.ask(&Ask::new("www.example.com", A).edns(1232, false)).await;
        let told = &extended_errors(&reply)[0];
        assert!(told.0 == 23 && told.1.starts_with(words), "{told:?}");
    }
}

#[tokio::test]
async fn a_reload_moves_the_servers_behind_another_proxy() {
    let (trust, names) = (Trust::new(), names().await);
    let https = https_server(&trust, usize::MAX).await;
    let (first, second) = (Proxy::start(Some(https.address)).await, Proxy::start(Some(https.address)).await);
    let public = [format!("https://{NAME}:8443/dns-query")];
    let behind = |proxy: &Proxy| through(Some(&proxy.url()), &trust, &public, &names);
    let mut gate = Gate::with(behind(&first), table(Group::Public));
    assert!(answers(&gate, "a.example.com").await);
    gate.reload(behind(&second)).await.unwrap();
    assert!(answers(&gate, "b.example.com").await);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}
