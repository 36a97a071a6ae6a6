//! What an operator is promised about configuration: defaults, layers, and errors that say what to do, word for word.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panicking, and clippy.toml's leave for tests does not reach the helpers of this file"
)]

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use sidegate::config::{Config, ConfigErrors, DEFAULT_TOML, Inputs, LogConfig, LogFormat, LogLevel, Policy};
use sidegate::discovery::{AddressSource, EndpointConfig, HealthCheck, SourceConfig, SourceKind};
use sidegate::forward::{AllowedDestination, Others};
use sidegate::policy::{Network, Networks, Upstream};
use sidegate::server_tls::CertificateFiles;
use sidegate::{admin, dns, forward};

fn inputs(file: &str, environment: &[(&str, &str)]) -> Inputs {
    let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Inputs { file: Some(("sidegate.toml".to_owned(), file.to_owned())), environment }
}

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(&inputs(file, environment))
}

fn loaded(file: &str) -> Config {
    load(file, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(file: &str, environment: &[(&str, &str)]) -> String {
    load(file, environment).map(|_| "no error".to_owned()).unwrap_or_else(|errors| errors.to_string())
}

fn gather(flag: Option<&Path>, environment: &[(&str, &str)]) -> Result<Inputs, ConfigErrors> {
    Inputs::gather(flag, environment.iter().map(|&(name, value)| (OsString::from(name), OsString::from(value))))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

// Defaults

#[test]
fn without_a_file_everything_has_the_documented_default() {
    let mut config = Config::load(&Inputs::default()).unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    assert_eq!(config.dns.workers, cores.min(NonZeroUsize::new(4).unwrap()));
    config.dns.workers = NonZeroUsize::MIN;
    let expected = Config {
        state_dir: Some(PathBuf::from("/var/lib/sidegate")),
        state_dir_is_set: false,
        clients: Networks::private(),
        grace: Duration::from_secs(20),
        linger: Duration::ZERO,
        region: None,
        policy: Policy::default(),
        endpoints: vec![],
        default_upstream: Upstream::Public,
        default_upstream_is_set: false,
        zones: vec![],
        dns: dns::Config {
            listen: parsed(&["127.0.0.1:5353"]),
            encrypted: dns::Encrypted::default(),
            whole_vpc: false,
            workers: NonZeroUsize::MIN,
            clients: Networks::private(),
            upstreams: dns::Upstreams {
                public: parsed(&[
                    "udp://1.1.1.1",
                    "https://1.1.1.1/dns-query",
                    "udp://8.8.8.8",
                    "https://8.8.8.8/dns-query",
                    "udp://[2606:4700:4700::1111]",
                    "https://[2606:4700:4700::1111]/dns-query",
                ]),
                vpc: parsed(&["169.254.169.253", "fd00:ec2::253"]),
                zones: vec![],
                zone_names: vec![],
            },
            answer: dns::ZoneAnswer::Endpoint,
            egress_proxy: None,
            extra_roots: vec![],
        },
        vpc_is_set: false,
        take_over: false,
        forward: forward::Config {
            clients: Networks::private(),
            connect_listen: parsed(&["127.0.0.1:3128"]),
            sni_listen: vec![],
            http_listen: vec![],
            http_tls: None,
            others: None,
            allow: vec![],
            public_networks: Networks::new(vec![]),
            public_port: 443,
            extra_roots: vec![],
            parent_proxy: None,
        },
        discovery: vec![],
        admin: admin::Config { listen: Some("127.0.0.1:9180".parse().unwrap()), hosts: vec![] },
        log: LogConfig { level: LogLevel::Info, format: LogFormat::Text, access: false },
        warnings: vec![],
    };
    assert_eq!(config, expected);
}

/// Every line that begins with `#` and no space is a key or a table; with these taken in, all keys are shown.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    DEFAULT_TOML.lines().map(line).collect()
}

#[test]
fn the_shipped_defaults_read_as_a_file_are_the_defaults() {
    let mut file = loaded(DEFAULT_TOML);
    assert!(file.default_upstream_is_set && file.vpc_is_set && file.state_dir_is_set);
    (file.default_upstream_is_set, file.vpc_is_set, file.state_dir_is_set) = (false, false, false);
    assert_eq!(file, Config::load(&Inputs::default()).unwrap());
}

#[test]
fn every_example_in_the_shipped_defaults_is_valid() {
    let config = loaded(&uncommented());
    assert_eq!((config.endpoints.len(), config.discovery.len(), config.zones.len()), (2, 4, 1));
}

/// The keys of the contract, written out a second time so that none is lost in silence.
const KEYS: &str = "state_dir clients grace linger policy.private_api_ids policy.always_public policy.private_names \
    policy.region policy.dns_suffix endpoint.region endpoint.vpce_id endpoint.addresses endpoint.dns_name \
    endpoint.private_api_ids endpoint.health endpoint.port upstream.public upstream.vpc upstream.default \
    upstream.via_parent upstream.zone.name upstream.zone.servers dns.listen dns.workers dns.answer \
    dns.forwarder_addresses dns.take_over dns.whole_vpc dns.tls_certificate dns.tls_key dns.tls.listen \
    dns.https.listen forward.connect.listen forward.sni.listen forward.http.listen \
    forward.http.tls_certificate forward.http.tls_key forward.others forward.allow forward.public_networks \
    forward.public_port forward.extra_roots forward.parent_proxy discovery.kind discovery.path discovery.url \
    discovery.headers discovery.region discovery.endpoint_url discovery.interval discovery.required admin.listen \
    admin.hosts log.level log.format log.access";
const ARRAYS: [&str; 3] = ["endpoint.", "upstream.zone.", "discovery."];

/// The dotted paths of all keys in a text; free-form tables count as one key.
fn paths(table: &toml::Table, prefix: &str, found: &mut Vec<String>) {
    for (name, value) in table {
        let path = format!("{prefix}{name}");
        match value {
            _ if ["policy.private_names", "discovery.headers"].contains(&path.as_str()) => found.push(path),
            toml::Value::Table(inner) => paths(inner, &format!("{path}."), found),
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
                items.iter().filter_map(toml::Value::as_table).for_each(|item| paths(item, &format!("{path}."), found));
            }
            _ => found.push(path),
        }
    }
}

#[test]
fn the_shipped_defaults_show_every_key_and_no_other() {
    let mut shown = Vec::new();
    paths(&uncommented().parse().unwrap(), "", &mut shown);
    shown.sort();
    shown.dedup();
    let mut keys: Vec<&str> = KEYS.split_whitespace().collect();
    keys.sort_unstable();
    assert_eq!(shown, keys);
}

#[test]
fn every_key_outside_arrays_has_an_environment_variable() {
    for key in KEYS.split_whitespace().filter(|key| !ARRAYS.iter().any(|array| key.starts_with(array))) {
        let name = format!("SIDEGATE_{}", key.to_uppercase().replace('.', "__"));
        let shown = errors("", &[(&name, "!")]);
        assert!(!shown.contains("unknown variable"), "{shown}");
    }
    for key in KEYS.split_whitespace().filter(|key| ARRAYS.iter().any(|array| key.starts_with(array))) {
        let name = format!("SIDEGATE_{}", key.to_uppercase().replace('.', "__"));
        assert!(errors("", &[(&name, "")]).contains("unknown variable"), "{name}");
    }
}

// Reading

#[test]
fn a_file_sets_every_key() {
    let config = loaded(
        r#"
        state_dir = ""
        clients = ["10.0.0.0/8"]
        grace = "1m"
        linger = "500ms"
        [policy]
        private_api_ids = ["a1b2c3d4e5"]
        always_public = ["f6g7h8i9j0", "status.corp.example"]
        private_names = { "Orders.Corp.Example" = "vpce-0123456789abcdef0" }
        region = "us-east-1"
        [[endpoint]]
        vpce_id = "vpce-0123456789abcdef0"
        addresses = ["10.0.1.10", "fd00::10"]
        private_api_ids = ["k1l2m3n4o5"]
        [[endpoint]]
        region = "eu-west-1"
        dns_name = "vpce-1.execute-api.eu-west-1.vpce.amazonaws.com"
        port = 8443
        [upstream]
        public = ["tls://9.9.9.9#dns.quad9.net"]
        vpc = ["10.0.0.2"]
        default = "vpc"
        via_parent = true
        [[upstream.zone]]
        name = "corp.internal"
        servers = ["10.0.0.3", "tcp://10.0.0.4"]
        [dns]
        listen = ["0.0.0.0:53", "[::]:53"]
        workers = 2
        answer = "forwarder"
        forwarder_addresses = ["10.0.9.9"]
        take_over = true
        whole_vpc = true
        tls_certificate = "/etc/dns.crt"
        tls_key = "/etc/dns.key"
        [dns.tls]
        listen = ["0.0.0.0:853"]
        [dns.https]
        listen = ["0.0.0.0:8443"]
        [forward]
        others = "refuse"
        allow = ["login.example.com", "*.example.org:8443"]
        public_networks = ["198.51.100.0/24"]
        public_port = 8443
        extra_roots = ["/etc/roots.pem"]
        parent_proxy = "http://user:password@10.0.0.5:3128"
        [forward.connect]
        listen = []
        [forward.sni]
        listen = ["0.0.0.0:443"]
        [forward.http]
        listen = ["127.0.0.1:8080"]
        tls_certificate = "/etc/cert.pem"
        tls_key = "/etc/key.pem"
        [[discovery]]
        kind = "file"
        path = "/etc/ids"
        interval = "1s"
        required = false
        [[discovery]]
        kind = "url"
        url = "https://ids.example/list"
        headers = { Authorization = "Bearer x" }
        [[discovery]]
        kind = "api-gateway"
        region = "eu-west-1"
        endpoint_url = "http://127.0.0.1:4566"
        [[discovery]]
        kind = "learned"
        [admin]
        listen = ""
        hosts = ["sidegate.corp.example"]
        [log]
        level = "debug"
        format = "json"
        access = true
        "#,
    );
    let vpce_id = || "vpce-0123456789abcdef0".parse().unwrap();
    let source = |kind, seconds, required| SourceConfig { kind, interval: Duration::from_secs(seconds), required };
    let clients = Networks::new(parsed::<Network>(&["10.0.0.0/8"]));
    let expected = Config {
        state_dir: None,
        state_dir_is_set: true,
        clients: clients.clone(),
        grace: Duration::from_secs(60),
        linger: Duration::from_millis(500),
        region: Some("us-east-1".parse().unwrap()),
        policy: Policy {
            private_api_ids: parsed(&["a1b2c3d4e5"]),
            always_public_ids: parsed(&["f6g7h8i9j0"]),
            always_public_names: parsed(&["status.corp.example"]),
            private_names: vec![("orders.corp.example".parse().unwrap(), vpce_id())],
            dns_suffix: None,
        },
        endpoints: vec![
            EndpointConfig {
                region: None,
                vpce_id: Some(vpce_id()),
                addresses: AddressSource::Static(parsed(&["10.0.1.10", "fd00::10"])),
                private_api_ids: parsed(&["k1l2m3n4o5"]),
                health: HealthCheck::Tcp,
                port: 443,
            },
            EndpointConfig {
                region: Some("eu-west-1".parse().unwrap()),
                vpce_id: None,
                addresses: AddressSource::Name("vpce-1.execute-api.eu-west-1.vpce.amazonaws.com".parse().unwrap()),
                private_api_ids: vec![],
                health: HealthCheck::Off,
                port: 8443,
            },
        ],
        default_upstream: Upstream::Vpc,
        default_upstream_is_set: true,
        zones: parsed(&["corp.internal"]),
        dns: dns::Config {
            listen: parsed(&["0.0.0.0:53", "[::]:53"]),
            encrypted: dns::Encrypted {
                tls: parsed(&["0.0.0.0:853"]),
                https: parsed(&["0.0.0.0:8443"]),
                certificate: Some(CertificateFiles {
                    certificate: PathBuf::from("/etc/dns.crt"),
                    key: PathBuf::from("/etc/dns.key"),
                    named_by: "dns.tls_certificate and tls_key",
                }),
            },
            whole_vpc: true,
            workers: NonZeroUsize::new(2).unwrap(),
            clients: clients.clone(),
            upstreams: dns::Upstreams {
                public: parsed(&["tls://9.9.9.9#dns.quad9.net"]),
                vpc: parsed(&["10.0.0.2"]),
                zones: vec![parsed(&["10.0.0.3", "tcp://10.0.0.4"])],
                zone_names: parsed(&["corp.internal"]),
            },
            answer: dns::ZoneAnswer::Forwarder(parsed(&["10.0.9.9"])),
            egress_proxy: Some("http://user:password@10.0.0.5:3128".parse().unwrap()),
            extra_roots: vec![PathBuf::from("/etc/roots.pem")],
        },
        vpc_is_set: true,
        take_over: true,
        forward: forward::Config {
            clients,
            connect_listen: vec![],
            sni_listen: parsed(&["0.0.0.0:443"]),
            http_listen: parsed(&["127.0.0.1:8080"]),
            http_tls: Some(CertificateFiles {
                certificate: "/etc/cert.pem".into(),
                key: "/etc/key.pem".into(),
                named_by: "forward.http.tls_certificate and tls_key",
            }),
            others: Some(Others::Refuse),
            allow: vec![
                AllowedDestination { name: "login.example.com".parse().unwrap(), below: false, port: 443 },
                AllowedDestination { name: "example.org".parse().unwrap(), below: true, port: 8443 },
            ],
            public_networks: Networks::new(parsed(&["198.51.100.0/24"])),
            public_port: 8443,
            extra_roots: vec![PathBuf::from("/etc/roots.pem")],
            parent_proxy: Some("http://user:password@10.0.0.5:3128".parse().unwrap()),
        },
        discovery: vec![
            source(SourceKind::File { path: PathBuf::from("/etc/ids") }, 1, false),
            source(
                SourceKind::Url {
                    url: "https://ids.example/list".to_owned(),
                    headers: vec![("Authorization".to_owned(), "Bearer x".to_owned())],
                },
                60,
                true,
            ),
            source(
                SourceKind::ApiGateway {
                    region: Some("eu-west-1".parse().unwrap()),
                    endpoint_url: Some("http://127.0.0.1:4566".to_owned()),
                },
                60,
                true,
            ),
            source(SourceKind::Learned, 60, false),
        ],
        admin: admin::Config { listen: None, hosts: parsed(&["sidegate.corp.example"]) },
        log: LogConfig { level: LogLevel::Debug, format: LogFormat::Json, access: true },
        warnings: vec![],
    };
    assert_eq!(config, expected);
}

#[test]
fn the_environment_beats_the_file_key_by_key() {
    let file =
        "[policy]\nprivate_api_ids = [\"a1\"]\nalways_public = [\"b2\"]\n[[endpoint]]\nvpce_id = \"vpce-01234567\"";
    let environment = [
        ("SIDEGATE_POLICY__PRIVATE_API_IDS", "c3, d4"),
        ("SIDEGATE_POLICY__PRIVATE_NAMES", "x.example=vpce-01234567, y.example = vpce-01234567"),
        ("SIDEGATE_DNS__LISTEN", ""),
        ("SIDEGATE_ADMIN__LISTEN", ""),
        ("SIDEGATE_DNS__WORKERS", "3"),
        ("SIDEGATE_LOG__ACCESS", "true"),
        ("SIDEGATE_UPSTREAM__DEFAULT", "vpc"),
    ];
    let config = load(file, &environment).unwrap();
    assert_eq!(config.policy.private_api_ids, parsed(&["c3", "d4"]));
    assert_eq!(config.policy.always_public_ids, parsed(&["b2"]), "what the environment does not set stays");
    assert_eq!(config.policy.private_names.len(), 2);
    assert_eq!((config.dns.listen, config.admin.listen), (vec![], None), "empty turns a listener off");
    assert_eq!((config.dns.workers.get(), config.log.access), (3, true));
    assert!(config.default_upstream == Upstream::Vpc && config.default_upstream_is_set && !config.vpc_is_set);
}

#[test]
fn the_region_is_the_first_of_the_file_and_the_two_variables_of_aws() {
    let region =
        |file: &str, environment: &[(&str, &str)]| load(file, environment).unwrap().region.map(|r| r.to_string());
    let aws = [("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_REGION", "us-west-2")];
    assert_eq!(region("policy.region = \"us-east-1\"", &aws).as_deref(), Some("us-east-1"));
    assert_eq!(region("", &aws).as_deref(), Some("us-west-2"));
    assert_eq!(region("", &aws[..1]).as_deref(), Some("eu-west-1"));
    assert_eq!(region("", &[("SIDEGATE_POLICY__REGION", ""), ("AWS_REGION", "")]), None, "empty is not set");
}

#[test]
fn with_a_dns_suffix_set_a_region_need_not_fit_a_partition() {
    let config = loaded("policy = { region = \"mars-1\", dns_suffix = \"aws.example\" }");
    assert_eq!(config.region.unwrap().as_str(), "mars-1");
}

#[test]
fn an_endpoint_without_addresses_or_name_is_found_at_the_apex() {
    let config = loaded("[[endpoint]]\n[[endpoint]]\naddresses = []\nhealth = \"tcp\"");
    assert!(config.endpoints.iter().all(|endpoint| endpoint.addresses == AddressSource::Apex));
    assert_eq!((config.endpoints[0].health, config.endpoints[1].health), (HealthCheck::Off, HealthCheck::Tcp));
}

#[test]
fn names_resolve_to_where_the_forwarder_listens_on_443_unless_other_addresses_are_written() {
    let sni = "[forward.sni]\nlisten = [\"127.0.0.1:8443\", \"10.0.0.5:443\", \"[::]:443\"]\n[dns]\n";
    let listening = loaded(&format!("{sni}answer = \"forwarder\""));
    assert_eq!(listening.dns.answer, dns::ZoneAnswer::Forwarder(parsed(&["10.0.0.5", "::"])));
    let written = loaded(&format!("{sni}answer = \"forwarder\"\nforwarder_addresses = [\"10.0.9.9\"]"));
    assert_eq!(written.dns.answer, dns::ZoneAnswer::Forwarder(parsed(&["10.0.9.9"])));
    assert_eq!(loaded(sni).dns.answer, dns::ZoneAnswer::Endpoint);
}

#[test]
fn a_server_stands_once_in_a_group() {
    let twice = |one: &str, other: &str| errors(&format!("upstream.public = [\"{one}\", \"{other}\"]\n"), &[]);
    for (one, other) in [("10.0.0.2", "udp://10.0.0.2:53"), ("https://d.example", "https://d.example:443/dns-query")] {
        let words = twice(one, other);
        assert!(words.contains(&format!("{other:?}: upstream.public has this server already")), "{words}");
        assert!(words.contains("fix: remove one of the two"), "{words}");
    }
    let zone = errors("[[upstream.zone]]\nname = \"a.internal\"\nservers = [\"10.0.0.2\", \"10.0.0.2\"]\n", &[]);
    assert!(zone.contains("this [[upstream.zone]] has this server already"), "{zone}");
    // By another path, port or protocol, or in another group, it is another one.
    let others =
        "public = [\"10.0.0.2\", \"tcp://10.0.0.2\", \"10.0.0.2:54\", \"https://d.example\", \"https://d.example/x\"]";
    loaded(&format!("[upstream]\n{others}\nvpc = [\"10.0.0.2\"]\n"));
}

#[test]
fn listeners_on_port_0_never_collide() {
    loaded("dns.listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"");
}

#[test]
fn secrets_over_plain_http_to_another_host_are_a_warning() {
    let warnings =
        |url: &str, more: &str| loaded(&format!("[[discovery]]\nkind = \"url\"\nurl = \"{url}\"\n{more}\n")).warnings;
    let headers = "headers = { X-Token = \"s3cret\" }";
    for (url, more) in [("http://lists.example/ids", headers), ("http://u:s3cret@10.0.0.1/ids", "")] {
        let [warning] = &warnings(url, more)[..] else { panic!("{url}") };
        assert!(warning.contains("go there unencrypted: write https://") && !warning.contains("s3cret"), "{warning}");
    }
    for (url, more) in [
        ("http://lists.example/ids", ""),
        ("https://lists.example/ids", headers),
        ("https://u:p@lists.example/ids", ""),
        ("http://127.0.0.1:8080/ids", headers),
        ("http://u:p@[::1]/ids", ""),
        ("http://localhost/ids", headers),
    ] {
        assert!(warnings(url, more).is_empty(), "{url}");
    }
}

#[test]
fn an_account_that_is_asked_every_few_seconds_is_a_warning() {
    let warnings = |interval: &str| {
        loaded(&format!("[[discovery]]\nkind = \"api-gateway\"\ninterval = \"{interval}\"\n")).warnings
    };
    let expected = "api-gateway: everything in the account shares ten calls a second: set interval = \"10s\" or longer";
    assert_eq!(warnings("9999ms"), [expected]);
    assert!(warnings("10s").is_empty());
}

#[test]
fn two_sources_that_read_the_same_are_an_error_at_the_second() {
    let twice = |one: &str, other: &str| {
        errors(&format!("policy.region = \"us-east-1\"\n[[discovery]]\n{one}\n[[discovery]]\n{other}\n"), &[])
    };
    let file = "kind = \"file\"\npath = \"/etc/ids\"";
    let url = "kind = \"url\"\nurl = \"https://lists.example/ids\"";
    let account = "kind = \"api-gateway\"";
    for (one, other) in [
        (file, file),
        (url, &*format!("{url}\nheaders = {{ X-Token = \"other\" }}")),
        (account, &*format!("{account}\nregion = \"us-east-1\"")),
    ] {
        let errors = twice(one, other);
        let expected = "[[discovery]]: another [[discovery]] reads the same";
        assert!(errors.contains(expected) && errors.contains("fix: remove one of the two"), "{errors}");
        let line = 3 + one.lines().count();
        assert!(errors.starts_with(&format!("sidegate.toml:{line}:")), "{errors}");
        assert!(errors.ends_with("1 error in the configuration"), "{errors}");
    }
    for (one, other) in [
        (file, "kind = \"file\"\npath = \"/etc/others\""),
        (url, "kind = \"url\"\nurl = \"https://lists.example/others\""),
        (account, "kind = \"api-gateway\"\nregion = \"eu-west-1\""),
        (account, "kind = \"api-gateway\"\nendpoint_url = \"http://127.0.0.1:1\""),
    ] {
        assert_eq!(twice(one, other), "no error");
    }
}

#[test]
fn headers_of_the_connection_are_refused_and_host_is_not() {
    let source = |name: &str| {
        errors(&format!("[[discovery]]\nkind = \"url\"\nurl = \"https://h/\"\nheaders = {{ {name} = \"9\" }}\n"), &[])
    };
    for name in ["Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "TE", "Trailer"] {
        let errors = source(name);
        assert!(errors.contains("this header is about the connection, which is ours"), "{name}: {errors}");
        assert!(errors.ends_with("fix: remove it\n\n1 error in the configuration"), "{name}: {errors}");
    }
    for name in ["Host", "Authorization", "Accept"] {
        assert_eq!(source(name), "no error", "{name}");
    }
}

#[test]
fn what_is_no_port_of_a_url_is_refused() {
    for (kind, key) in [("url", "url"), ("api-gateway", "endpoint_url")] {
        for url in ["http://127.0.0.1:99999/ids", "http://127.0.0.1:x"] {
            let errors = errors(&format!("[[discovery]]\nkind = \"{kind}\"\n{key} = \"{url}\"\n"), &[]);
            let expected = format!("\"{url}\": a URL's port is 1 to 65535");
            assert!(
                errors.contains(&expected) && errors.contains("fix: correct the port, or leave it out"),
                "{errors}"
            );
        }
    }
}

#[test]
fn what_somebody_should_act_on_is_a_warning() {
    let text = "clients = [\"0.0.0.0/0\"]\n[dns]\nforwarder_addresses = [\"10.0.0.9\"]\n\
        [upstream]\npublic = []\n[forward]\nothers = \"direct\"\nconnect.listen = [\"0.0.0.0:3128\"]\n";
    insta::assert_snapshot!(loaded(text).warnings.join("\n"));
}

// Gathering

#[test]
fn the_file_is_the_flag_s_then_the_variable_s() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.toml"), directory.path().join("b.toml"));
    std::fs::write(&a, "grace = \"1s\"").unwrap();
    std::fs::write(&b, "grace = \"2s\"").unwrap();
    let environment = [("SIDEGATE_CONFIG", b.to_str().unwrap()), ("SIDEGATE_LINGER", "3s"), ("HOME", "/root")];
    let by_variable = gather(None, &environment).unwrap();
    assert_eq!(Config::load(&by_variable).unwrap().grace, Duration::from_secs(2));
    let by_flag = Config::load(&gather(Some(&a), &environment).unwrap()).unwrap();
    assert_eq!((by_flag.grace, by_flag.linger), (Duration::from_secs(1), Duration::from_secs(3)));
    assert!(by_variable.environment.iter().all(|(name, _)| name != "HOME"), "other programs' variables stay theirs");
}

#[test]
fn a_whole_file_can_stand_in_a_variable() {
    let inputs = gather(None, &[("SIDEGATE_CONFIG_TOML", "grace = \"1s\"\n[[endpoint]]\nport = 8443\n")]).unwrap();
    assert_eq!(Config::load(&inputs).unwrap().endpoints[0].port, 8443);
    let inputs = gather(None, &[("SIDEGATE_CONFIG_TOML", "grace = 1\n")]).unwrap();
    assert!(Config::load(&inputs).unwrap_err().to_string().starts_with("SIDEGATE_CONFIG_TOML:1:9: "));
}

#[test]
fn two_files_at_once_are_refused() {
    let environment = [("SIDEGATE_CONFIG", "/a.toml"), ("SIDEGATE_CONFIG_TOML", "grace = \"1s\"")];
    insta::assert_snapshot!("two_files_by_variable", gather(None, &environment).unwrap_err());
    let flag = Some(Path::new("/b.toml"));
    insta::assert_snapshot!("two_files_by_flag", gather(flag, &environment[1..]).unwrap_err());
}

#[test]
fn a_named_file_that_is_missing_is_reported_with_the_errors_of_the_environment() {
    let environment = [("SIDEGATE_CONFIG", "/nowhere/sidegate.toml"), ("SIDEGATE_DNS__WORKERS", "many")];
    insta::assert_snapshot!(gather(None, &environment).unwrap_err());
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"grace = \"\xff\"").unwrap();
    let shown = gather(Some(file.path()), &[]).unwrap_err().to_string();
    assert!(shown.contains("a configuration file is UTF-8"), "{shown}");
}

