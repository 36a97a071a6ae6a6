//! The name in `/route?name=NAME`; `server` asks for it.

use percent_encoding::percent_decode_str;

use crate::policy::HostName;

/// Longer values are not echoed whole, in characters.
const SHOWN: usize = 80;

/// The one name in a query. `type` may stand beside it: which way a name goes does not depend on the type asked for.
///
/// # Errors
/// No name, two, or none that is one; in words for whoever asked.
pub(super) fn name(query: Option<&str>) -> Result<HostName, String> {
    let mut names = Vec::new();
    for (key, value) in query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "name" => names.push(value),
            "type" => {}
            other => return Err(format!("there is no {:?}: ask for /route?name=NAME", shortened(other))),
        }
    }
    let [name] = names[..] else { return Err("which name? ask for /route?name=NAME, with one name".to_owned()) };
    let decoded = percent_decode_str(name).decode_utf8();
    let parsed = decoded.map_err(|_| "a name is ASCII: write internationalised names in their xn-- form".to_owned());
    parsed
        .and_then(|name| name.parse().map_err(|error| format!("{error}")))
        .map_err(|rule| format!("name={:?}: {rule}", shortened(name)))
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<String, String> {
        name(Some(query)).map(|name| name.to_string())
    }

    #[test]
    fn a_name_is_read_however_it_is_encoded() {
        for query in ["name=a.example", "name=A%2Eexample.", "type=AAAA&name=a.example", "&name=a.example&"] {
            assert_eq!(read(query).as_deref(), Ok("a.example"), "{query}");
        }
    }

    #[test]
    fn a_bad_name_is_answered_with_the_value_and_the_rule() {
        let cases = [
            ("", "which name?"),
            ("name=a&name=b", "which name?"),
            ("name=", "name=\"\": a name cannot be empty"),
            ("name=a..b", "name=\"a..b\": a name has no empty label"),
            ("name=a%0Ab", "name=\"a%0Ab\": a name has no '\\n'"),
            ("name=%ff", "name=\"%ff\": a name is ASCII"),
            ("nmae=a", "there is no \"nmae\""),
        ];
        for (query, words) in cases {
            let error = read(query).unwrap_err();
            assert!(error.starts_with(words), "{query}: {error}");
        }
        assert!(read(&format!("name={}", "a".repeat(10_000))).unwrap_err().len() < 200);
    }
}
