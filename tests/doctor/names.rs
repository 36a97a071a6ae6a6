//! Names that do not resolve, and resolvers that do not agree.

use std::net::SocketAddr;

use sidegate::app::{App, SystemResolver};
use sidegate::doctor::{Cause, Request, diagnose, notes};

use super::lab::{INTERNET, Lab, PRIVATE, PUBLIC, System, ZONE, nobody, nowhere};

#[tokio::test]
async fn a_resolver_that_does_not_answer_is_what_is_wrong() {
    let lab = Lab { system: System::Server(nobody()), ..Lab::default() };
    let verdict = lab.verdict(PUBLIC).await;
    assert_eq!(verdict.cause, Cause::DnsFailing);
    assert!(verdict.action.contains("127.0.0.1"), "{}", verdict.action);
}

#[tokio::test]
async fn a_required_list_that_never_came_is_named_with_its_source() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ids");
    let more = format!("[[discovery]]\nkind = \"file\"\npath = '{}'\n", path.display());
    let mut lab = Lab { policy: "", more, ..Lab::default() }.start().await;
    let app = App::start(lab.config.clone(), nowhere()).await.unwrap();
    lab.config.dns.listen = app.dns_addresses();
    lab.system = SystemResolver { servers: app.dns_addresses(), hosts: String::new() };
    let verdict = lab.verdict(PUBLIC).await;
    assert_eq!(verdict.cause, Cause::ListMissing);
    assert!(verdict.because.contains("no list yet from file"), "{}", verdict.because);
}

#[tokio::test]
async fn names_that_no_api_can_have_do_not_exist() {
    let lab = || Lab { system: System::Public, ..Lab::default() };
    assert_eq!(lab().causes(&format!("d-nothing123.{ZONE}")).await.0, Cause::NoSuchApi);
    assert_eq!(lab().causes("nothing.example.com").await.0, Cause::NotApiGateway);
}

#[tokio::test]
async fn servers_of_resolv_conf_that_disagree_are_noted() {
    let mut lab = Lab::default().start().await;
    let public = Lab { system: System::Public, ..Lab::default() }.start().await;
    lab.system.servers.extend(public.system.servers.clone());
    let seen = lab.examine(&Request::of_url(PUBLIC).unwrap()).await;
    assert_eq!(diagnose(&seen).cause, Cause::PublicApiThroughEndpoint, "the first one counts");
    assert!(notes(&seen).iter().any(|note| note.contains("disagree")), "{:?}", notes(&seen));
}

#[tokio::test]
async fn the_hosts_file_comes_before_every_server() {
    let lab = Lab { system: System::Hosts(INTERNET.into()), ..Lab::default() }.start().await;
    let seen = lab.examine(&Request::of_url(PUBLIC).unwrap()).await;
    assert!(diagnose(&seen).works());
    assert!(notes(&seen).iter().any(|note| note.contains("hosts file")));
}

#[tokio::test]
async fn a_silent_first_server_is_passed_over_as_every_program_does() {
    let mut lab = Lab::default().start().await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = silent.local_addr().unwrap();
    lab.system.servers.insert(0, address);
    assert_eq!(lab.verdict(PRIVATE).await.cause, Cause::NoSuchApi, "as by the second one");
}