// Errors, word for word

#[test]
fn an_unknown_key_is_answered_with_the_nearest_one() {
    insta::assert_snapshot!(errors("[dns]\nlistne = [\"127.0.0.1:53\"]\nport = 53\nlevel = 1\n\n[[endpoints]]\n", &[]));
}

#[test]
fn a_wrong_type_is_answered_with_the_right_form() {
    let file = "grace = 20\nclients = \"10.0.0.0/8\"\nendpoint = { port = \"443\" }\nlog = \"debug\"\n[dns]\n\
        workers = \"2\"\ntake_over = \"true\"\nlisten = [53]\n[policy]\nprivate_names.orders.corp = \"vpce-01234567\"\n";
    insta::assert_snapshot!(errors(file, &[]));
}

#[test]
fn a_bad_address_is_answered_with_the_rule() {
    let file = "clients = [\"10.0.0.1/8\"]\n[dns]\nlisten = [\"127.0.0.1\", \"localhost:53\"]\n[[endpoint]]\n\
        addresses = [\"10.0.1.10:443\", \"0.0.0.0\"]\n[upstream]\npublic = [\"dns.google\", \"10.0.0.2:0\"]\n";
    insta::assert_snapshot!(errors(file, &[]));
}

#[test]
fn a_region_that_fits_no_partition_is_refused() {
    let file = "[policy]\nregion = \"us-east-1a\"\n[[endpoint]]\nregion = \"mars-north-1\"\n";
    insta::assert_snapshot!(errors(file, &[]));
    assert!(errors("", &[("AWS_REGION", "nowhere")]).starts_with("AWS_REGION: \"nowhere\": a region looks like"));
}

