//! A list behind a URL, by what `sidegate route` makes of it.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::program::Program;
use super::server::{Server, answer, header, name_server};

const NAME: &str = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";

fn with_source(program: Program, url: &str, more: &str) -> Program {
    program.configured(&format!("[[discovery]]\nkind = \"url\"\nurl = \"{url}\"\n{more}"))
}

/// What becomes of the name of an API, as the program prints it.
fn decision(program: &Program) -> serde_json::Value {
    let ended = program.run(&["route", "--json", NAME]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

#[test]
fn an_id_of_the_list_goes_to_the_endpoint() {
    let server = Server::start(|asked, _| match (asked.uri().path(), header(asked, "x-token")) {
        ("/ids", "secret") => answer(200, "a1b2c3d4e5\n"),
        _ => answer(403, ""),
    });
    let url = format!("{}/ids", server.url());
    let known = with_source(Program::new(), &url, "headers = { X-Token = \"secret\" }");
    assert_eq!(decision(&known)["decision"], "endpoint");
    let refused = with_source(Program::new(), &url, "headers = { X-Token = \"wrong\" }");
    assert_eq!(decision(&refused)["decision"], "not ready");
}

#[test]
fn over_https_its_name_is_asked_of_the_vpc_upstream_and_its_certificate_checked() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["lists.corp.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key.into()).unwrap();
    let server = Server::with_tls(TlsAcceptor::from(Arc::new(config)), |_, _| answer(200, "[\"a1b2c3d4e5\"]"));

    let url = format!("https://lists.corp.example:{}/ids", server.address.port());
    let program = || with_source(Program::new().with_vpc(&name_server()), &url, "");
    assert_eq!(decision(&program())["decision"], "not ready");
    assert!(server.asked().is_empty());

    let trusting = program();
    let roots = trusting.file("roots.pem", &cert.pem());
    let trusting = trusting.configured(&format!("[forward]\nextra_roots = [\"{}\"]", roots.display()));
    assert_eq!(decision(&trusting)["decision"], "endpoint");
    assert_eq!(header(&server.asked()[0], "host"), url["https://".len()..].trim_end_matches("/ids"));
}
