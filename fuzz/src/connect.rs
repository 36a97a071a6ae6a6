//! The head of a CONNECT request: the same however it is split, read in one way or refused, and never an address.

use std::ffi::{CString, c_char, c_int};
use std::net::IpAddr;

use bytes::BytesMut;
use sidegate::forward::{Head, HeadReader, Refusal, requested};

unsafe extern "C" {
    /// Of the C library: reads an IPv4 address in every spelling that it knows.
    fn inet_aton(text: *const c_char, address: *mut libc::in_addr) -> c_int;
}

/// The first octet says in pieces of how many octets the others come.
pub fn run(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let whole = HeadReader::default().take(&mut BytesMut::from(bytes));
    same(&whole, &in_pieces(bytes, usize::from(step).max(1)));
    let Ok(Some(head)) = whole else { return };
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends") + 4;
    let text = &bytes[..end];
    assert!(!text.iter().enumerate().any(|(at, byte)| *byte == b'\n' && text[at - 1] != b'\r'), "a bare line feed");
    assert!(head.values("host").count() <= 1, "two hosts");
    for field in &head.fields {
        let name = field.name.iter().all(|byte| byte.is_ascii_graphic() && !b"():;<=>?@[\\]{}\",/".contains(byte));
        assert!(name && !field.name.is_empty(), "{:?}", field.name);
        assert!(!field.value.iter().any(|byte| b"\r\n\0".contains(byte)), "{:?}", field.value);
    }
    let Ok(destination) = requested(&head) else { return };
    assert_eq!(head.method, "CONNECT");
    let host = destination.host.to_string();
    assert!(host.parse::<IpAddr>().is_err() && !is_address_to_the_system(&host), "{host} is an address");
    assert!(destination.port > 0);
    assert!(head.values("transfer-encoding").chain(head.values("content-length")).next().is_none(), "a body");
    if let Some(host) = head.values("host").next() {
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let host = host.split(':').next().unwrap_or_default();
        assert_eq!(host.strip_suffix('.').unwrap_or(host), destination.host.to_string(), "Host and target");
    }
}

fn in_pieces(bytes: &[u8], step: usize) -> Result<Option<Head>, Refusal> {
    let (mut reader, mut buffer) = (HeadReader::default(), BytesMut::new());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        let taken = reader.take(&mut buffer);
        if !matches!(taken, Ok(None)) {
            return taken;
        }
    }
    Ok(None)
}

fn same(whole: &Result<Option<Head>, Refusal>, pieces: &Result<Option<Head>, Refusal>) {
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (Err(_), Err(_)) => {}
        _ => panic!("{whole:?} whole, {pieces:?} in pieces"),
    }
}

/// Whether the C library would dial it without asking DNS: decimal, octal, hexadecimal, with fewer than four parts.
fn is_address_to_the_system(host: &str) -> bool {
    let Ok(host) = CString::new(host) else { return false };
    let mut address = libc::in_addr { s_addr: 0 };
    // SAFETY: `host` is a string that ends in NUL, `address` is valid for writes; both outlive the call.
    unsafe { inet_aton(host.as_ptr(), &raw mut address) != 0 }
}