#[test]
fn where_a_whole_vpc_asks_nothing_may_be_asked_that_comes_back() {
    let file = "[policy]\nregion = \"us-east-1\"\n[dns]\nwhole_vpc = true\n[upstream]\n\
        public = [\"udp://1.1.1.1\", \"10.0.0.2\", \"https://dns.execute-api.us-east-1.amazonaws.com\"]\n\
        vpc = [\"10.0.0.2\"]\n[forward]\nparent_proxy = \"http://p.execute-api.us-east-1.amazonaws.com:3128\"\n\
        [[endpoint]]\nvpce_id = \"vpce-0123456789abcdef0\"\n[[endpoint]]\n\
        dns_name = \"execute-api.us-east-1.amazonaws.com\"\n[[discovery]]\nkind = \"url\"\n\
        url = \"https://ids.execute-api.us-east-1.amazonaws.com/prod\"\n";
    insta::assert_snapshot!(errors(file, &[]));
    let alone = errors("[dns]\nwhole_vpc = true\n[upstream]\npublic = [\"tls://[fd00:ec2::253]#x.example\"]\n", &[]);
    assert!(alone.contains("add an [[endpoint]]") && alone.contains("fd00:ec2::253"), "{alone}");
    // The VPC's resolver is also at an address of the VPC, which may be any private one.
    let endpoint = "[[endpoint]]\naddresses = [\"10.0.1.10\"]\n";
    let public = |server: &str| format!("[dns]\nwhole_vpc = true\n[upstream]\npublic = [\"{server}\"]\n{endpoint}");
    for inside in
        ["10.0.0.2", "tls://172.31.0.2#x.example", "192.168.0.2", "100.64.0.2", "169.254.1.1", "fd00::2", "fe80::2"]
    {
        assert!(errors(&public(inside), &[]).contains("fix: name servers outside the VPC"), "{inside}");
    }
    for right in ["9.9.9.9", "https://1.1.1.1/dns-query", "2620:fe::fe", "127.0.0.1:5300"] {
        assert!(loaded(&public(right)).dns.whole_vpc, "{right}");
    }
    // Nor of the servers of a zone that has such names.
    let zone = |name: &str, server: &str| {
        format!("{}[[upstream.zone]]\nname = \"{name}\"\nservers = [\"{server}\"]\n", public("9.9.9.9"))
    };
    for (name, server) in [
        ("amazonaws.com", "169.254.169.253"),
        (".", "10.0.0.2"),
        ("execute-api.eu-west-1.amazonaws.com", "fd00:ec2::253"),
    ] {
        let refused = errors(&zone(name, server), &[]);
        assert!(refused.contains("fix: name a narrower zone, or servers outside the VPC"), "{name}: {refused}");
    }
    for (name, server) in
        [("amazonaws.com", "9.9.9.9"), ("corp.internal", "10.0.0.2"), ("rds.amazonaws.com", "10.0.0.2")]
    {
        assert!(loaded(&zone(name, server)).dns.whole_vpc, "{name}");
    }
    // Whatever the region and the form, it may come back.
    let url = "[[discovery]]\nkind = \"url\"\nurl = \"https://a1.execute-api.eu-west-1.api.aws/ids\"\n";
    let other = errors(&format!("{}{url}", public("9.9.9.9")), &[]);
    assert!(other.contains("names in execute-api.eu-west-1.api.aws come back to us"), "{other}");
    let vpce = "vpce-0123456789abcdef0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com";
    for right in [format!("dns_name = \"{vpce}\""), "addresses = [\"10.0.1.10\"]".to_owned()] {
        assert!(loaded(&format!("[dns]\nwhole_vpc = true\n[[endpoint]]\n{right}\n")).dns.whole_vpc);
    }
}

