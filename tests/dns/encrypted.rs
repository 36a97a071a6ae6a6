//! Upstreams over TLS, HTTPS and QUIC: answered, kept, replaced when they die, never trusted without a certificate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hickory_net::quic::{DoqErrorCode, QuicServer};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sidegate::demo::certificates::Authority;
use sidegate::dns::{Config, Upstreams};
use sidegate::policy::Upstream as Group;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::gate::{Gate, config, loopback, table};
use crate::upstream::Upstream;
use crate::wire::{A, Answer, Ask, a, asked_name, data};

pub const NAME: &str = "resolver.test";

/// A server's certificate authority, on disk for `extra_roots`.
pub struct Trust {
    authority: Authority,
    pub roots: PathBuf,
    _directory: tempfile::TempDir,
}

impl Trust {
    pub fn new() -> Self {
        let (authority, directory) = (Authority::new().unwrap(), tempfile::tempdir().unwrap());
        let roots = directory.path().join("roots.pem");
        std::fs::write(&roots, authority.pem()).unwrap();
        Self { authority, roots, _directory: directory }
    }

    fn server(&self, alpn: &[u8]) -> Arc<rustls::ServerConfig> {
        let mut config = (*self.authority.server_config(&[NAME]).unwrap()).clone();
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }

    fn gate(&self, public: &str, vpc: Option<SocketAddr>) -> Gate {
        let vpc = vpc.map(|address| address.to_string().parse().unwrap()).into_iter().collect();
        let upstreams = Upstreams { public: vec![public.parse().unwrap()], vpc, ..Upstreams::default() };
        let config = Config { extra_roots: vec![self.roots.clone()], ..config(&[loopback()], upstreams) };
        Gate::with(config, table(Group::Public))
    }
}

/// A server until it is dropped, and how many connections it has taken.
pub struct Server {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reply(query: &[u8]) -> Vec<u8> {
    Answer::to(query).with(&asked_name(query), 60, a("192.0.2.1")).to_wire()
}

/// `questions` are answered on each connection, then it is closed.
async fn tls_server(trust: &Trust, questions: usize) -> Server {
    let (listener, acceptor) = (TcpListener::bind(loopback()).await.unwrap(), TlsAcceptor::from(trust.server(b"dot")));
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            for _ in 0..questions {
                let Ok(length) = stream.read_u16().await else { break };
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                let reply = reply(&query);
                stream.write_u16(reply.len() as u16).await.unwrap();
                stream.write_all(&reply).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    Server { address, connections, task: task.abort_handle() }
}

/// Closes each connection after so many questions.
pub async fn https_server(trust: &Trust, questions: usize) -> Server {
    let (listener, acceptor) = (TcpListener::bind(loopback()).await.unwrap(), TlsAcceptor::from(trust.server(b"h2")));
    let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let answered = Arc::new(AtomicUsize::new(0));
            let served = Arc::clone(&answered);
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let answered = Arc::clone(&answered);
                async move {
                    assert_eq!(request.uri().path(), "/dns-query");
                    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/dns-message");
                    let query = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(query[..2], [0, 0], "RFC 8484 section 4.1");
                    answered.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(reply(&query)))))
                }
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                tokio::pin!(connection);
                loop {
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {
                            if served.load(Ordering::Relaxed) >= questions {
                                connection.as_mut().graceful_shutdown();
                            }
                        }
                    }
                }
            });
        }
    });
    Server { address, connections, task: task.abort_handle() }
}

async fn quic_server(trust: &Trust) -> Server {
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    let mut server = QuicServer::with_socket_and_tls_config(socket, trust.server(b"doq")).unwrap();
    let (address, connections) = (server.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        while let Ok(Some((mut streams, _))) = server.next().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                while let Some(Ok(mut stream)) = streams.next().await {
                    let query = stream.receive_bytes().await.unwrap();
                    stream.send_bytes(Bytes::from(reply(&query))).await.unwrap();
                    stream.finish().await.unwrap();
                    let _ = stream.stop(DoqErrorCode::NoError);
                }
            });
        }
    });
    Server { address, connections, task: task.abort_handle() }
}

pub async fn answers(gate: &Gate, name: &str) -> bool {
    data(&gate.ask(&Ask::new(name, A)).await) == ["192.0.2.1"]
}

#[tokio::test]
async fn questions_go_over_one_kept_connection_of_each_kind() {
    let trust = Trust::new();
    let tls = tls_server(&trust, usize::MAX).await;
    let https = https_server(&trust, usize::MAX).await;
    let quic = quic_server(&trust).await;
    let names = Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("127.0.0.1")).to_wire());
    let names = names.await;
    for (server, url) in [
        (&tls, format!("tls://{}#{NAME}", tls.address)),
        (&https, format!("https://{NAME}:{}/dns-query", https.address.port())),
        (&quic, format!("quic://{}#{NAME}", quic.address)),
    ] {
        let gate = trust.gate(&url, Some(names.address));
        for number in 0..10 {
            assert!(answers(&gate, &format!("n{number}.example.com")).await, "{url}");
        }
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "{url}");
    }
    assert_eq!(names.count(), 2, "the name of the https server is looked up once, A and AAAA");
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_replaced_and_no_question_is_lost() {
    let trust = Trust::new();
    let (tls, https) = (tls_server(&trust, 1).await, https_server(&trust, 1).await);
    let names = Upstream::answering(|query| Answer::to(query).with(&asked_name(query), 60, a("127.0.0.1")).to_wire());
    let names = names.await;
    for (server, url) in [
        (&tls, format!("tls://{}#{NAME}", tls.address)),
        (&https, format!("https://{NAME}:{}/dns-query", https.address.port())),
    ] {
        let gate = trust.gate(&url, Some(names.address));
        for number in 0..6 {
            assert!(answers(&gate, &format!("n{number}.example.com")).await, "{url} {number}");
        }
        assert!(server.connections.load(Ordering::Relaxed) > 1, "{url}");
    }
}

#[tokio::test]
async fn a_server_without_the_right_certificate_is_never_asked() {
    let trust = Trust::new();
    let tls = tls_server(&trust, usize::MAX).await;
    let https = https_server(&trust, usize::MAX).await;
    let quic = quic_server(&trust).await;
    for url in [
        format!("tls://{}#other.test", tls.address),
        format!("tls://{}", tls.address),
        format!("https://{}/dns-query", https.address),
        format!("quic://{}#other.test", quic.address),
    ] {
        let gate = trust.gate(&url, None);
        assert!(!answers(&gate, "www.example.com").await, "{url}");
    }
}
