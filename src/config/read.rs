//! Keys to values: asks a parser for each, and keeps going when one refuses.
//!
//! `sections` and `arrays` read through it. What a key that failed reads as does not matter: the configuration it would
//! go into is never built.

use std::path::PathBuf;
use std::time::Duration;

use super::document::{Entry, Keys, Place, Value};
use super::error::{Problem, Reason};
use super::values;

/// A value with the place it was written at, for rules that see several of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
    /// As an error shows it.
    pub(super) shown: String,
}

impl<T> Located<T> {
    pub(super) fn new(value: T, entry: &Entry) -> Self {
        Self { value, place: entry.place.clone(), shown: entry.shown() }
    }

    /// An error about this value.
    pub(super) fn problem(&self, reason: Reason) -> Problem {
        Problem::new(&self.place, self.shown.clone(), reason)
    }
}

/// The values alone.
pub(super) fn values_of<T: Clone>(located: &[Located<T>]) -> Vec<T> {
    located.iter().map(|located| located.value.clone()).collect()
}

/// Reads keys and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) keys: &'a Keys,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// Whether somebody wrote the key, other than the built-in defaults.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.keys.get(path).is_some_and(|node| !matches!(node.place, Place::Default(_)))
    }

    /// Whether the key is not set, or is an empty string or list.
    pub(super) fn is_empty(&self, path: &str) -> bool {
        match self.keys.get(path).map(|node| &node.value) {
            Some(Value::Text(entry)) => entry.text.is_empty(),
            Some(Value::List(entries)) => entries.is_empty(),
            Some(_) => false,
            None => true,
        }
    }

    /// A string; `None` if it is not set, is empty, or will not do.
    pub(super) fn text<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Result<T, Reason>) -> Option<Located<T>> {
        match &self.keys.get(path)?.value {
            Value::Text(entry) if !entry.text.is_empty() => self.entry(entry, parse),
            _ => None,
        }
    }

    /// A list of strings, without those that will not do.
    pub(super) fn list<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, Reason>) -> Vec<Located<T>> {
        match self.keys.get(path).map(|node| &node.value) {
            Some(Value::List(entries)) => entries.iter().filter_map(|entry| self.entry(entry, &parse)).collect(),
            _ => Vec::new(),
        }
    }

    /// A table of strings.
    pub(super) fn table(&self, path: &str) -> &[(Entry, Entry)] {
        match self.keys.get(path).map(|node| &node.value) {
            Some(Value::Table(pairs)) => pairs,
            _ => &[],
        }
    }

    /// One string of a list or a table.
    pub(super) fn entry<T>(
        &mut self,
        entry: &Entry,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Option<Located<T>> {
        match parse(&entry.text) {
            Ok(value) => Some(Located::new(value, entry)),
            Err(mut reason) => {
                if entry.secret {
                    "correct the value, which is not shown because it may hold a credential"
                        .clone_into(&mut reason.fix);
                }
                self.problems.push(Problem::new(&entry.place, entry.shown(), reason));
                None
            }
        }
    }

    /// A whole number within limits.
    pub(super) fn integer(&mut self, path: &str, (least, most): (u16, u16), fix: &str) -> Option<u16> {
        let node = self.keys.get(path)?;
        let &Value::Integer(number) = &node.value else { return None };
        if let Some(number) = u16::try_from(number).ok().filter(|number| (least..=most).contains(number)) {
            return Some(number);
        }
        let reason = Reason::new(format!("this may be {least} to {most}"), fix);
        self.problems.push(Problem::new(&node.place, number.to_string(), reason));
        None
    }

    /// `true` or `false`; `false` if it is not set.
    pub(super) fn boolean(&self, path: &str) -> bool {
        self.keys.get(path).is_some_and(|node| node.value == Value::Boolean(true))
    }

    /// A port.
    pub(super) fn port(&mut self, path: &str) -> Option<u16> {
        self.integer(path, (1, u16::MAX), "write a port, like 443")
    }

    /// A length of time within limits.
    pub(super) fn duration(&mut self, path: &str, least: &str, most: &str) -> Option<Duration> {
        self.required_text(path, |text| values::duration(text, least, most))
    }

    /// A string that cannot be empty; `None` if it is not set or will not do.
    pub(super) fn required_text<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Result<T, Reason>) -> Option<T> {
        match &self.keys.get(path)?.value {
            Value::Text(entry) => self.entry(entry, parse).map(|located| located.value),
            _ => None,
        }
    }

    /// A file's path; `None` if it is empty.
    pub(super) fn path(&mut self, path: &str) -> Option<Located<PathBuf>> {
        self.text(path, values::path)
    }
}