#[test]
fn encrypted_dns_needs_a_certificate_and_its_key() {
    let file = "[dns.tls]\nlisten = [\"0.0.0.0:853\"]\n[dns.https]\nlisten = [\"0.0.0.0:853\"]\n";
    insta::assert_snapshot!(errors(file, &[]));
    let half = errors("[dns]\ntls_key = \"/etc/tls.key\"\n", &[]);
    assert!(half.contains("set dns.tls_certificate to a PEM file"), "{half}");
    let pair = "[dns]\ntls_certificate = \"/etc/tls.crt\"\ntls_key = \"/etc/tls.key\"\n";
    let whole = loaded(&format!("{pair}[dns.tls]\nlisten = [\"0.0.0.0:853\"]\n")).dns.encrypted;
    assert!(whole.certificate.is_some() && whole.tls.len() == 1 && whole.https.is_empty());
    let ours = errors(
        &format!("{pair}[dns.tls]\nlisten = [\"10.0.0.5:853\"]\n[upstream]\npublic = [\"tls://10.0.0.5\"]\n"),
        &[],
    );
    assert!(ours.contains("a server cannot be ourselves: dns.tls.listen has"), "{ours}");
}

#[test]
fn an_id_with_a_dot_is_answered_with_the_id() {
    let file = "[policy]\nprivate_api_ids = [\"a1b2c3d4e5.execute-api.us-east-1.amazonaws.com\", \"d-abc\"]\n";
    insta::assert_snapshot!(errors(file, &[]));
}

