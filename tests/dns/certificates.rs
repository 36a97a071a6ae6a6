//! Another certificate on disk while we serve: who connects next sees it, who is connected notices nothing.

use sidegate::dns::Over;
use sidegate::policy::Upstream as Group;

use crate::gate::{Gate, ZONE, table};
use crate::secure::{DotClient, Shown, address};
use crate::wire::{A, Ask, data, read};

async fn is_answered(client: &mut DotClient) -> bool {
    client.send(&Ask::new(&format!("priv1.{ZONE}"), A).to_wire()).await;
    client.receive().await.is_some_and(|reply| data(&read(&reply)) == ["10.0.0.1"])
}

#[tokio::test]
async fn a_reload_takes_up_a_new_pair_and_keeps_the_old_one_while_there_is_none() {
    let shown = Shown::new();
    let mut gate = Gate::with(shown.config(&[]), table(Group::Public));
    let mut first = shown.dot(&gate).await;
    let before = first.shown();

    std::fs::write(shown.files().key, "half a key").unwrap();
    gate.reload(shown.config(&[])).await.expect("the configuration itself is right");
    assert_eq!(shown.dot(&gate).await.shown(), before, "the last good pair");

    let after = shown.renew();
    gate.reload(shown.config(&[])).await.unwrap();
    let mut second = shown.dot(&gate).await;
    assert!(second.shown() == after && after != before);
    assert!(is_answered(&mut first).await && is_answered(&mut second).await);
    let over_https = shown.connect("127.0.0.1", address(&gate, Over::Https), &["h2"]).await.unwrap();
    assert_eq!(over_https.get_ref().1.peer_certificates().unwrap()[0].to_vec(), after);
}

#[tokio::test]
async fn listeners_come_and_go_with_a_reload_and_files_that_are_not_there_change_nothing() {
    let shown = Shown::new();
    let without = || {
        let mut config = shown.config(&[]);
        config.encrypted = sidegate::dns::Encrypted::default();
        config
    };
    let mut gate = Gate::with(without(), table(Group::Public));
    let mut wrong = shown.config(&[]);
    let files = wrong.encrypted.certificate.as_mut().unwrap();
    files.key = "/nowhere/tls.key".into();
    let words = gate.reload(wrong).await.unwrap_err().to_string();
    assert!(words.contains("/nowhere/tls.key") && words.contains("dns.tls_certificate and tls_key"), "{words}");
    assert_eq!(gate.plane.all_addresses().len(), 1);

    gate.reload(shown.config(&[])).await.unwrap();
    let mut client = shown.dot(&gate).await;
    assert!(is_answered(&mut client).await);
    let at = address(&gate, Over::Tls);
    gate.reload(without()).await.unwrap();
    crate::gate::until("it is closed", || async { tokio::net::TcpStream::connect(at).await.is_err() }).await;
}
