//! The command itself: what it prints, and how it exits.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::lab::{ENDPOINT, INTERNET, Lab, PUBLIC, Running, serves};

/// Exit code, stdout, stderr of `doctor` with the lab's configuration, on a host whose hosts file has the name.
async fn doctor(lab: &Running, at: Ipv4Addr, arguments: &[&str]) -> (Option<i32>, String, String) {
    let file = |name: &str| lab.directory.path().join(name);
    std::fs::write(file("sidegate.toml"), &lab.toml).unwrap();
    std::fs::write(file("hosts"), format!("{at} {PUBLIC}\n")).unwrap();
    // Nobody is there: nothing of the machine's own resolver is asked.
    std::fs::write(file("resolv.conf"), "nameserver 127.0.0.77\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sidegate"));
    command.env_clear().arg("doctor").args(arguments);
    command.arg("--config").arg(file("sidegate.toml")).arg("--resolv-conf").arg(file("resolv.conf"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_api_through_the_endpoint_exits_1_with_all_of_it_as_json() {
    let lab = Lab::default().start().await;
    let (code, out, err) = doctor(&lab, ENDPOINT, &[&format!("https://{PUBLIC}/prod/x?token=hush"), "--json"]).await;
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    assert!(!out.contains("hush"), "{out}");
    let value: Value = serde_json::from_str(&out).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    let expected = [
        "action",
        "calls",
        "dns",
        "headers",
        "host",
        "method",
        "notes",
        "path",
        "policy",
        "private_dns",
        "verdict",
        "way",
        "works",
    ];
    assert_eq!(keys, expected);
    assert_eq!(value["verdict"]["cause"], "public-api-through-endpoint");
    assert_eq!(value["way"], json!({ "now": "endpoint", "with_sidegate": "internet", "running_sidegate": null }));
    assert_eq!(value["private_dns"], "on");
    assert_eq!(value["calls"]["endpoint"]["reply"]["error_type"], "ForbiddenException");
    assert_eq!(value["calls"]["endpoint"]["reply"]["body"], "{\"message\":\"Forbidden\"}");
    assert_eq!(value["calls"]["internet"]["reply"]["status"], 200);
    assert_eq!(value["dns"]["system"]["addresses"], json!(["127.0.0.11"]));
    assert_eq!(value["dns"]["public"]["addresses"], json!(["127.0.0.21"]));
    assert_eq!(value["policy"]["rule"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_works_exits_0_and_the_page_fits_a_terminal() {
    let lab = Lab { endpoint: serves(), ..Lab::default() }.start().await;
    for (place, code) in [(INTERNET, 0), (ENDPOINT, 0)] {
        let (exit, out, err) = doctor(&lab, place, &[&format!("{PUBLIC}/prod")]).await;
        assert_eq!((exit, err.as_str()), (Some(code), ""), "{out}");
        assert!(out.contains("\nverdict        it works (works)\n"), "{out}");
    }
    let (exit, out, _) = doctor(&Lab::default().start().await, ENDPOINT, &[&format!("{PUBLIC}/prod")]).await;
    assert_eq!(exit, Some(1));
    assert!(out.lines().count() <= 40 && out.lines().all(|line| line.chars().count() <= 100), "{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("do  ")).count(), 1, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_exits_64_and_repeats_nothing_of_it() {
    let lab = Lab::default().start().await;
    for arguments in [
        &["https://user:hush@api.example.com"][..],
        &[PUBLIC, "--header", "hush hush"],
        &[PUBLIC, "--header", "x-api-key: hush\nhush"],
        &["http://hush.example.com"],
        &[PUBLIC, "--method", "hush hush"],
    ] {
        let (code, out, err) = doctor(&lab, ENDPOINT, arguments).await;
        assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
        assert!(err.starts_with("sidegate: ") && !err.contains("hush"), "{err}");
    }
}

#[test]
fn a_resolv_conf_that_cannot_be_read_is_a_wrong_command_line_and_no_verdict() {
    let folder = tempfile::tempdir().unwrap();
    // With a configuration that would be found wrong next: nobody is asked anything.
    let config = folder.path().join("sidegate.toml");
    std::fs::write(&config, "no_such_key = 1").unwrap();
    for missing in [folder.path().join("typo/resolv.conf"), folder.path().to_owned()] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sidegate"));
        command.env_clear().args(["doctor", PUBLIC, "--config"]).arg(&config).arg("--resolv-conf").arg(&missing);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(64), &b""[..]), "{said}");
        let rule = format!("sidegate: cannot read {}: correct --resolv-conf, or leave it out", missing.display());
        assert!(said.starts_with(&rule), "{said}");
    }
}