#[test]
fn errors_of_the_file_and_of_the_environment_come_together() {
    let file = "grace = \"20\"\nlinger = \"11m\"\n[log]\nlevel = \"verbose\"\nformat = \"jsn\"\n";
    let environment = [
        ("SIDEGATE_FORWARD__PUBLIC_PORT", "65536"),
        ("SIDEGATE_DNS__WORKERS", "0"),
        ("SIDEGATE_DNS__TAKE_OVER", "yes"),
        ("SIDEGATE_POLICY__PRIVATE_NAMES", "orders.corp.example"),
    ];
    insta::assert_snapshot!(errors(file, &environment));
}

#[test]
fn a_syntax_error_stops_the_file_but_not_the_environment() {
    let file = "grace = \"1s\"\n[dns\nlisten = []\n";
    insta::assert_snapshot!(errors(file, &[("SIDEGATE_LINGER", "x"), ("SIDEGATE_DNS__ANSWER", "forwarder")]));
    insta::assert_snapshot!("the_same_key_twice", errors("grace = \"1s\"\ngrace = \"2s\"\n", &[]));
}

#[test]
fn an_id_in_both_lists_is_refused() {
    let file = "[policy]\nprivate_api_ids = [\"a1b2c3d4e5\"]\nalways_public = [\"a1b2c3d4e5\", \"f6g7h8i9j0\"]\n\
        [[endpoint]]\nprivate_api_ids = [\"f6g7h8i9j0\"]\n";
    insta::assert_snapshot!(errors(file, &[]));
}

