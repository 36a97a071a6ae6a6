//! Against servers on loopback that say what a test has them say.

use std::sync::Mutex;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::discovery::endpoints::Found;
use crate::roots;

const LIMITS: Limits = Limits { connect: Duration::from_secs(1), within: Duration::from_secs(5), max_body: 1000 };

/// A server on loopback, and the heads of the requests it got.
pub(in crate::discovery::source) struct Server {
    pub(in crate::discovery::source) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers every request with what `answer` makes of its head, octet for octet, and closes.
    pub(in crate::discovery::source) async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", None, answer).await
    }

    pub(in crate::discovery::source) async fn on(
        place: &str,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), heads: Arc::default() };
        let heads = Arc::clone(&server.heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => serve(stream, &answer, &heads).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, &answer, &heads).await;
                        }
                    }
                }
            }
        });
        server
    }

    pub(in crate::discovery::source) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(impl Fn(&str) -> String + Send + Sync),
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(octet) = stream.read_u8().await else { return };
        head.push(octet);
    }
    let head = String::from_utf8(head).unwrap();
    let answered = answer(&head);
    heads.lock().unwrap().push(head);
    let _ = stream.write_all(answered.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// An answer with this status line, further header lines and body.
pub(in crate::discovery::source) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

pub(in crate::discovery::source) fn no_names() -> LookUp {
    Arc::new(|name, _| Box::pin(async move { Err(format!("{name} was asked for")) }))
}

/// Every name has these addresses.
fn names_at(addresses: &[IpAddr]) -> LookUp {
    let addresses = addresses.to_vec();
    Arc::new(move |_, family| {
        let of_family = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
        let addresses: Vec<_> = addresses.iter().copied().filter(of_family).collect();
        let found = Found { addresses, ttl: Duration::from_secs(60) };
        Box::pin(async move { Ok(found) })
    })
}

fn fetcher(look_up: LookUp) -> Fetcher {
    Fetcher::new(look_up, Arc::new(roots::trusting_nobody().unwrap()))
}

pub(in crate::discovery::source) fn without_names() -> Arc<Fetcher> {
    Arc::new(fetcher(no_names()))
}

async fn get(fetcher: &Fetcher, url: &str) -> Result<String, String> {
    let request = Request::get(url).body(Bytes::new()).unwrap();
    let response = fetcher.send(request, LIMITS).await.map_err(|error| error.to_string())?;
    Ok(format!("{} {}", response.status().as_u16(), String::from_utf8_lossy(response.body())))
}

#[tokio::test]
async fn a_request_has_a_path_a_host_and_nothing_of_the_rest_of_the_url() {
    let server = Server::start(|_| answer("404 Not Found", "", "none")).await;
    let url = format!("http://user:secret@{}/a%20b?x=1", server.address);
    assert_eq!(get(&without_names(), &url).await.unwrap(), "404 none");
    let head = server.heads().concat().to_lowercase();
    assert!(head.starts_with("get /a%20b?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", server.address)) && !head.contains("secret"), "{head}");
}

