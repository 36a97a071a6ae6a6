//! Holds the shape of `src/`: which folder may import which, where `unsafe` may stand, how a file begins and how long it
//! gets.
//!
//! It reads the text of every file: `crate::` and `super::` paths, in `use` and in the middle of code, in tests as well.
//! Comments and strings do not count. A folder that is not in [`ARROWS`] fails until it is.
#![allow(
    clippy::unwrap_used,
    reason = "a test may fail by panicking, and clippy.toml's leave for tests does not reach the helpers of this file"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What stands directly in `src/`, what of it each may import, and why.
const ARROWS: &[(&str, &[&str], &str)] = &[
    ("policy", &[], "the core that both planes share knows nobody"),
    ("interfaces", &["policy"], "a leaf: the addresses of this host, as the policy's networks"),
    ("tcp_listener", &[], "a leaf: bind, accept, bounds"),
    ("histogram", &[], "a leaf: how long things took"),
    ("inherited", &[], "a leaf: sockets that were bound for this process"),
    ("notify", &[], "a leaf: what a supervisor is told"),
    ("roots", &[], "a leaf: whose certificates are believed"),
    ("whole_file", &[], "a leaf: files read whole and replaced whole"),
    ("recent", &[], "a leaf: the last few of something, kept only while somebody looks"),
    (
        "server_tls",
        &["whole_file"],
        "a leaf: our certificate, for the clients of both planes, read again when it changes",
    ),
    ("egress_proxy", &["policy"], "a leaf: the proxy between us and the internet, by address or by name"),
    (
        "dns",
        &[
            "policy",
            "interfaces",
            "inherited",
            "tcp_listener",
            "histogram",
            "recent",
            "roots",
            "server_tls",
            "egress_proxy",
        ],
        "a plane knows the policy; app hands it everything else",
    ),
    (
        "forward",
        &[
            "policy",
            "interfaces",
            "inherited",
            "tcp_listener",
            "histogram",
            "recent",
            "roots",
            "server_tls",
            "egress_proxy",
        ],
        "a plane knows the policy; app hands it everything else, resolution too",
    ),
    (
        "discovery",
        &["policy", "interfaces", "roots", "whole_file"],
        "it makes the policy's table; app hands it closures to ask with",
    ),
    ("admin", &["policy"], "it tells what app hands it to tell"),
    (
        "doctor",
        &["policy", "egress_proxy"],
        "it asks the policy, and by functions that app hands it the resolvers; it makes the calls itself",
    ),
    ("demo", &[], "a world outside Sidegate, which to it is addresses that answer DNS and take connections"),
    (
        "config",
        &["policy", "dns", "forward", "discovery", "admin", "server_tls", "egress_proxy"],
        "it fills the Config that each of them owns",
    ),
    (
        "resolv_conf",
        &["whole_file"],
        "a leaf: the name servers of this host, and how its resolv.conf comes to lead to us",
    ),
    (
        "logging",
        &["config", "forward"],
        "it takes its level and form as config read them; forward names the access log",
    ),
    (
        "app",
        &[
            "policy",
            "histogram",
            "interfaces",
            "inherited",
            "notify",
            "resolv_conf",
            "roots",
            "tcp_listener",
            "dns",
            "forward",
            "discovery",
            "admin",
            "doctor",
            "demo",
            "config",
        ],
        "it knows everyone, but for who calls it",
    ),
    (
        "cli",
        &[
            "app",
            "config",
            "logging",
            "policy",
            "admin",
            "demo",
            "discovery",
            "dns",
            "doctor",
            "forward",
            "whole_file",
            "resolv_conf",
            "roots",
            "server_tls",
        ],
        "it runs app; `check` reads the PEM files that a start would, `route` prints a decision and what sources know, `discover` a list, `doctor` a verdict, `wait` and \
         `health` ask admin, `demo` builds a world around app and calls by its entrances, `resolv-conf restore` needs no \
         configuration",
    ),
    ("main", &["cli"], "exit codes, and nothing else"),
    ("lib", &[], "a map, without code"),
];

