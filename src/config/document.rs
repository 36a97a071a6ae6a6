//! The form all layers share: flat keys, each with its value and the place it was written at.
//!
//! `text` and `environment` build it, `load` lays one over the other, `sections` and `arrays` read the result.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::{Problem, quoted};

/// `config/default.toml`: every key, documented, with its default.
pub(super) const DEFAULT_TEXT: &str = include_str!("../../config/default.toml");

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A span of the built-in defaults.
    Default(Range<usize>),
    /// A span of the operator's file.
    File(Range<usize>),
    /// An environment variable, an argument or a file as a whole.
    Named(String),
}

/// A string with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) place: Place,
    /// Whether it may be a credential, which no error shows.
    pub(super) secret: bool,
}

impl Entry {
    /// The value as an error shows it.
    pub(super) fn shown(&self) -> String {
        if self.secret { "\"***\"".to_owned() } else { quoted(&self.text) }
    }
}

/// A value of the type its key has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(Entry),
    Integer(i64),
    Boolean(bool),
    List(Vec<Entry>),
    Table(Vec<(Entry, Entry)>),
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// Keys that are set, by path; in an array of tables, by name.
pub(super) type Keys = BTreeMap<&'static str, Node>;

/// One `[[...]]`.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) keys: Keys,
    pub(super) place: Place,
}

/// What a text says.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) keys: Keys,
    pub(super) arrays: BTreeMap<&'static str, Vec<Item>>,
    pub(super) problems: Vec<Problem>,
    /// The parts of the text that no error may show.
    pub(super) secrets: Vec<Range<usize>>,
    /// Whether all of it could be read; after a syntax error nothing can be said of what is missing.
    pub(super) complete: bool,
}

impl Document {
    /// The items of an array of tables.
    pub(super) fn items(&self, array: &str) -> &[Item] {
        self.arrays.get(array).map_or(&[], Vec::as_slice)
    }
}
