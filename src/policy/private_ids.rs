//! All ids known to be private, and who says so of each.
//!
//! `discovery` builds one whenever a list changes, [`super::route()`] asks it for every name in a zone. It is a few large
//! pieces and nothing for each id alone: who lets go of it last may be a thread with the next query to answer, which must not
//! free a hundred thousand pieces first.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{ApiId, EndpointIndex, Region, VpceId};

/// What the text of most ids takes, in octets; more is no error, only another allocation.
const USUAL_ID: usize = 10;

/// Where the knowledge that an id is private came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// `policy.private_api_ids`.
    Static,
    /// `private_api_ids` of an `[[endpoint]]`.
    Endpoint,
    /// A `[[discovery]]` source, by the name it goes by in logs.
    Source(Arc<str>),
    /// Public DNS said that the name does not exist.
    Learned,
    /// `policy.private_names`.
    PrivateNames,
    /// `policy.always_public`.
    AlwaysPublic,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Static => f.write_str("policy.private_api_ids"),
            Origin::Endpoint => f.write_str("endpoint.private_api_ids"),
            Origin::Source(name) => f.write_str(name),
            Origin::Learned => f.write_str("learned from public DNS"),
            Origin::PrivateNames => f.write_str("policy.private_names"),
            Origin::AlwaysPublic => f.write_str("policy.always_public"),
        }
    }
}

/// Which endpoint serves an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding<'k> {
    /// An endpoint of the configuration.
    Index(EndpointIndex),
    /// Endpoint ids as AWS lists them for the API; those that are not configured here are passed over.
    Ids(&'k [VpceId]),
}

/// One statement of one source about an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knowledge<'k> {
    /// The region it speaks of; without one it counts in every region that has an endpoint.
    pub region: Option<&'k Region>,
    /// The endpoint the id is bound to, if any.
    pub binding: Option<Binding<'k>>,
    pub origin: &'k Origin,
    /// Since when the source says so, without a break, where it keeps count.
    pub since: Option<SystemTime>,
}

impl<'k> Knowledge<'k> {
    /// The id is private wherever there is an endpoint.
    pub fn of(origin: &'k Origin) -> Self {
        Self { region: None, binding: None, origin, since: None }
    }
}

/// All ids known to be private, with what each source said of them, in the order it was added.
#[derive(Default)]
pub struct PrivateIds {
    hasher: DefaultHashBuilder,
    index: HashTable<Known>,
    /// All ids, one after the other.
    text: Vec<u8>,
    statements: Vec<Statement>,
    sayings: Shared<Saying>,
    regions: Shared<Region>,
    origins: Shared<Origin>,
    /// Lists of endpoint ids, one after the other, each list once.
    vpce_ids: Vec<VpceId>,
    vpce_lists: HashTable<Span>,
}

/// An id, and what is said of it.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Where it begins in the text.
    start: u32,
    /// The last statement about it, which names the first.
    last: u32,
    length: u8,
}

#[derive(Debug, Clone, Copy)]
struct Statement {
    /// The statement about the same id that was added after this one; the first, if there is none.
    next: u32,
    saying: u32,
}

/// What a statement says. A source says the same of most of its ids, so that there are few of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Saying {
    region: Option<u32>,
    binding: Option<Bound>,
    origin: u32,
    since: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Bound {
    Index(EndpointIndex),
    Ids(Span),
}

