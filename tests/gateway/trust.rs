//! Certificates, and which way a name goes.

use std::sync::{Arc, Mutex};

use crate::client::{Client, ask};
use crate::server::{Connection, Server};
use crate::world::{Authority, PARTNER, PRIVATE, PUBLIC, World, table};

fn request(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

async fn say(mut connection: Connection, who: &'static str) {
    while connection.head().await.is_some() {
        connection.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{who}", who.len())).await;
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_prove_the_name_is_a_502_and_nothing_is_sent() {
    let trusted = Authority::new();
    let other = Authority::new();
    let heads: Arc<Mutex<usize>> = Arc::default();
    let mut servers = Vec::new();
    for (settings, words) in [
        (trusted.server(&["other.example"], false, &[]), "not valid for"),
        (trusted.server(&[PRIVATE], true, &[]), "expired"),
        (other.server(&[PRIVATE], false, &[]), "UnknownIssuer"),
    ] {
        let got = Arc::clone(&heads);
        let server = Server::start(settings, move |mut connection, _| {
            let got = Arc::clone(&got);
            async move {
                if connection.head().await.is_some() {
                    *got.lock().unwrap() += 1;
                }
            }
        })
        .await;
        servers.push((server, words));
    }
    let world = World::new(trusted, 1, 1).await;
    for (server, words) in servers {
        world.table.send_replace(Arc::new(table(server.port, &["a1b2c3d4e5"])));
        let answer = ask(world.address, &request(PRIVATE)).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("error=tls_certificate_error"), "{answer}");
        assert!(answer.contains(words), "{words}: {answer}");
        assert_eq!(server.accepted(), 1);
    }
    assert_eq!(*heads.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_server_without_tls_is_a_502() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let world = World::new(Authority::new(), port, 1).await;
    let answer = ask(world.address, &request(PRIVATE)).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("tls_protocol_error"), "{answer}");
}

#[tokio::test]
async fn the_name_in_the_client_hello_is_the_hosts_and_endpoints_are_offered_http1_only() {
    let authority = Authority::new();
    type Hello = (Option<String>, Option<String>);
    let hellos: Arc<Mutex<Vec<Hello>>> = Arc::default();
    let server = |hellos: Arc<Mutex<Vec<_>>>, settings| {
        Server::start(settings, move |connection: Connection, _| {
            let agreed = connection.stream.get_ref().1;
            let alpn = agreed.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
            hellos.lock().unwrap().push((agreed.server_name().map(str::to_owned), alpn));
            say(connection, "hi")
        })
    };
    // The server likes HTTP/2 best, and takes what it is offered.
    let both = authority.server(&[PRIVATE, PUBLIC], false, &["h2", "http/1.1"]);
    let endpoint = server(Arc::clone(&hellos), both).await;
    let world = World::new(authority, endpoint.port, endpoint.port).await;
    assert!(ask(world.address, &request(PRIVATE)).await.ends_with("hi"));
    ask(world.address, &request(PUBLIC)).await;
    let told = |name: &str, alpn: &str| (Some(name.to_owned()), Some(alpn.to_owned()));
    assert_eq!(*hellos.lock().unwrap(), [told(PRIVATE, "http/1.1"), told(PUBLIC, "h2")]);
}

#[tokio::test]
async fn a_name_that_changes_its_way_gets_connections_of_the_new_one() {
    let authority = Authority::new();
    let names = [PRIVATE, PUBLIC, PARTNER];
    let endpoint = Server::start(authority.server(&names, false, &[]), |connection, _| say(connection, "inside")).await;
    let public = Server::start(authority.server(&names, false, &[]), |connection, _| say(connection, "outside")).await;
    let world = World::new(authority, endpoint.port, public.port).await;
    let mut client = Client::connect(world.address).await;
    for (ids, who) in [(&["a1b2c3d4e5"][..], "inside"), (&[], "outside"), (&["a1b2c3d4e5"], "inside")] {
        world.table.send_replace(Arc::new(table(endpoint.port, ids)));
        client.send(&format!("GET / HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n")).await;
        client.until(who).await;
    }
    assert_eq!((endpoint.accepted(), public.accepted()), (1, 1), "both were kept for their own way");
}

#[test]
fn a_reload_waits_for_our_certificate_without_a_thread_of_those_who_are_served() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let mut world = World::tls(Authority::new(), 1, 1, &["front.example"]).await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        // Files take no longer to come where nobody may read them.
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let mut reload = Box::pin(world.reload());
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut reload).await;
        assert!(early.is_err(), "it was read on this thread");
        drop(release);
        reload.await;
        assert!(busy.await.unwrap().is_err());
    });
}