/// The one file with `unsafe`; its first lines say why.
const UNSAFE: &str = "src/dns/listen/socket.rs";
/// The most lines of a file, `tests.rs` aside: beyond that it holds two things.
const MOST_LINES: usize = 400;

#[test]
fn every_import_follows_an_arrow() {
    let broken = each_file(|file, source| {
        let from = top_level(file);
        let Some((_, allowed, reason)) = ARROWS.iter().find(|(module, ..)| *module == from) else {
            return vec![format!("{from} is not in ARROWS: say there what it may import, and why")];
        };
        let wrong = |import: &Import| import.module != from && !allowed.contains(&import.module.as_str());
        let told = |Import { module, line }: Import| {
            let list = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
            format!("line {line} imports {module}, but {from} may import {list} of ours: {reason}")
        };
        imports(file, source).into_iter().filter(wrong).map(told).collect()
    });
    assert!(broken.is_empty(), "{broken}");
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let broken = each_file(|file, source| {
        let found = tokens(source).into_iter().filter(|token| token.text == "unsafe" && file != UNSAFE);
        found.map(|token| format!("line {} has `unsafe`, which only {UNSAFE} may", token.line)).collect()
    });
    assert!(broken.is_empty(), "{broken}");
    assert!(
        tokens(&read(Path::new(UNSAFE))).iter().any(|token| token.text == "unsafe"),
        "{UNSAFE} has none: drop it here"
    );
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let broken = each_file(|_, source| {
        let opens = source.starts_with("//! ");
        if opens { Vec::new() } else { vec!["does not open with a `//!` that says what it is for".to_owned()] }
    });
    assert!(broken.is_empty(), "{broken}");
}

#[test]
fn no_file_is_too_long_to_read_at_once() {
    let broken = each_file(|file, source| {
        let lines = source.lines().count();
        let long = lines > MOST_LINES && !file.ends_with("/tests.rs");
        if long { vec![format!("has {lines} lines, more than {MOST_LINES}: it holds two things")] } else { Vec::new() }
    });
    assert!(broken.is_empty(), "{broken}");
}

/// The reader itself: what it must see, and what it must not take for an import.
#[test]
fn imports_are_found_however_they_are_written() {
    let source = r##"
//! A link to [`crate::config`].
use crate::policy::{HostName, Table};
use crate::{
    admin, dns::{self, Plane},
};
/* crate::config /* and */ crate::config */
const TEXT: &str = "crate::config \" crate::config";
const RAW: &str = r#"crate::config " crate::config"#;
const QUOTE: [char; 2] = ['"', '\''];
pub(crate) fn longest<'a>(a: &'a forward::Config) -> super::super::forward::Config {
    super::Sibling::of(crate::app::run(a))
}
mod tests { use super::super::Sibling; use super::super::super::demo::World; }
"##;
    let found: Vec<_> = imports("src/discovery/url.rs", source).into_iter().map(|i| (i.module, i.line)).collect();
    let expected = [("policy", 3), ("admin", 5), ("dns", 5), ("forward", 11), ("app", 12), ("demo", 14)];
    assert_eq!(found, expected.map(|(module, line)| (module.to_owned(), line)));
    let of_the_binary = imports("src/main.rs", "fn main() { sidegate::cli::run(); }");
    assert_eq!(of_the_binary, [Import { module: "cli".to_owned(), line: 1 }]);
    assert_eq!(imports("src/dns/mod.rs", "use super::admin;")[0].module, "admin");
}

#[derive(Debug, PartialEq)]
struct Import {
    /// What stands directly in `src/` that the path leads into.
    module: String,
    line: usize,
}

