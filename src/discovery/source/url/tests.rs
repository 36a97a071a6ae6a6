//! Against a server on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::discovery::source::fetch::tests::{Server, acceptor, answer, no_names, without_names};
use crate::roots;

const LIST: &str = "a1b2c3d4e5\n";

fn reader(url: String, headers: &[(&str, &str)]) -> UrlReader {
    let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    UrlReader::new(url, headers, false, without_names())
}

/// Whether a head has this line.
fn says(head: &str, line: &str) -> bool {
    head.to_lowercase().contains(&format!("\r\n{}\r\n", line.to_lowercase()))
}

fn names(head: &str, header: &str) -> bool {
    head.to_lowercase().contains(&format!("\r\n{}:", header.to_lowercase()))
}

/// Gives these answers one after the other, then the last for ever.
async fn scripted(answers: Vec<String>) -> Server {
    let turn = AtomicUsize::new(0);
    Server::start(move |_| answers[turn.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)].clone()).await
}

async fn read_once(answer: String) -> Result<Read, String> {
    let server = scripted(vec![answer]).await;
    reader(format!("http://{}/ids", server.address), &[]).read().await
}

#[tokio::test]
async fn a_list_is_read_and_asked_for_as_what_it_may_be() {
    let server = scripted(vec![answer("200 OK", "", LIST)]).await;
    let Read::List(list) = reader(format!("http://{}/ids", server.address), &[]).read().await.unwrap() else {
        panic!("no list")
    };
    assert_eq!(list, List::parse(LIST.as_bytes(), false).unwrap());
    assert_eq!(list.len(), 1);
    let head = server.heads().concat();
    assert!(says(&head, "accept: application/json, text/plain") && !names(&head, "if-none-match"), "{head}");
}

#[tokio::test]
async fn an_etag_is_given_back_as_it_came_until_there_is_another() {
    let server = scripted(vec![
        answer("200 OK", "ETag: W/\"one\"\r\n", LIST),
        answer("304 Not Modified", "", ""),
        answer("200 OK", "ETag: \"two\"\r\n", LIST),
        answer("200 OK", "", LIST),
        answer("200 OK", "", LIST),
    ])
    .await;
    let mut reader = reader(format!("http://{}/ids", server.address), &[]);
    for unchanged in [false, true, false, false, false] {
        assert_eq!(matches!(reader.read().await.unwrap(), Read::Unchanged), unchanged);
    }
    let heads = server.heads();
    let asked = ["if-none-match: W/\"one\"", "if-none-match: W/\"one\"", "if-none-match: \"two\""];
    assert!(heads[1..4].iter().zip(asked).all(|(head, line)| says(head, line)), "{heads:?}");
    assert!(!names(&heads[4], "if-none-match"), "{heads:?}");
}

#[tokio::test]
async fn what_is_no_list_is_an_error_and_its_etag_is_not_kept() {
    let server =
        scripted(vec![answer("200 OK", "ETag: \"one\"\r\n", "<html>"), answer("304 Not Modified", "", "")]).await;
    let mut reader = reader(format!("http://{}/ids", server.address), &[]);
    reader.read().await.unwrap_err();
    let error = reader.read().await.unwrap_err();
    assert!(error.starts_with("answered 304"), "{error}");
    assert!(!names(&server.heads()[1], "if-none-match"));
}

#[tokio::test]
async fn headers_of_the_configuration_are_sent_and_have_the_last_word() {
    let server = scripted(vec![answer("200 OK", "", LIST)]).await;
    let url = |userinfo: &str| format!("http://{userinfo}{}/ids", server.address);
    reader(url(""), &[("X-Token", "secret"), ("Accept", "text/csv")]).read().await.unwrap();
    reader(url("us%40er:p%3Ass@"), &[]).read().await.unwrap();
    reader(url("user:password@"), &[("authorization", "Bearer token")]).read().await.unwrap();
    let heads = server.heads();
    assert!(says(&heads[0], "x-token: secret") && says(&heads[0], "accept: text/csv"), "{heads:?}");
    assert_eq!(heads[0].to_lowercase().matches("accept:").count(), 1, "{heads:?}");
    // us@er:p:ss
    assert!(heads[1].contains("Basic dXNAZXI6cDpzcw=="), "{heads:?}");
    assert!(says(&heads[2], "authorization: Bearer token") && !heads[2].contains("Basic"), "{heads:?}");
}

#[tokio::test]
async fn each_refusal_says_what_to_do_and_a_redirect_is_not_followed() {
    for (status, words) in [
        ("301 Moved Permanently", "redirects are not followed"),
        ("401 Unauthorized", "discovery.headers"),
        ("403 Forbidden", "discovery.headers"),
        ("404 Not Found", "correct the URL"),
        ("204 No Content", "see that the URL is that of a list"),
        ("304 Not Modified", "though it was asked for the whole list: remove conditions"),
        ("503 Service Unavailable", "the server's own log"),
    ] {
        let error = read_once(answer(status, "Location: http://127.0.0.1:1/\r\n", "")).await.unwrap_err();
        assert!(error.starts_with(&format!("answered {}", &status[..3])) && error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_is_none() {
    let error = read_once("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\na1b2c3d4e5\n".to_owned()).await.unwrap_err();
    assert!(error.starts_with("no whole answer"), "{error}");
}

#[tokio::test]
async fn a_list_that_ends_with_its_connection_is_refused_with_and_without_tls() {
    for head in ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip"] {
        let (tls, pem) = acceptor(&["127.0.0.1"]);
        let trusting = roots::client_config(&[pem.path().to_owned()]).unwrap();
        let fetcher = Arc::new(Fetcher::new(no_names(), Arc::new(trusting)));
        for (tls, scheme) in [(None, "http"), (Some(tls), "https")] {
            let server = Server::on("127.0.0.1:0", tls, move |_| format!("{head}\r\n\r\n{LIST}")).await;
            let url = format!("{scheme}://{}/ids", server.address);
            let error = UrlReader::new(url, Vec::new(), false, Arc::clone(&fetcher)).read().await.unwrap_err();
            assert!(error.starts_with("its answer has no length, "), "{error}");
        }
    }
}

#[tokio::test]
async fn a_list_has_a_length_by_its_header_or_by_its_chunks() {
    for answer in [
        "HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\na1b2c3d4e5\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nb\r\na1b2c3d4e5\n\r\n0\r\n\r\n",
    ] {
        assert!(matches!(read_once(answer.to_owned()).await.unwrap(), Read::List(list) if list.len() == 1));
    }
}

#[tokio::test]
async fn a_compressed_list_is_named_as_such() {
    let error = read_once(answer("200 OK", "Content-Encoding: gzip\r\n", "?")).await.unwrap_err();
    assert_eq!(error, "its answer is encoded as \"gzip\": have the server send it as it is");
}

#[tokio::test]
async fn no_error_shows_a_credential() {
    let server = scripted(vec![answer("403 Forbidden", "", "")]).await;
    let host = [server.address.to_string(), "127.0.0.1:1".to_owned()];
    for host in host {
        let url = format!("http://user:s3cret@{host}/ids?sig=s3cret");
        let mut reader = reader(url, &[("authorization", "s3cret")]);
        let error = reader.read().await.unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(!format!("{:?}", reader.request().unwrap().headers()).contains("s3cret"));
    }
}
