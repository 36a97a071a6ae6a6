//! Real hellos of rustls and made ones, whole, cut and re-cut.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::{ClientConnection, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::{default_provider, hpke, kx_group};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, version};

use super::*;

/// All bytes at once.
fn read(bytes: &[u8]) -> Result<Reading, HelloError> {
    HelloReader::default().read(bytes)
}

const NAME: &str = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";

/// What a rustls client with this configuration sends first.
fn sent(config: ClientConfig, name: &str) -> Vec<u8> {
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), server).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn classic(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn post_quantum() -> ClientConfig {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    let builder =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn with_grease() -> ClientConfig {
    let suite = hpke::DH_KEM_P256_HKDF_SHA256_AES_128;
    let (key, _) = rustls::crypto::hpke::Hpke::generate_key_pair(suite).unwrap();
    let mode = EchMode::Grease(EchGreaseConfig::new(suite, key));
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_ech(mode).unwrap();
    builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// A hello of about `protocols` times 250 bytes.
fn long(protocols: usize) -> ClientConfig {
    let mut config = post_quantum();
    config.alpn_protocols = (0..protocols).map(|n| format!("{n:0>249}").into_bytes()).collect();
    config
}

/// Every kind of hello, by what is special about it.
fn hellos() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
        ("TLS 1.2", sent(classic(&[&version::TLS12]), NAME), false),
        ("TLS 1.3", sent(classic(&[&version::TLS13]), NAME), false),
        ("post-quantum", sent(long(1), NAME), false),
        ("encrypted hello", sent(with_grease(), NAME), true),
    ]
}

fn complete(name: &str, has_encrypted_hello: bool) -> Result<Reading, HelloError> {
    Ok(Reading::Complete(ClientHello { server_name: Some(name.parse().unwrap()), has_encrypted_hello }))
}

/// The handshake message of a hello in one record.
fn message(hello: &[u8]) -> &[u8] {
    let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
    assert_eq!(hello.len(), RECORD_HEADER + length, "the hello is one record");
    &hello[RECORD_HEADER..]
}

/// The message in records of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |fragment: &[u8]| [&[22, 3, 1], &(fragment.len() as u16).to_be_bytes()[..], fragment].concat();
    message.chunks(size).flat_map(record).collect()
}

/// A hello with these extensions, in one record.
fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let vector16 = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let extensions: Vec<u8> =
        extensions.iter().flat_map(|(kind, data)| [kind.to_be_bytes().to_vec(), vector16(data)].concat()).collect();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0], &vector16(&extensions)].concat();
    of_body(&body)
}

fn of_body(body: &[u8]) -> Vec<u8> {
    let header = (body.len() as u32 | 1 << 24).to_be_bytes();
    records(&[&header[..], body].concat(), MAX_FRAGMENT)
}

/// A server_name extension with these entries.
fn names(entries: &[(u8, &[u8])]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = entries
        .iter()
        .flat_map(|(kind, name)| [&[*kind], &(name.len() as u16).to_be_bytes()[..], name].concat())
        .collect();
    (0, [&(list.len() as u16).to_be_bytes()[..], &list].concat())
}

fn named(name: &str) -> Result<Reading, HelloError> {
    read(&made(&[names(&[(0, name.as_bytes())])]))
}

/// The last answer, had every byte come alone.
fn dripped(bytes: &[u8]) -> Result<Reading, HelloError> {
    let mut reader = HelloReader::default();
    for end in 0..bytes.len() {
        match reader.read(&bytes[..end]) {
            Ok(Reading::Partial) => {}
            decided => return decided,
        }
    }
    reader.read(bytes)
}

#[test]
fn a_hello_cut_at_any_offset_reads_as_it_does_whole() {
    for (kind, hello, encrypted) in hellos() {
        let whole = read(&hello);
        assert_eq!(whole, complete(NAME, encrypted), "{kind}");
        for cut in 0..hello.len() {
            let mut reader = HelloReader::default();
            assert_eq!(reader.read(&hello[..cut]), Ok(Reading::Partial), "{kind} cut at {cut}");
            assert_eq!(reader.read(&hello), whole, "{kind} cut at {cut}");
        }
        assert_eq!(dripped(&hello), whole, "{kind} byte by byte");
    }
}

#[test]
fn a_hello_in_records_of_any_size_reads_as_it_does_in_one() {
    for (kind, hello, encrypted) in hellos() {
        let message = message(&hello);
        for size in 1..=message.len() {
            assert_eq!(read(&records(message, size)), complete(NAME, encrypted), "{kind} in records of {size}");
        }
        for size in [1, 2, 3, 5, 100] {
            assert_eq!(dripped(&records(message, size)), complete(NAME, encrypted), "{kind} in records of {size}");
        }
    }
}

#[test]
fn a_post_quantum_hello_is_longer_than_a_segment() {
    let length = sent(long(1), NAME).len();
    assert!(length > 1500, "{length} bytes");
}