#[test]
fn an_unknown_variable_is_answered_with_the_nearest_one() {
    insta::assert_snapshot!(errors("", &[("SIDEGATE_DNS_LISTEN", "127.0.0.1:53"), ("SIDEGATE_VERBOSE", "1")]));
}

#[test]
fn names_that_belong_to_the_policy_cannot_be_given_away() {
    let file = "[policy]\nregion = \"us-east-1\"\n[policy.private_names]\n\
        \"a1.execute-api.us-east-1.amazonaws.com\" = \"vpce-01234567\"\n\"amazonaws.com\" = \"vpce-01234567\"\n\
        \"orders.corp.example\" = \"vpce-89abcdef\"\n\
        [[endpoint]]\nvpce_id = \"vpce-01234567\"\n[[endpoint]]\nvpce_id = \"vpce-01234567\"\n\
        [[upstream.zone]]\nname = \"execute-api.us-east-1.amazonaws.com\"\nservers = [\"10.0.0.2\"]\n\
        [[upstream.zone]]\nname = \"amazonaws.com\"\nservers = [\"10.0.0.2\"]\n\
        [[upstream.zone]]\nname = \"AmazonAWS.com.\"\nservers = []\n";
    insta::assert_snapshot!(errors(file, &[]));
}

#[test]
fn listeners_and_servers_cannot_share_an_address() {
    let file = "[dns]\nlisten = [\"0.0.0.0:53\", \"127.0.0.1:3128\"]\n[admin]\nlisten = \"127.0.0.1:3128\"\n\
        [upstream]\npublic = [\"127.0.0.53\", \"8.8.8.8\", \"tcp://127.0.0.1:3128\", \"[::1]:53\"]\n";
    insta::assert_snapshot!(errors(file, &[]));
    let ourselves = errors("[forward]\nparent_proxy = \"http://127.0.0.1:3128\"\n", &[]);
    assert!(
        ourselves.contains("a proxy cannot be ourselves: forward.connect.listen has \"127.0.0.1:3128\""),
        "{ourselves}"
    );
    let taken = errors("", &[("SIDEGATE_DNS__LISTEN", "1.1.1.1:53")]);
    assert!(taken.starts_with("SIDEGATE_DNS__LISTEN: \"1.1.1.1:53\": dns.listen cannot be an upstream"), "{taken}");
}