/// A part of [`PrivateIds::vpce_ids`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl PrivateIds {
    /// Room for so many ids with one statement each.
    pub fn with_capacity(ids: usize) -> Self {
        Self {
            index: HashTable::with_capacity(ids),
            text: Vec::with_capacity(ids * USUAL_ID),
            statements: Vec::with_capacity(ids),
            ..Self::default()
        }
    }

    /// Adds a statement after those already there. One that finds 4 GiB of text or 2^32 statements before it is not taken;
    /// the lists that sources may give end long before.
    pub fn add(&mut self, id: &ApiId, knowledge: Knowledge<'_>) {
        let (Some(saying), Ok(start), Ok(at)) =
            (self.saying(knowledge), u32::try_from(self.text.len()), u32::try_from(self.statements.len()))
        else {
            return;
        };
        let id = id.as_str().as_bytes();
        let Self { hasher, index, text, statements, .. } = self;
        if let Some(known) = index.find_mut(hasher.hash_one(id), |known| text_of(text, *known) == id) {
            let Some(last) = statements.get_mut(known.last as usize) else { return };
            let first = std::mem::replace(&mut last.next, at);
            statements.push(Statement { next: first, saying });
            known.last = at;
            return;
        }
        let Ok(length) = u8::try_from(id.len()) else { return };
        text.extend_from_slice(id);
        statements.push(Statement { next: at, saying });
        let hash_of = |known: &Known| hasher.hash_one(text_of(text, *known));
        index.insert_unique(hasher.hash_one(id), Known { start, last: at, length }, hash_of);
    }

    fn saying(&mut self, knowledge: Knowledge<'_>) -> Option<u32> {
        let region = match knowledge.region {
            Some(region) => Some(self.regions.position(&self.hasher, region)?),
            None => None,
        };
        let binding = match knowledge.binding {
            Some(Binding::Index(index)) => Some(Bound::Index(index)),
            Some(Binding::Ids(ids)) => Some(Bound::Ids(self.vpce_list(ids)?)),
            None => None,
        };
        let origin = self.origins.position(&self.hasher, knowledge.origin)?;
        self.sayings.position(&self.hasher, &Saying { region, binding, origin, since: knowledge.since })
    }

    fn vpce_list(&mut self, ids: &[VpceId]) -> Option<Span> {
        let Self { hasher, vpce_ids, vpce_lists, .. } = self;
        let hash = hasher.hash_one(ids);
        if let Some(span) = vpce_lists.find(hash, |span| vpce_ids.get(span.range()) == Some(ids)) {
            return Some(*span);
        }
        let start = u32::try_from(vpce_ids.len()).ok()?;
        let span = Span { start, end: u32::try_from(vpce_ids.len() + ids.len()).ok()? };
        vpce_ids.extend_from_slice(ids);
        vpce_lists.insert_unique(hash, span, |span| hasher.hash_one(vpce_ids.get(span.range()).unwrap_or_default()));
        Some(span)
    }

    /// How many ids are known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// What is said of an id, the first statement first.
    pub fn of(&self, id: &ApiId) -> Statements<'_> {
        self.of_label(id.as_str().as_bytes())
    }

    /// Every id, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.index.iter().map(|known| std::str::from_utf8(text_of(&self.text, *known)).unwrap_or_default())
    }

    #[inline]
    pub(super) fn of_label(&self, label: &[u8]) -> Statements<'_> {
        let hash = self.hasher.hash_one(label);
        let known = self.index.find(hash, |known| text_of(&self.text, *known) == label);
        let bounds = known.and_then(|known| Some((self.statements.get(known.last as usize)?.next, known.last)));
        Statements { ids: self, bounds }
    }

    #[inline]
    fn knowledge(&self, statement: Statement) -> Option<Knowledge<'_>> {
        let saying = self.sayings.at(statement.saying)?;
        let region = match saying.region {
            Some(region) => Some(self.regions.at(region)?),
            None => None,
        };
        let binding = match saying.binding {
            Some(Bound::Index(index)) => Some(Binding::Index(index)),
            Some(Bound::Ids(span)) => Some(Binding::Ids(self.vpce_ids.get(span.range())?)),
            None => None,
        };
        Some(Knowledge { region, binding, origin: self.origins.at(saying.origin)?, since: saying.since })
    }
}

#[inline]
fn text_of(text: &[u8], known: Known) -> &[u8] {
    let start = known.start as usize;
    text.get(start..start + usize::from(known.length)).unwrap_or_default()
}

impl fmt::Debug for PrivateIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateIds").field("ids", &self.len()).field("statements", &self.statements.len()).finish()
    }
}

/// The statements about one id, the first that was added first.
#[derive(Debug, Clone)]
pub struct Statements<'t> {
    ids: &'t PrivateIds,
    /// The next and the last one, by position.
    bounds: Option<(u32, u32)>,
}

impl<'t> Iterator for Statements<'t> {
    type Item = Knowledge<'t>;

    #[inline]
    fn next(&mut self) -> Option<Knowledge<'t>> {
        let (at, last) = self.bounds?;
        let statement = *self.ids.statements.get(at as usize)?;
        self.bounds = (at != last).then_some((statement.next, last));
        self.ids.knowledge(statement)
    }
}

/// Values that many share, each kept once, known by its position.
#[derive(Debug)]
struct Shared<T> {
    values: Vec<T>,
    index: HashTable<u32>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { values: Vec::new(), index: HashTable::new() }
    }
}

impl<T: Clone + Eq + Hash> Shared<T> {
    /// `None` if there is no position left for a new one.
    fn position(&mut self, hasher: &DefaultHashBuilder, value: &T) -> Option<u32> {
        let Self { values, index } = self;
        let hash = hasher.hash_one(value);
        if let Some(at) = index.find(hash, |at| values.get(*at as usize) == Some(value)) {
            return Some(*at);
        }
        let at = u32::try_from(values.len()).ok()?;
        values.push(value.clone());
        index.insert_unique(hash, at, |at| values.get(*at as usize).map_or(0, |value| hasher.hash_one(value)));
        Some(at)
    }

    #[inline]
    fn at(&self, position: u32) -> Option<&T> {
        self.values.get(position as usize)
    }
}

#[cfg(test)]
mod tests;
