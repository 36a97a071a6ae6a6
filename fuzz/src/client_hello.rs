//! The first bytes of a TLS client: the same outcome however they are split, and the same name that rustls sees.

use rustls::server::Acceptor;
use sidegate::forward::{HelloError, HelloReader, MAX_HELLO, Reading};

/// The first octet says in pieces of how many octets the others come.
pub fn run(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    let whole = HelloReader::default().read(bytes);
    assert_eq!(whole, in_pieces(bytes, usize::from(step).max(1)), "in pieces of {step}");
    if let Ok(Reading::Complete(ours)) = &whole
        && let Some(theirs) = by_rustls(bytes)
    {
        let ours = ours.server_name.as_ref().map(ToString::to_string);
        // Of names that it does not take rustls knows none.
        assert!(theirs.is_none() || ours == theirs, "{ours:?} here, {theirs:?} there");
    }
}

fn in_pieces(bytes: &[u8], step: usize) -> Result<Reading, HelloError> {
    let mut reader = HelloReader::default();
    let mut last = reader.read(&[]);
    // What is behind the longest hello cannot matter.
    for end in (step..bytes.len().min(MAX_HELLO + step)).step_by(step).chain([bytes.len()]) {
        last = reader.read(&bytes[..end]);
        if last != Ok(Reading::Partial) {
            break;
        }
    }
    last
}

/// The name in lower case; `None` where rustls does not take it for a ClientHello.
fn by_rustls(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Some(accepted.client_hello().server_name().map(str::to_ascii_lowercase));
            }
            Ok(None) => {}
            Err(_) => return None,
        }
    }
    None
}