#[test]
fn keys_that_need_each_other_are_asked_for() {
    let file = "[dns]\nanswer = \"forwarder\"\ntake_over = true\n[forward.http]\ntls_key = \"/etc/key.pem\"\n[upstream]\n\
        via_parent = true\n[[upstream.zone]]\n[[endpoint]]\naddresses = [\"10.0.0.9\"]\ndns_name = \"vpce.example\"\n";
    insta::assert_snapshot!(errors(file, &[]));
}

#[test]
fn each_kind_of_source_has_its_own_keys() {
    let file = "[[discovery]]\npath = \"/etc/ids\"\n[[discovery]]\nkind = \"fiel\"\n[[discovery]]\nkind = \"file\"\n\
        url = \"https://ids.example\"\n[[discovery]]\nkind = \"url\"\nurl = \"ids.example\"\ninterval = \"500ms\"\n\
        [[discovery]]\nkind = \"learned\"\nrequired = true\nregion = \"us-east-1\"\n";
    insta::assert_snapshot!(errors(file, &[]));
}

#[test]
fn a_very_long_line_is_shown_in_part() {
    let ids = vec!["\"a1b2c3d4e5\""; 500].join(", ");
    let file = format!("[policy]\nprivate_api_ids = [{ids}, \"d-nope\", {ids}]\n");
    insta::assert_snapshot!(errors(&file, &[]));
}