/// Every path from the root of the crate in a file, also one that gets there by `super::`.
fn imports(file: &str, source: &str) -> Vec<Import> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    // How deep the file's module is, then how deep in braces each module within the file begins.
    let home = depth(file);
    let (mut braces, mut inner) = (0_usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => {
                braces += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    inner.push(braces);
                }
            }
            "}" => {
                if inner.last() == Some(&braces) {
                    inner.pop();
                }
                braces = braces.saturating_sub(1);
            }
            "crate" | "sidegate" if text(at + 1) == "::" => targets(&tokens, at + 2, &mut found),
            "super" if at == 0 || text(at - 1) != "::" => {
                let ups = (0..).take_while(|up| text(at + 2 * up) == "super" && text(at + 2 * up + 1) == "::").count();
                if ups > 0 && ups == home + inner.len() {
                    targets(&tokens, at + 2 * ups, &mut found);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The first names of a path or of a `{...}` of paths that begins here.
fn targets(tokens: &[Token], start: usize, found: &mut Vec<Import>) {
    let mut names = |token: &Token| found.push(Import { module: token.text.clone(), line: token.line });
    let Some(first) = tokens.get(start) else { return };
    if first.text != "{" {
        return names(first);
    }
    let mut braces = 0;
    for pair in tokens[start..].windows(2) {
        match pair[0].text.as_str() {
            "{" => braces += 1,
            "}" => braces -= 1,
            _ => {}
        }
        if braces == 0 {
            return;
        }
        if braces == 1 && matches!(pair[0].text.as_str(), "{" | ",") && pair[1].text != "}" {
            names(&pair[1]);
        }
    }
}

#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

/// Names, `::` and single signs; comments, strings and characters left out.
fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let name = |c: char| c.is_alphanumeric() || c == '_';
            let length = if name(first) {
                rest.find(|c| !name(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                found.push(Token { text: rest[..length].to_owned(), line });
            }
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// How long the comment or literal is that begins here, if one does.
fn skipped(rest: &str) -> Option<usize> {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return Some(until("\n", 2));
    }
    if rest.starts_with("/*") {
        let (mut open, mut at) = (1, 2);
        while open > 0 && at < rest.len() {
            let (step, change) = match &rest.as_bytes()[at..] {
                [b'/', b'*', ..] => (2, 1),
                [b'*', b'/', ..] => (2, -1),
                _ => (1, 0),
            };
            at += step;
            open += change;
        }
        return Some(at);
    }
    let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r');
    if let Some(hashes) = raw.map(|raw| raw.bytes().take_while(|b| *b == b'#').count()) {
        let start = rest.len() - raw.map_or(0, str::len) + hashes;
        if rest[start..].starts_with('"') {
            return Some(until(&format!("\"{}", "#".repeat(hashes)), start + 1));
        }
    }
    // A quote that closes at once is a character; otherwise it begins a lifetime, a sign like any other.
    let quoted = |quote: char| {
        let mut escaped = false;
        let end = rest[1..].find(|c: char| {
            let closes = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        end.map_or(rest.len(), |at| at + 2)
    };
    match rest.as_bytes() {
        [b'"', ..] => Some(quoted('"')),
        [b'\'', b'\\', ..] => Some(quoted('\'')),
        [b'\'', ..] if rest.chars().nth(2) == Some('\'') => Some(quoted('\'')),
        _ => None,
    }
}

/// What a file belongs to: the folder or file directly in `src/`.
fn top_level(file: &str) -> &str {
    let path = file.trim_start_matches("src/");
    path.split_once('/').map_or_else(|| path.trim_end_matches(".rs"), |(folder, _)| folder)
}

/// How many `super::` lead from a file's module to the root of the crate.
fn depth(file: &str) -> usize {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(path, "lib" | "main") { 0 } else { path.split('/').count() }
}

/// What is wrong with the files of `src/`, one line each.
fn each_file(check: impl Fn(&str, &str) -> Vec<String>) -> String {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    assert!(files.len() > 50, "only {} files found: the walk is broken", files.len());
    let mut wrong = String::new();
    for path in files {
        let file = path.strip_prefix(root()).unwrap().to_str().unwrap();
        for what in check(file, &read(Path::new(file))) {
            write!(wrong, "\n{file}: {what}").unwrap();
        }
    }
    wrong
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
