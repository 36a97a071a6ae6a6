//! Takes out of what a server said whatever of the request is secret, however the server spells it.
//!
//! `probe` passes everything through here that it keeps of a reply. A server that repeats a query or a header may show it as it
//! was sent, decoded, or escaped for JSON, HTML or a URL, whole or in part.

use percent_encoding::percent_decode_str;

use super::request::Request;

/// Characters below which a part of a header or query is no secret.
const SHORTEST_SECRET: usize = 4;
/// What stands in its place.
const REDACTED: &str = "[redacted]";
/// Characters of HTML and the names they go by.
const ENTITIES: [(char, &str); 5] = [('&', "&amp;"), ('"', "&quot;"), ('\'', "&apos;"), ('<', "&lt;"), ('>', "&gt;")];

/// The text without what the request has that is not to be shown. Cut a text only afterwards, so that nothing stays of a
/// secret at the end.
pub(super) fn redacted(text: &str, request: &Request) -> String {
    let secrets = readings(request);
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let secret = secrets.iter().find_map(|secret| spelling_of(secret, rest));
        let length = secret.unwrap_or(first.len_utf8());
        shown.push_str(if secret.is_some() { REDACTED } else { &rest[..length] });
        rest = &rest[length..];
    }
    shown
}

/// Every secret as it may be meant, the longest first: as it was sent; what a URL means by it; what a form does.
fn readings(request: &Request) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for secret in request.secrets() {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        all.extend([secret.to_owned(), decoded(secret), decoded(&secret.replace('+', " "))]);
    }
    // What does not print is not in the text any more.
    all.iter_mut().for_each(|secret| secret.retain(|c| !c.is_control()));
    // Shorter ones would blot out the whole text, and hide nothing.
    all.retain(|secret| secret.chars().count() >= SHORTEST_SECRET);
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all.dedup();
    all
}

/// Octets at the start of `text` that spell this secret, if it stands there; the most, if it can be read in several ways:
/// `\\` may be two characters, or one that is escaped.
fn spelling_of(secret: &str, text: &str) -> Option<usize> {
    let mut reached = vec![0];
    for c in secret.chars() {
        let mut next: Vec<usize> = reached.iter().flat_map(|&at| after(c, text, at)).collect();
        next.sort_unstable();
        next.dedup();
        reached = next;
    }
    reached.pop()
}

/// Where a spelling of the character that begins at `at` may end.
fn after(c: char, text: &str, at: usize) -> impl Iterator<Item = usize> {
    let rest = text.get(at..).unwrap_or_default();
    let plain = rest.starts_with(c).then_some(c.len_utf8());
    let escaped = match rest.as_bytes().first() {
        Some(b'\\') => json(c, rest),
        Some(b'%') => percent(c, rest),
        Some(b'&') => html(c, rest),
        Some(b'+') if c == ' ' => Some(1),
        _ => None,
    };
    plain.into_iter().chain(escaped).map(move |length| at + length)
}

/// RFC 8259 section 7: `\"`, `\/`, or its UTF-16 units as `\u0022`.
fn json(c: char, text: &str) -> Option<usize> {
    let after = text.strip_prefix('\\')?;
    if after.starts_with(c) && c.is_ascii_punctuation() {
        return Some(2);
    }
    c.encode_utf16(&mut [0; 2]).iter().try_fold(0, |at, unit| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        (u16::from_str_radix(digits, 16).ok()? == *unit).then_some(at + 6)
    })
}

/// RFC 3986 section 2.1, of each octet of its UTF-8.
fn percent(c: char, text: &str) -> Option<usize> {
    c.encode_utf8(&mut [0; 4]).bytes().try_fold(0, |at, octet| {
        let digits = text.get(at..)?.strip_prefix('%')?.get(..2)?;
        (u8::from_str_radix(digits, 16).ok()? == octet).then_some(at + 3)
    })
}

/// `&quot;`, `&#34;` or `&#x22;`.
fn html(c: char, text: &str) -> Option<usize> {
    if let Some((_, entity)) = ENTITIES.iter().find(|(of, entity)| *of == c && text.starts_with(entity)) {
        return Some(entity.len());
    }
    let (number, _) = text.strip_prefix("&#")?.split_once(';')?;
    let value = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    (value.ok()? == u32::from(c)).then_some("&#;".len() + number.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let host = "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com";
        let request = Request::of_url(&format!("{host}/prod?token=a%2Fb%2Bc%C3%A9&note=two+words")).unwrap();
        request.with_header("x-api-key: hu\"sh<&>\\%").unwrap()
    }

    #[test]
    fn a_secret_is_hidden_in_every_spelling_a_server_may_repeat_it_in() {
        for spelled in [
            "a%2Fb%2Bc%C3%A9",
            "a%2fb%2bc%c3%a9",
            "a/b+cé",
            "a\\/b+cé",
            "a\\/b+c\\u00e9",
            "a\\u002fb\\u002Bc\\u00E9",
            "a&#47;b&#x2B;c&#xe9;",
            "a%2Fb%2Bcé",
            "two+words",
            "two words",
            "two%20words",
            "hu\"sh<&>\\%",
            "hu\\\"sh<&>\\\\%",
            "hu\\\"sh\\u003c\\u0026\\u003e\\\\%",
            "hu&quot;sh&lt;&amp;&gt;\\&#37;",
            "hu%22sh%3C%26%3E%5c%25",
            "token=a/b+cé&note=two words",
        ] {
            assert_eq!(redacted(&format!("<{spelled}>"), &request()), "<[redacted]>", "{spelled}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_was() {
        for text in ["", "a/b", "two", "{\"message\":\"Forbidden\"}", "100% \\u00", "&#; é \u{1f512} %", "\\"] {
            assert_eq!(redacted(text, &request()), text);
        }
    }
}