#[test]
fn a_hundred_thousand_mistakes_are_counted_and_not_all_shown() {
    let ids = vec!["\"d-nope\""; 100_000].join(", ");
    let errors = load(&format!("policy.private_api_ids = [{ids}]"), &[]).unwrap_err();
    assert_eq!((errors.count(), errors.iter().count()), (100_000, 100));
    assert!(errors.to_string().ends_with("\n100000 errors in the configuration, the first 100 are shown"));
}

#[test]
fn no_error_shows_a_credential() {
    let files = [
        "[forward]\nparent_proxy = \"http://user:hunter2@host\"\n",
        "[forward]\nparent_proxy = \"http://user:hunter2@127.0.0.1:3128\"\n",
        "[forward]\nparent_proxy = [\"http://user:hunter2@host:1\"]\n",
        "[forward]\nparent_proxy = \"http://user:hunter2@host:1\nx = 1\n",
        "[forward]\nparnet_proxy = \"http://user:hunter2@host:1\"\n",
        "forward = { parent_proxy = \"http://user:hunter2@host:1\", nope = 1 }\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"https://h\"\nheaders = { Authorization = \"hunter2\", \"a b\" = \"hunter2\" }\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"https://h\"\nheaders = { A = \"hunter2\\n\" }\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"https://h\"\nheaders = { \"Bearer hunter2\" = \"A\" }\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"https://h\"\nheaders = { A = \"hunter2\", B = 1 }\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"https://h\"\nheaders = \"A: hunter2\"\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"https://h\"\nhaeders = { A = \"hunter2\" }\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"https://h\"\n[discovery.headers]\nA = \"hunter2\nB = \"1\"\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"ftp://h/?X-Amz-Signature=hunter2\"\n",
        "[[discovery]]\nkind = \"url\"\nurl = \"ftp://user:hunter2@h/\"\n",
        "discovery = [{ kind = \"url\", url = \"https://h\", headers = { A = \"hunter2\" }, nope = 1 }]\n",
        "discovery = { kind = \"url\", headers = { A = \"hunter2\" } }\n",
        "discovery = \"hunter2\"\n",
        "headers = { A = \"hunter2\" }\n",
        "[discovery]\nkind = \"url\"\nheaders = { A = \"hunter2\" }\n",
    ];
    for file in files {
        let shown = errors(file, &[]);
        assert!(shown.contains("error") && shown != "no error", "{file}");
        assert!(!shown.contains("hunter2"), "{file}\n{shown}");
    }
    let shown = errors("", &[("SIDEGATE_FORWARD__PARENT_PROXY", "user:hunter2@host")]);
    assert!(!shown.contains("hunter2"), "{shown}");
    insta::assert_snapshot!(errors(files[6], &[]));
}

// Anything at all

/// Pieces of real files, put together wrongly, get further than noise.
fn scrambled() -> impl Strategy<Value = String> {
    let lines: Vec<String> = uncommented().lines().map(str::to_owned).collect();
    let noise = prop_oneof![
        4 => prop::sample::select(lines),
        1 => "[a-z.]{0,12} ?= ?[\\[{\"]?[^\n]{0,20}[\\]}\"]?",
        1 => "\\PC{0,20}",
    ];
    prop::collection::vec(noise, 0..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in prop_oneof!["(?s).{0,200}", scrambled()], value in "\\PC{0,40}") {
        for name in ["SIDEGATE_DNS__LISTEN", "SIDEGATE_POLICY__PRIVATE_NAMES", "SIDEGATE_GRACE", "AWS_REGION"] {
            if let Err(errors) = load(&text, &[(name, &value)]) {
                prop_assert!(errors.iter().count() > 0 && errors.to_string().contains("fix: "));
            }
        }
        inputs(&text, &[]).is_blank();
    }
}
