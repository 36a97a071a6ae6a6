//! Which parts of a file may be credentials: those that no error shows, not even by quoting the line they stand on.
//!
//! `text` asks while it reads. When in doubt a value counts as secret; the rule and the fix do without it.

use std::ops::Range;

/// Whether a text looks like a URL with a user, a password or a signed query in it.
pub(super) fn in_url(text: &str) -> bool {
    text.contains("://") && text.contains(['@', '?'])
}

/// Whether the value of an unknown key may be a credential: its name may be a misspelt secret one.
pub(super) fn in_unknown(table: &str, name: &str, source: &str) -> bool {
    table == "discovery" || mentions_secrets(name) || in_url(source)
}

/// Whether a value of the wrong type may hold one: `rule` begins with the path of its key.
pub(super) fn in_misplaced(rule: &str, source: &str) -> bool {
    rule.starts_with("discovery ") || mentions_secrets(source) || in_url(source)
}

/// The part of the lines around a syntax error that must not be shown: nothing there can be told for sure.
pub(super) fn near_syntax_error(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let start = span.start.min(bytes.len());
    let line_start = bytes[..start].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let line_end = bytes[start..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| start + at);
    let section_start = line_starts(bytes, line_start).rfind(|&at| bytes[at..].trim_ascii_start().starts_with(b"["));
    let section = String::from_utf8_lossy(&bytes[section_start.unwrap_or(0)..line_end]);
    if !mentions_secrets(&section) && !section.contains('@') {
        return None;
    }
    // The key may be shown, if there is one on this line.
    let value =
        bytes[line_start..line_end].iter().position(|&b| b == b'=').map_or(line_start, |at| line_start + at + 1);
    Some(value..line_end)
}

/// The offsets at which lines begin, up to and with `last`.
fn line_starts(bytes: &[u8], last: usize) -> impl DoubleEndedIterator<Item = usize> {
    let after_newline = bytes[..last].iter().enumerate().filter(|&(_, &b)| b == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_newline)
}

fn mentions_secrets(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["header", "proxy", "auth", "token", "password", "secret"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_credentials_are_secret_and_others_are_not() {
        assert!(in_url("http://user:password@proxy:3128"));
        assert!(in_url("https://bucket.example/ids?X-Amz-Signature=0123"));
        assert!(!in_url("https://1.1.1.1/dns-query"));
    }

    #[test]
    fn near_a_syntax_error_the_values_of_a_section_with_secrets_are_hidden() {
        let text = "[log]\nlevel = info\n[discovery.headers]\nX = \"tok\nY = 1\n";
        let at = |needle: &str| text.find(needle).unwrap();
        assert_eq!(near_syntax_error(text, &(at("info")..at("info") + 4)), None);
        assert_eq!(near_syntax_error(text, &(at("tok")..at("tok"))), Some(at(" \"tok")..at("\nY")));
        assert_eq!(near_syntax_error("secret", &(0..100)), Some(0..6));
    }
}
