//! Every key there is, with its type; the layers are checked against this list and nothing else.
//!
//! `text` and `environment` ask it for what an operator wrote. A key that is not here does not exist.

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    /// A list of strings.
    List,
    /// A table of strings, for keys that the operator names.
    Table,
}

impl Kind {
    /// With its article, as errors say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Text => "a string",
            Kind::Integer => "a whole number",
            Kind::Boolean => "true or false",
            Kind::List => "a list of strings",
            Kind::Table => "a table of strings",
        }
    }
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its dotted path; in an array of tables, its name.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// Whether its values may be credentials, which no error shows.
    pub(super) secret: bool,
}

/// One array of tables.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) path: &'static str,
    pub(super) keys: &'static [Key],
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, secret: false }
}

const fn secret(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, secret: true }
}

/// The keys outside arrays. Each has an environment variable.
pub(super) const KEYS: &[Key] = &[
    key("state_dir", Kind::Text),
    key("clients", Kind::List),
    key("grace", Kind::Text),
    key("linger", Kind::Text),
    key("policy.private_api_ids", Kind::List),
    key("policy.always_public", Kind::List),
    key("policy.private_names", Kind::Table),
    key("policy.region", Kind::Text),
    key("policy.dns_suffix", Kind::Text),
    key("upstream.public", Kind::List),
    key("upstream.vpc", Kind::List),
    key("upstream.default", Kind::Text),
    key("upstream.via_parent", Kind::Boolean),
    key("dns.listen", Kind::List),
    key("dns.workers", Kind::Integer),
    key("dns.answer", Kind::Text),
    key("dns.forwarder_addresses", Kind::List),
    key("dns.take_over", Kind::Boolean),
    key("dns.whole_vpc", Kind::Boolean),
    key("dns.tls_certificate", Kind::Text),
    key("dns.tls_key", Kind::Text),
    key("dns.tls.listen", Kind::List),
    key("dns.https.listen", Kind::List),
    key("forward.connect.listen", Kind::List),
    key("forward.sni.listen", Kind::List),
    key("forward.http.listen", Kind::List),
    key("forward.http.tls_certificate", Kind::Text),
    key("forward.http.tls_key", Kind::Text),
    key("forward.others", Kind::Text),
    key("forward.allow", Kind::List),
    key("forward.public_networks", Kind::List),
    key("forward.public_port", Kind::Integer),
    key("forward.extra_roots", Kind::List),
    secret("forward.parent_proxy", Kind::Text),
    key("admin.listen", Kind::Text),
    key("admin.hosts", Kind::List),
    key("log.level", Kind::Text),
    key("log.format", Kind::Text),
    key("log.access", Kind::Boolean),
];

/// The arrays of tables: files only, because a variable has no place for them.
pub(super) const ARRAYS: &[Array] = &[
    Array {
        path: "endpoint",
        keys: &[
            key("region", Kind::Text),
            key("vpce_id", Kind::Text),
            key("addresses", Kind::List),
            key("dns_name", Kind::Text),
            key("private_api_ids", Kind::List),
            key("health", Kind::Text),
            key("port", Kind::Integer),
        ],
    },
    Array { path: "upstream.zone", keys: &[key("name", Kind::Text), key("servers", Kind::List)] },
    Array {
        path: "discovery",
        keys: &[
            key("kind", Kind::Text),
            key("path", Kind::Text),
            key("url", Kind::Text),
            secret("headers", Kind::Table),
            key("region", Kind::Text),
            key("endpoint_url", Kind::Text),
            key("interval", Kind::Text),
            key("required", Kind::Boolean),
        ],
    },
];

/// The key with this path.
pub(super) fn find(keys: &'static [Key], path: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.path == path)
}

/// The array of tables with this path.
pub(super) fn array(path: &str) -> Option<&'static Array> {
    ARRAYS.iter().find(|array| array.path == path)
}

/// Whether keys or arrays lie below this path.
pub(super) fn is_table(path: &str) -> bool {
    let below = |other: &str| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    KEYS.iter().any(|key| below(key.path)) || ARRAYS.iter().any(|array| below(array.path))
}

/// The names that may stand directly in a table; the empty path is the top of the file.
pub(super) fn names_in(table: &str) -> Vec<&'static str> {
    let paths = KEYS.iter().map(|key| key.path).chain(ARRAYS.iter().map(|array| array.path));
    let mut names: Vec<&str> = paths
        .filter_map(|path| if table.is_empty() { Some(path) } else { path.strip_prefix(table)?.strip_prefix('.') })
        .filter_map(|rest| rest.split('.').next())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The environment variable of a key: `SIDEGATE_`, then the path in capitals joined by `__`.
pub(super) fn variable(path: &str) -> String {
    format!("SIDEGATE_{}", path.to_ascii_uppercase().replace('.', "__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_paths_in_capitals() {
        assert_eq!(variable("grace"), "SIDEGATE_GRACE");
        assert_eq!(variable("forward.http.tls_key"), "SIDEGATE_FORWARD__HTTP__TLS_KEY");
    }

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let mut names: Vec<String> = KEYS.iter().map(|key| variable(key.path)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn tables_know_what_may_stand_in_them() {
        assert!(is_table("forward.http") && is_table("upstream") && !is_table("dns.listen") && !is_table("dn"));
        assert_eq!(names_in("admin"), ["hosts", "listen"]);
        assert_eq!(names_in("upstream"), ["default", "public", "via_parent", "vpc", "zone"]);
        assert!(names_in("").contains(&"endpoint"));
    }
}