#[test]
fn a_hello_of_almost_sixteen_kilobytes_is_read_however_it_is_cut() {
    let hello = sent(long(58), NAME);
    assert!((15_900..=MAX_HELLO).contains(&hello.len()), "{} bytes", hello.len());
    assert_eq!(dripped(&hello), complete(NAME, false));
    // Smaller records have more headers, and do not fit any more.
    for size in (1..=message(&hello).len()).rev().step_by(61) {
        let recut = records(message(&hello), size);
        let expected = if recut.len() <= MAX_HELLO { complete(NAME, false) } else { Err(HelloError::TooLong) };
        assert_eq!(read(&recut), expected, "in records of {size}");
        assert_eq!(read(&recut[..recut.len().min(MAX_HELLO)]), expected, "in records of {size}");
    }
}

#[test]
fn a_hello_that_says_it_is_too_long_is_refused_at_its_fourth_byte() {
    let fits = (MAX_HELLO - RECORD_HEADER - MESSAGE_HEADER) as u16;
    for (length, expected) in [(fits, Ok(Reading::Partial)), (fits + 1, Err(HelloError::TooLong))] {
        let [high, low] = length.to_be_bytes();
        assert_eq!(read(&[22, 3, 1, 0x40, 0, 1, 0, high, low]), expected);
    }
}

#[test]
fn a_drip_of_tiny_records_ends_at_sixteen_kilobytes() {
    let endless = records(&[&[1, 0, 0x3f, 0][..], &[0; 8000]].concat(), 1);
    assert_eq!(read(&endless[..MAX_HELLO - 1]), Ok(Reading::Partial));
    assert_eq!(read(&endless[..MAX_HELLO]), Err(HelloError::TooLong));
    assert_eq!(read(&endless), Err(HelloError::TooLong));
}

#[test]
fn what_follows_the_hello_does_not_matter() {
    let hello = sent(post_quantum(), NAME);
    assert_eq!(read(&[&hello[..], &[0xff; 40_000]].concat()), complete(NAME, false));
}

#[test]
fn what_is_not_tls_is_told_apart() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n"[..], HelloError::PlainHttp),
        (b"CONNECT a.example:443 HTTP/1.1\r\n", HelloError::PlainHttp),
        (b"PRI * HTTP/2.0\r\n", HelloError::PlainHttp),
        (b"SSH-2.0-OpenSSH", HelloError::NotTls),
        (b"\x80\x2e\x01\x03\x01\x00", HelloError::Sslv2),
        (b"\x80\x2e\x04\x03\x01\x00", HelloError::NotTls),
        (b"\0\0\0\0", HelloError::NotTls),
        (b"\x16\x02\x00\x00\x05", HelloError::NotTls),
    ] {
        assert_eq!(read(bytes), Err(expected.clone()), "{bytes:?}");
        assert_eq!(dripped(bytes), Err(expected), "{bytes:?}");
    }
    assert_eq!(read(b""), Ok(Reading::Partial));
    assert_eq!(read(b"GE"), Ok(Reading::Partial));
}

#[test]
fn anything_but_a_client_hello_first_is_unexpected() {
    let unexpected = Err(HelloError::Unexpected);
    assert_eq!(read(&[22, 3, 3, 0, 4, 2, 0, 0, 0]), unexpected, "a ServerHello");
    assert_eq!(read(&[21, 3, 3, 0, 2, 1, 0]), unexpected, "an alert");
    assert_eq!(read(&[20, 3, 3, 0, 1, 1]), unexpected, "a change of cipher");
    assert_eq!(read(&[23, 3, 3, 0, 1, 1]), unexpected, "application data");
    assert_eq!(read(&[22, 3, 1, 0, 1, 1, 21, 3, 3, 0, 2, 1, 0]), unexpected, "an alert amid the hello");
    assert_eq!(read(b"\x16\x03\x01\0\x01\x01GET /"), unexpected, "junk amid the hello");
}

#[test]
fn records_that_are_empty_or_too_long_are_refused() {
    assert_eq!(read(&[22, 3, 1, 0, 0]), Err(HelloError::RecordLength(0)));
    assert_eq!(read(&[22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 0]), Err(HelloError::RecordLength(0)));
    assert_eq!(read(&[22, 3, 1, 0x40, 0]), Ok(Reading::Partial));
    assert_eq!(read(&[22, 3, 1, 0x40, 1]), Err(HelloError::RecordLength(0x4001)));
}

#[test]
fn a_hello_without_a_name_or_without_extensions_has_none() {
    let nameless = Ok(Reading::Complete(ClientHello { server_name: None, has_encrypted_hello: false }));
    assert_eq!(read(&sent(post_quantum(), "10.0.0.1")), nameless, "rustls sends no address as a name");
    assert_eq!(read(&made(&[])), nameless);
    let without = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 0x2f], &[1, 0]].concat();
    assert_eq!(read(&of_body(&without)), nameless, "as TLS 1.0 wrote it");
}

#[test]
fn the_case_of_a_name_does_not_matter() {
    assert_eq!(named("Orders.Corp.EXAMPLE"), complete("orders.corp.example", false));
}