#[test]
fn the_port_stands_in_the_host_only_if_it_is_not_the_default() {
    for (url, host) in [
        ("http://a.example:80/", "a.example"),
        ("https://a.example:443/", "a.example"),
        ("https://a.example:80/", "a.example:80"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ] {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        assert_eq!(in_origin_form(request).unwrap().headers()[HOST], host, "{url}");
    }
}

#[tokio::test]
async fn what_is_no_port_is_refused_and_no_default_is_dialled() {
    for (written, shown) in [("127.0.0.1:99999", ":99999"), ("user:1@127.0.0.1:x", ":x"), ("[::1]:0", ":0")] {
        let error = get(&without_names(), &format!("http://{written}/")).await.unwrap_err();
        assert!(error.contains(&format!("{shown:?} is no port: write one of 1 to 65535")), "{error}");
    }
}

#[tokio::test]
async fn names_are_looked_up_with_what_was_given_and_each_address_is_tried() {
    let server = Server::on("127.0.0.2:0", None, |_| answer("200 OK", "", "here")).await;
    let fetcher = fetcher(names_at(&["127.0.0.3".parse().unwrap(), "127.0.0.2".parse().unwrap()]));
    let url = format!("http://lists.example:{}/", server.address.port());
    assert_eq!(get(&fetcher, &url).await.unwrap(), "200 here");
    assert!(server.heads().concat().to_lowercase().contains("\r\nhost: lists.example:"));
}

#[tokio::test]
async fn addresses_and_localhost_are_not_looked_up() {
    let server = Server::start(|_| answer("200 OK", "", "here")).await;
    let fetcher = without_names();
    assert_eq!(get(&fetcher, &format!("http://{}/", server.address)).await.unwrap(), "200 here");
    assert_eq!(get(&fetcher, &format!("http://LocalHost:{}/", server.address.port())).await.unwrap(), "200 here");
    let error = get(&fetcher, "http://lists.example/ids?token=secret").await.unwrap_err();
    let expected = "http://lists.example/ids: lists.example cannot be looked up (lists.example was asked for): correct \
                    it, or upstream.vpc";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_name_without_addresses_says_so() {
    let error = get(&fetcher(names_at(&[])), "http://lists.example/").await.unwrap_err();
    assert_eq!(error, "http://lists.example/: lists.example has no address: correct it");
}

#[tokio::test]
async fn one_family_that_cannot_be_looked_up_does_no_harm_if_the_other_has_addresses() {
    let server = Server::start(|_| answer("200 OK", "", "here")).await;
    let half = |addresses: Vec<IpAddr>| -> LookUp {
        Arc::new(move |_, family| {
            let found = Found { addresses: addresses.clone(), ttl: Duration::from_secs(60) };
            Box::pin(async move { if family == Family::V4 { Ok(found) } else { Err("timed out".to_owned()) } })
        })
    };
    let url = format!("http://lists.example:{}/", server.address.port());
    assert_eq!(get(&fetcher(half(vec![server.address.ip()])), &url).await.unwrap(), "200 here");
    let error = get(&fetcher(half(Vec::new())), &url).await.unwrap_err();
    assert!(error.contains("cannot be looked up (timed out)"), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_the_error_names_every_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let fetcher = fetcher(names_at(&["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()]));
    let error = get(&fetcher, &format!("http://user:secret@lists.example:{free}/")).await.unwrap_err();
    assert!(error.starts_with(&format!("http://lists.example:{free}/: no connection (127.0.0.1:{free}: ")), "{error}");
    assert!(error.contains(&format!("127.0.0.2:{free}: ")) && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_none() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200",
        "",
    ] {
        let server = Server::start(move |_| cut.to_owned()).await;
        let error = get(&without_names(), &format!("http://{}/", server.address)).await.unwrap_err();
        assert!(error.contains("no whole answer ("), "{cut:?}: {error}");
    }
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_refused_with_the_bound() {
    let server = Server::start(|_| answer("200 OK", "", &"x".repeat(1001))).await;
    let error = get(&without_names(), &format!("http://{}/", server.address)).await.unwrap_err();
    assert!(error.contains("its answer has more than 1000 octets"), "{error}");
    let server = Server::start(|_| answer("200 OK", "", &"x".repeat(1000))).await;
    assert!(get(&without_names(), &format!("http://{}/", server.address)).await.is_ok());
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_limit_at_most() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let request = Request::get(&url).body(Bytes::new()).unwrap();
    let limits = Limits { within: Duration::from_millis(200), ..LIMITS };
    let error = without_names().send(request, limits).await.unwrap_err().to_string();
    assert!(error.contains("no whole answer within 0.2 s"), "{error}");
}

#[tokio::test]
async fn other_schemes_are_refused() {
    for url in ["ftp://127.0.0.1/", "/ids"] {
        let error = get(&without_names(), url).await.unwrap_err();
        assert!(error.ends_with("a URL begins with http:// or https:// and a host: correct it"), "{error}");
    }
}

pub(in crate::discovery::source) fn acceptor(names: &[&str]) -> (TlsAcceptor, tempfile::NamedTempFile) {
    let names: Vec<String> = names.iter().copied().map(Into::into).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key.into()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let pem = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(pem.path(), cert.pem()).unwrap();
    (TlsAcceptor::from(Arc::new(config)), pem)
}

#[tokio::test]
async fn over_tls_names_and_addresses_are_checked_against_the_certificate() {
    let (tls, pem) = acceptor(&["lists.example", "127.0.0.1"]);
    let server = Server::on("127.0.0.1:0", Some(tls), |_| answer("200 OK", "", "here")).await;
    let trusting = roots::client_config(&[pem.path().to_owned()]).unwrap();
    let fetcher = Fetcher::new(names_at(&["127.0.0.1".parse().unwrap()]), Arc::new(trusting));
    let port = server.address.port();
    for host in ["lists.example", "127.0.0.1"] {
        assert_eq!(get(&fetcher, &format!("https://{host}:{port}/")).await.unwrap(), "200 here");
    }
    let error = get(&fetcher, &format!("https://other.example:{port}/")).await.unwrap_err();
    assert!(error.contains("its certificate is not accepted (") && error.ends_with("): use a name that it is for"));
}

#[tokio::test]
async fn over_tls_a_certificate_that_nobody_vouches_for_is_refused_with_the_fix() {
    let (tls, _) = acceptor(&["127.0.0.1"]);
    let server = Server::on("127.0.0.1:0", Some(tls), |_| answer("200 OK", "", "here")).await;
    let error = get(&without_names(), &format!("https://{}/", server.address)).await.unwrap_err();
    assert!(error.contains("its certificate is not accepted (") && error.contains("forward.extra_roots"), "{error}");
    assert_eq!(server.heads(), [""; 0]);
}

#[test]
fn each_fault_of_a_certificate_has_its_own_fix() {
    for (fault, fix) in [
        (CertificateError::NotValidForName, "use a name that it is for"),
        (CertificateError::Expired, "renew it, or set the clock of this host"),
        (CertificateError::NotValidYet, "set the clock of this host"),
        (CertificateError::UnknownIssuer, "add who signed it to forward.extra_roots"),
    ] {
        let words = tls_in_words(&io::Error::other(rustls::Error::InvalidCertificate(fault)));
        assert!(words.ends_with(&format!("): {fix}")), "{words}");
    }
}

#[tokio::test]
async fn over_tls_an_answer_that_breaks_off_is_told_without_a_link_to_a_manual() {
    let (tls, pem) = acceptor(&["127.0.0.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut stream = tls.accept(listener.accept().await.unwrap().0).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
        stream.flush().await.unwrap();
        // No close_notify.
        stream.into_inner().0.shutdown().await.unwrap();
    });
    let trusting = roots::client_config(&[pem.path().to_owned()]).unwrap();
    let error = get(&Fetcher::new(no_names(), Arc::new(trusting)), &url).await.unwrap_err();
    assert!(error.contains("no whole answer (") && error.contains("close_notify"), "{error}");
    assert!(!error.contains("docs.rs"), "{error}");
}

#[tokio::test]
async fn what_speaks_no_tls_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = get(&without_names(), &url).await.unwrap_err();
    assert!(error.contains("no TLS ("), "{error}");
}
