//! A list of private ids as a source gives it: read from text, written as text.
//!
//! Three forms, told apart by the first character that is no white space: one id a line, where `#` begins a comment; a
//! JSON array of ids; a JSON array of objects with `id`, and if known `vpc_endpoint_ids`, `region`, `name`. A list is
//! taken whole or not at all. Pure; `file`, `url` and `api_gateway` make one, `last_good` keeps it, `sidegate discover`
//! prints it.

mod json;

use std::fmt::Write as _;
use std::time::SystemTime;

use crate::policy::{ApiId, Region, VpceId};

/// The most octets a list may have as text: the most ids with an endpoint and a name fit, a log that was named by mistake
/// does not.
pub const MAX_BYTES: usize = 16 << 20;
/// The most ids a list may have: hundreds of times what an account may have in a region, and bearable in memory.
pub const MAX_IDS: usize = 250_000;
/// So many characters of a text that is wrong are shown: lists may hold anything.
const SHOWN: usize = 60;

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

impl Entry {
    /// An id of which nothing else is known.
    pub fn of(id: ApiId) -> Self {
        Self { id, vpc_endpoint_ids: Vec::new(), region: None, name: None, since: None }
    }

    /// What makes it another one than the next: what one source says of an id may differ from region to region.
    pub(super) fn key(&self) -> (&ApiId, Option<&Region>) {
        (&self.id, self.region.as_ref())
    }
}

/// Ids in order, none twice for one region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(Vec<Entry>);

/// Why a text is no list; its author is to correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("line {line}: {problem}")]
    Line { line: usize, problem: String },
    /// The column counts octets, from 1; it is where reading stopped, at or just behind what is wrong.
    #[error("line {line}, column {column}: {problem}")]
    Json { line: usize, column: usize, problem: String },
    #[error("it has {0} octets, and {MAX_BYTES} are the most: leave out names, or split it into two sources")]
    TooLong(usize),
    #[error("it has more than {MAX_IDS} ids, the most: split it into two sources")]
    TooMany,
}

impl List {
    /// Sorts entries, and drops those that say the same again.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.key().cmp(&b.key()));
        entries.dedup_by(|again, first| again.key() == first.key());
        entries.shrink_to_fit();
        Self(entries)
    }

    /// Reads a text of any of the three forms. With `any_region`, a region need not fit a partition.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &[u8], any_region: bool) -> Result<Self, ListError> {
        if text.len() > MAX_BYTES {
            return Err(ListError::TooLong(text.len()));
        }
        let text = std::str::from_utf8(text).map_err(|error| {
            let valid = text.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + valid.iter().filter(|octet| **octet == b'\n').count();
            ListError::Line { line, problem: "it is not UTF-8: save it as UTF-8, without compression".to_owned() }
        })?;
        // Some editors begin UTF-8 with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let entries = match text.trim_start().chars().next() {
            Some('[' | '{') => json::parse(text, any_region)?,
            _ => lines(text)?,
        };
        Ok(Self::new(entries))
    }

    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One id a line, each once.
    pub fn to_lines(&self) -> String {
        let mut text = String::new();
        for chunk in self.0.chunk_by(|a, b| a.id == b.id) {
            for entry in chunk.iter().take(1) {
                text.push_str(entry.id.as_str());
                text.push('\n');
            }
        }
        text
    }

    /// A JSON array of objects, one a line, each with what is known.
    pub fn to_json(&self) -> String {
        let mut text = String::from("[");
        for (position, entry) in self.0.iter().enumerate() {
            text.push_str(if position == 0 { "\n" } else { ",\n" });
            // Ids and regions hold nothing that JSON would have escaped. Writing to a String cannot fail.
            _ = write!(text, "{{\"id\":\"{}\"", entry.id);
            for (position, id) in entry.vpc_endpoint_ids.iter().enumerate() {
                _ = write!(text, "{}\"{id}\"", if position == 0 { ",\"vpc_endpoint_ids\":[" } else { "," });
            }
            if !entry.vpc_endpoint_ids.is_empty() {
                text.push(']');
            }
            if let Some(region) = &entry.region {
                _ = write!(text, ",\"region\":\"{region}\"");
            }
            if let Some(name) = &entry.name {
                _ = write!(text, ",\"name\":{}", serde_json::Value::from(&**name));
            }
            text.push('}');
        }
        text.push_str(if self.0.is_empty() { "]\n" } else { "\n]\n" });
        text
    }
}

/// One id a line.
fn lines(text: &str) -> Result<Vec<Entry>, ListError> {
    let mut entries = Vec::new();
    for (position, line) in text.lines().enumerate() {
        let id = line.split('#').next().unwrap_or_default().trim();
        if id.is_empty() {
            continue;
        }
        if entries.len() == MAX_IDS {
            return Err(ListError::TooMany);
        }
        let id = id.parse().map_err(|rule| {
            let problem = format!("{}: {rule}, one id a line", excerpt(id));
            ListError::Line { line: position + 1, problem }
        })?;
        entries.push(Entry::of(id));
    }
    Ok(entries)
}

/// The beginning of a text, escaped, in quotes.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