#[test]
fn a_name_that_is_not_one_is_refused() {
    for address in ["10.0.0.1", "::1", "fd00:ec2::254", "169.254.169.254"] {
        assert_eq!(named(address), Err(HelloError::Address), "{address}");
    }
    assert_eq!(named("a.example."), Err(HelloError::TrailingDot));
    assert_eq!(named("."), Err(HelloError::TrailingDot));
    assert_eq!(named(""), Err(HelloError::Malformed));
    assert_eq!(named("a..example"), Err(HelloError::Name(HostNameError::EmptyLabel)));
    assert_eq!(named("a.example\0.evil"), Err(HelloError::Name(HostNameError::Character('\0'))));
    assert_eq!(named("b\u{fc}cher.example"), Err(HelloError::Name(HostNameError::Character('\u{c3}'))));
    assert_eq!(named("[::1]"), Err(HelloError::Name(HostNameError::Character(':'))));
}

#[test]
fn two_names_are_one_too_many() {
    let (one, other) = ((0, &b"a.example"[..]), (0, &b"b.example"[..]));
    for extensions in [
        vec![names(&[one, other])],
        vec![names(&[one, one])],
        vec![names(&[one, (1, b"x")])],
        vec![names(&[(1, b"x")])],
        vec![names(&[one]), names(&[other])],
        vec![names(&[one]), (10, vec![0, 0]), names(&[one])],
        vec![(0xfe0d, vec![0]), (0xfe0d, vec![0])],
    ] {
        assert_eq!(read(&made(&extensions)), Err(HelloError::Repeated), "{extensions:?}");
    }
}

#[test]
fn lengths_that_do_not_add_up_are_malformed() {
    let malformed = Err(HelloError::Malformed);
    assert_eq!(read(&made(&[(0, vec![])])), malformed, "a server's empty server_name");
    assert_eq!(read(&made(&[(0, vec![0, 0])])), malformed, "an empty list");
    assert_eq!(read(&made(&[(0, vec![0, 9, 0, 0, 1, b'a'])])), malformed, "a list beyond its extension");
    assert_eq!(read(&made(&[(0, vec![0, 4, 0, 0, 1, b'a', 0])])), malformed, "an extension beyond its list");
    assert_eq!(read(&made(&[(0, vec![0, 4, 0, 0, 9, b'a'])])), malformed, "a name beyond its list");
    let hello = sent(classic(&[&version::TLS13]), NAME);
    let body = &message(&hello)[MESSAGE_HEADER..];
    assert_eq!(read(&of_body(body)), complete(NAME, false));
    assert_eq!(read(&of_body(&[body, &[0]].concat())), malformed, "a byte after the extensions");
    let before_extensions = 34 + 1 + 32 + 2 + usize::from(u16::from_be_bytes([body[67], body[68]])) + 2;
    for end in (0..body.len()).filter(|end| *end != before_extensions) {
        assert_eq!(read(&of_body(&body[..end])), malformed, "a body of {end} bytes");
    }
    for (what, start) in [
        ("a session id of 33 bytes", [&[33][..], &[0; 33], &[0, 2, 0, 0x2f], &[1, 0]].concat()),
        ("no cipher suite", [&[0][..], &[0, 0], &[1, 0]].concat()),
        ("half a cipher suite", [&[0][..], &[0, 3, 0, 0x2f, 0], &[1, 0]].concat()),
        ("no compression method", [&[0][..], &[0, 2, 0, 0x2f], &[0]].concat()),
    ] {
        assert_eq!(read(&of_body(&[&[3; 34][..], &start].concat())), malformed, "{what}");
    }
}

#[test]
fn every_refusal_has_its_alert() {
    for (error, alert) in [
        (HelloError::PlainHttp, None),
        (HelloError::NotTls, None),
        (HelloError::Unexpected, Some(Alert::UNEXPECTED_MESSAGE)),
        (HelloError::RecordLength(0), Some(Alert::UNEXPECTED_MESSAGE)),
        (HelloError::RecordLength(16_385), Some(Alert::RECORD_OVERFLOW)),
        (HelloError::Malformed, Some(Alert::DECODE_ERROR)),
        (HelloError::Repeated, Some(Alert::ILLEGAL_PARAMETER)),
        (HelloError::Address, Some(Alert::ILLEGAL_PARAMETER)),
    ] {
        assert_eq!(error.alert(), alert, "{error}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_a_split_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300), tls: bool) {
        let start: &[u8] = if tls { &[22, 3, 1, 0, 200, 1, 0, 0, 190] } else { &[] };
        let bytes = [start, &bytes].concat();
        prop_assert_eq!(dripped(&bytes), read(&bytes));
    }

    #[test]
    fn a_damaged_hello_reads_alike_in_any_split(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        size in 1..600_usize,
    ) {
        let hello = made(&[(10, vec![0; 20]), names(&[(0, NAME.as_bytes())]), (0xfe0d, vec![1; 50])]);
        let mut bytes = records(message(&hello), size);
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        // A complete answer for a prefix, and a refusal too, is the answer for the whole.
        prop_assert_eq!(dripped(&bytes), read(&bytes));
    }
}
