//! The two JSON forms of a list. They may be mixed; anything else is refused rather than guessed at.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use super::{Entry, ListError, MAX_IDS, excerpt};
use crate::policy::{IdentifierError, Region, VpceId};

/// The most characters of what the JSON reader has to say: it quotes keys, and a key may be anything.
const MESSAGE: usize = 1000;
/// What a list of all APIs has, public ones too.
const ALL_APIS: &str = "`aws apigateway get-rest-apis` prints public APIs too: write the list with `sidegate discover`";

/// Reads an array of ids or objects or both.
pub(super) fn parse(text: &str, any_region: bool) -> Result<Vec<Entry>, ListError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut context = Context { any_region, regions: HashMap::new(), too_many: false };
    let entries = Elements(&mut context).deserialize(&mut reader);
    let entries = entries.and_then(|entries| reader.end().map(|()| entries));
    entries.map_err(|error| if context.too_many { ListError::TooMany } else { told(&error) })
}

fn told(error: &serde_json::Error) -> ListError {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let place = format!(" at line {line} column {column}");
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let mut problem: String = message.chars().take(MESSAGE).flat_map(shown).collect();
    if message.chars().nth(MESSAGE).is_some() {
        problem.push('…');
    }
    if message.starts_with("unknown field") {
        problem = format!("{problem}: {ALL_APIS}");
    } else if !error.is_data() {
        problem = format!("{problem}: write [\"an id\", …] or [{{\"id\": \"an id\"}}, …]");
    }
    ListError::Json { line, column, problem }
}

/// Quotes as they are, everything that does not print escaped.
fn shown(c: char) -> impl Iterator<Item = char> {
    let (printed, escaped) =
        if matches!(c, '"' | '\'' | '\\') { (Some(c), None) } else { (None, Some(c.escape_debug())) };
    printed.into_iter().chain(escaped.into_iter().flatten())
}

struct Context {
    any_region: bool,
    /// Each region once: all entries of it share its text.
    regions: HashMap<String, Region>,
    too_many: bool,
}

impl Context {
    fn region(&mut self, text: &str) -> Result<Region, IdentifierError> {
        if let Some(region) = self.regions.get(text) {
            return Ok(region.clone());
        }
        let region = if self.any_region { Region::outside_partitions(text)? } else { text.parse()? };
        self.regions.insert(text.to_owned(), region.clone());
        Ok(region)
    }
}

struct Elements<'c>(&'c mut Context);

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Vec<Entry>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of ids, or of objects with `id`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = elements.next_element_seed(Element(&mut *self.0))? {
            if entries.len() == MAX_IDS {
                self.0.too_many = true;
                return Err(A::Error::custom("too many"));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom(format!("a list is an array, and this is an object: {ALL_APIS}")))
    }
}

struct Element<'c>(&'c mut Context);

/// One object, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'t> {
    #[serde(borrow)]
    id: Cow<'t, str>,
    #[serde(default)]
    vpc_endpoint_ids: Option<Vec<String>>,
    #[serde(default, borrow)]
    region: Option<Cow<'t, str>>,
    #[serde(default)]
    name: Option<Box<str>>,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id in quotes, or an object with `id`")
    }

    fn visit_str<E: Error>(self, id: &str) -> Result<Entry, E> {
        Ok(Entry::of(id.parse().map_err(|rule| wrong(id, &rule))?))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let Object { id, vpc_endpoint_ids, region, name } = Object::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Entry {
            id: id.parse().map_err(|rule| wrong(&id, &rule))?,
            vpc_endpoint_ids: ids_of_endpoints(&vpc_endpoint_ids.unwrap_or_default())?,
            region: region.map(|text| self.0.region(&text).map_err(|rule| wrong(&text, &rule))).transpose()?,
            name,
            since: None,
        })
    }
}

fn ids_of_endpoints<E: Error>(texts: &[String]) -> Result<Vec<VpceId>, E> {
    // No more room than is needed: there are as many of these as there are ids.
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        ids.push(text.parse().map_err(|rule| wrong(text, &rule))?);
    }
    Ok(ids)
}

fn wrong<E: Error>(text: &str, rule: &IdentifierError) -> E {
    E::custom(format!("{}: {rule}", excerpt(text)))
}
