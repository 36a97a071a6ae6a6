//! Environment variables as keys: the layer above the file.
//!
//! Every key outside arrays of tables has a variable. Lists are separated by commas, tables are `name=value` pairs
//! separated by commas; spaces around either do not count, and an empty variable is an empty list.

use super::document::{Entry, Keys, Node, Place, Value};
use super::error::{Problem, Reason, quoted};
use super::schema::{KEYS, Key, Kind, variable};
use super::secret;
use super::suggest::nearest;

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "SIDEGATE_";
/// A file's path.
pub(super) const FILE_VARIABLE: &str = "SIDEGATE_CONFIG";
/// A whole file's text.
pub(super) const TEXT_VARIABLE: &str = "SIDEGATE_CONFIG_TOML";

/// Reads the variables that are keys, and finds those that look like ours and are not.
pub(super) fn read(environment: &[(String, String)], problems: &mut Vec<Problem>) -> Keys {
    let mut keys = Keys::new();
    for (name, text) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let place = Place::Named(name.clone());
        if let Some(key) = KEYS.iter().find(|key| variable(key.path) == *name) {
            match value(key, text, &place) {
                Ok(value) => {
                    keys.insert(key.path, Node { value, place });
                }
                Err(reason) => problems.push(Problem::new(&place, quoted(text), reason)),
            }
        } else if name != FILE_VARIABLE && name != TEXT_VARIABLE && !is_service_link(name, text) {
            problems.push(unknown(name, &place));
        }
    }
    keys
}

fn value(key: &Key, text: &str, place: &Place) -> Result<Value, Reason> {
    let entry = |text: &str| {
        let text = text.trim();
        Entry { text: text.to_owned(), place: place.clone(), secret: key.secret || secret::in_url(text) }
    };
    let entries = || text.split(',').filter(|_| !text.trim().is_empty());
    let rule = || format!("{} is {}", key.path, key.kind.name());
    Ok(match key.kind {
        Kind::Text => Value::Text(entry(text)),
        Kind::Integer => Value::Integer(text.trim().parse().map_err(|_| Reason::new(rule(), "write a whole number"))?),
        Kind::Boolean => Value::Boolean(
            text.trim().parse().map_err(|_| Reason::new(rule(), "write true or false in small letters"))?,
        ),
        Kind::List => Value::List(entries().map(entry).collect()),
        Kind::Table => {
            let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (entry(name), entry(value)));
            let fix = "separate name and value by =, and pairs by commas";
            let rule = || format!("{} is a list of name=value pairs", key.path);
            Value::Table(entries().map(pair).collect::<Option<_>>().ok_or_else(|| Reason::new(rule(), fix))?)
        }
    })
}

fn unknown(name: &str, place: &Place) -> Problem {
    let known: Vec<String> = KEYS.iter().map(|key| variable(key.path)).collect();
    let known = known.iter().map(String::as_str).chain([FILE_VARIABLE, TEXT_VARIABLE]);
    let fix = match nearest(name, known) {
        Some(known) => format!("write {known}"),
        None => {
            "unset it: a key's variable is SIDEGATE_, then its path in capitals, joined by two underscores".to_owned()
        }
    };
    Problem::new(place, "unknown variable", Reason::new("there is no such key", fix))
}

/// Whether this is what Kubernetes and Docker links set for a service called `sidegate` or `sidegate-...`.
///
/// Kubernetes gives every pod `SIDEGATE_SERVICE_HOST`, `SIDEGATE_PORT=tcp://10.0.0.1:53` and the like for such a
/// service of its namespace. Nobody wrote these, so they are no errors. None has two underscores together.
fn is_service_link(name: &str, value: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let port = name.split("_PORT_").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || port || (name.ends_with("_PORT") && is_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(name: &str, text: &str) -> (Keys, Vec<Problem>) {
        let mut problems = Vec::new();
        let keys = read(&[(name.to_owned(), text.to_owned())], &mut problems);
        (keys, problems)
    }

    #[test]
    fn lists_are_separated_by_commas_and_empty_is_an_empty_list() {
        let texts = |text: &str| match &read_one("SIDEGATE_DNS__LISTEN", text).0["dns.listen"].value {
            Value::List(entries) => entries.iter().map(|entry| entry.text.clone()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(texts(" a , b"), ["a", "b"]);
        assert!(texts("").is_empty() && texts("  ").is_empty());
        assert_eq!(texts("a,"), ["a", ""], "a missing entry is not dropped in silence");
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_our_name_is_no_error() {
        for (name, value) in [
            ("SIDEGATE_SERVICE_HOST", "10.0.0.1"),
            ("SIDEGATE_SERVICE_PORT", "53"),
            ("SIDEGATE_SERVICE_PORT_DNS_TCP", "53"),
            ("SIDEGATE_PORT", "udp://10.0.0.1:53"),
            ("SIDEGATE_PORT_53_UDP", "udp://10.0.0.1:53"),
            ("SIDEGATE_ADMIN_PORT_9180_TCP_ADDR", "10.0.0.1"),
        ] {
            assert_eq!(read_one(name, value).1, [], "{name}");
        }
        for name in ["SIDEGATE_PORT", "SIDEGATE_FORWARD__PUBLIC__PORT", "SIDEGATE_PUBLIC_PORT"] {
            assert_eq!(read_one(name, "443").1.len(), 1, "{name}");
        }
    }

    #[test]
    fn the_value_of_an_unknown_variable_is_never_shown() {
        let (_, problems) = read_one("SIDEGATE_FORWARD__PARENT_PROXI", "http://u:hunter2@proxy:1");
        assert_eq!(problems[0].fix, "write SIDEGATE_FORWARD__PARENT_PROXY");
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
}
