//! What an operator hands over: a file's text and environment variables. The only I/O of `config`.
//!
//! `cli` and `app` gather once at start and again on every reload; tests write [`Inputs`] by hand.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::document::Place;
use super::environment::{FILE_VARIABLE, PREFIX, TEXT_VARIABLE};
use super::error::{ConfigErrors, Problem, Reason, quoted};
use super::load;

/// Read if it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/sidegate/sidegate.toml";

/// The variables read that do not begin with `SIDEGATE_`, the strongest first.
pub(super) const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Everything [`super::Config::load`] reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// A file's path, or what stands for it in errors, and its text. `None`: there is no file.
    pub file: Option<(String, String)>,
    /// Variables by name; those that do not concern us may be among them.
    pub environment: Vec<(String, String)>,
}

impl Inputs {
    /// Reads the file of `--config`, of `SIDEGATE_CONFIG`, or [`DEFAULT_FILE`], or takes `SIDEGATE_CONFIG_TOML`; and
    /// keeps the variables that concern us. Call it with [`std::env::vars_os`].
    ///
    /// # Errors
    /// A file that is named and cannot be read, one that is not UTF-8, or two files at once. What is wrong in the
    /// environment is reported with it.
    pub fn gather(
        config: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let mut problems = Vec::new();
        let environment = ours(environment, &mut problems);
        let file = file(config, &environment, &mut problems);
        let inputs = Self { file, environment };
        if problems.is_empty() { Ok(inputs) } else { Err(load::errors_beside(&inputs, problems)) }
    }

    /// Whether there is a file and no key in it: it was most likely caught while it was being written. A reload
    /// refuses it, a start does not.
    pub fn is_blank(&self) -> bool {
        fn has_key(table: &toml::de::DeTable<'_>) -> bool {
            table.values().any(|value| match value.get_ref() {
                toml::de::DeValue::Table(inner) => has_key(inner),
                _ => true,
            })
        }
        self.file
            .as_ref()
            .is_some_and(|(_, text)| toml::de::DeTable::parse(text).is_ok_and(|table| !has_key(table.get_ref())))
    }
}

/// The variables that concern us, if they are UTF-8.
fn ours(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for (name, value) in environment {
        let Ok(name) = name.into_string() else { continue };
        if !name.starts_with(PREFIX) && !REGION_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        match value.into_string() {
            Ok(value) => kept.push((name, value)),
            Err(_) => {
                let reason = Reason::new("a variable's value is UTF-8", "set it again as UTF-8 text");
                problems.push(Problem::new(&Place::Named(name), "not text", reason));
            }
        }
    }
    kept
}

/// The one file there is, if any.
fn file(
    config: Option<&Path>,
    environment: &[(String, String)],
    problems: &mut Vec<Problem>,
) -> Option<(String, String)> {
    let variable = |wanted: &str| {
        environment.iter().find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, value)| value)
    };
    let named = match (config, variable(FILE_VARIABLE)) {
        (Some(path), _) => Some(("--config", path)),
        (None, Some(path)) => Some((FILE_VARIABLE, Path::new(path))),
        (None, None) => None,
    };
    match (named, variable(TEXT_VARIABLE)) {
        (Some((by, path)), Some(_)) => {
            let rule = format!("a configuration is one file: {by} names {} as well", quoted(&path.to_string_lossy()));
            let reason = Reason::new(rule, format!("unset {TEXT_VARIABLE}, or name no file"));
            problems.push(Problem::new(&Place::Named(TEXT_VARIABLE.to_owned()), "two files at once", reason));
            None
        }
        (None, Some(text)) => Some((TEXT_VARIABLE.to_owned(), text.clone())),
        (Some((by, path)), None) => read(path, Some(by), problems),
        (None, None) => read(Path::new(DEFAULT_FILE), None, problems),
    }
}

/// Reads a file; only one that nobody named may be missing.
fn read(path: &Path, named_by: Option<&str>, problems: &mut Vec<Problem>) -> Option<(String, String)> {
    let shown = path.to_string_lossy().into_owned();
    let error = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => return Some((shown, text)),
        Ok(Err(_)) => Reason::new("a configuration file is UTF-8", "save it as UTF-8 text"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match named_by {
            None => return None,
            Some(by) => Reason::new("there is no such file", format!("create it, or correct {by}")),
        },
        Err(error) => Reason::new(
            format!("it cannot be read ({})", error.kind()),
            "name a file that the user sidegate runs as may read",
        ),
    };
    let at = named_by.unwrap_or("the default file").to_owned();
    problems.push(Problem::new(&Place::Named(at), quoted(&shown), error));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(text: &str) -> bool {
        Inputs { file: Some(("f".to_owned(), text.to_owned())), ..Inputs::default() }.is_blank()
    }

    #[test]
    fn a_file_without_a_key_is_blank() {
        assert!(blank("") && blank("# a comment\n") && blank("[dns]\n\n[forward.sni]\n"));
        assert!(!blank("grace = \"1s\"") && !blank("[[endpoint]]") && !blank("not toml") && !blank("[dns]\nx = 1"));
        assert!(!Inputs::default().is_blank(), "no file is not an empty one");
    }
}
