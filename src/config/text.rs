//! A TOML text to flat keys; unknown keys, wrong types and what is not TOML are found here.
//!
//! `load` reads the built-in defaults and the operator's file with it. What a value means is not known here: that is
//! for `sections` and `arrays`.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Document, Entry, Item, Keys, Node, Place, Value};
use super::error::{Problem, Reason, quoted};
use super::schema::{self, Array, KEYS, Key, Kind};
use super::secret;
use super::suggest::nearest;

/// Which text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Default,
    File,
}

impl Layer {
    fn place(self, span: Range<usize>) -> Place {
        match self {
            Layer::Default => Place::Default(span),
            Layer::File => Place::File(span),
        }
    }
}

/// Reads a text. Whatever is wrong stands in `problems`.
pub(super) fn read(text: &str, layer: Layer) -> Document {
    let mut reading = Reading { text, layer, document: Document { complete: true, ..Document::default() } };
    match DeTable::parse(text) {
        Ok(table) => reading.table(table.get_ref(), ""),
        Err(error) => reading.syntax_error(&error),
    }
    reading.document
}

/// A key and its value.
type Named<'t, 'i> = (&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

/// A text half read.
struct Reading<'i> {
    text: &'i str,
    layer: Layer,
    document: Document,
}

impl Reading<'_> {
    fn problem(&mut self, span: Range<usize>, what: String, reason: Reason) {
        let place = self.layer.place(span);
        self.document.problems.push(Problem::new(&place, what, reason));
    }

    fn syntax_error(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        self.document.complete = false;
        self.document.secrets.extend(secret::near_syntax_error(self.text, &span));
        let fix = match error.message() {
            message if message.starts_with("duplicate") => "remove one of the two",
            _ => "correct the line: strings stand in double quotes, lists in brackets",
        };
        self.problem(span, "not TOML".to_owned(), Reason::new(error.message(), fix));
    }

    /// The table at `path`, outside arrays of tables.
    fn table(&mut self, table: &DeTable<'_>, path: &str) {
        for (name, value) in table {
            let below = if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
            if let Some(key) = schema::find(KEYS, &below) {
                if let Some(node) = self.node(key, &below, value) {
                    self.document.keys.insert(key.path, node);
                }
            } else if let Some(array) = schema::array(&below) {
                self.array(array, value);
            } else if !schema::is_table(&below) {
                self.unknown((name, value), path, &schema::names_in(path));
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.table(inner, &below);
            } else {
                let fix = format!("write [{below}] and its keys on the lines below");
                self.wrong_type(value, &format!("{below} is a table"), fix);
            }
        }
    }

    fn array(&mut self, array: &'static Array, value: &Spanned<DeValue<'_>>) {
        let fix = || format!("write [[{}]], in double brackets, and its keys on the lines below", array.path);
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong_type(value, &format!("{} is an array of tables", array.path), fix());
        };
        for item in items {
            let DeValue::Table(table) = item.get_ref() else {
                self.wrong_type(item, &format!("{} is an array of tables", array.path), fix());
                continue;
            };
            let mut keys = Keys::new();
            for (name, value) in table {
                let Some(key) = schema::find(array.keys, name.get_ref()) else {
                    let names: Vec<&str> = array.keys.iter().map(|key| key.path).collect();
                    self.unknown((name, value), array.path, &names);
                    continue;
                };
                if let Some(node) = self.node(key, &format!("{}.{}", array.path, key.path), value) {
                    keys.insert(key.path, node);
                }
            }
            let place = self.layer.place(item.span());
            self.document.arrays.entry(array.path).or_default().push(Item { keys, place });
        }
    }

    /// The value of a known key, if it has the type of the key.
    fn node(&mut self, key: &Key, path: &str, value: &Spanned<DeValue<'_>>) -> Option<Node> {
        if key.secret {
            self.document.secrets.push(value.span());
        }
        let converted = match (key.kind, value.get_ref()) {
            (Kind::Text, DeValue::String(text)) => Value::Text(self.entry(text, value.span(), key.secret)),
            // No limit of ours is near the ends of an i64, so a number beyond them is as wrong as the last one.
            (Kind::Integer, DeValue::Integer(digits)) => {
                Value::Integer(i64::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i64::MAX))
            }
            (Kind::Boolean, DeValue::Boolean(value)) => Value::Boolean(*value),
            (Kind::List, DeValue::Array(items)) => Value::List(self.list(key, path, items)?),
            (Kind::Table, DeValue::Table(table)) => Value::Table(self.named_strings(key, path, table)?),
            (kind, _) => {
                let fix = instead(key, kind, value.get_ref());
                self.wrong_type(value, &format!("{path} is {}", kind.name()), fix);
                return None;
            }
        };
        Some(Node { value: converted, place: self.layer.place(value.span()) })
    }

    fn entry(&mut self, text: &str, span: Range<usize>, secret: bool) -> Entry {
        let secret = secret || secret::in_url(text);
        if secret {
            self.document.secrets.push(span.clone());
        }
        Entry { text: text.to_owned(), place: self.layer.place(span), secret }
    }

    fn list(&mut self, key: &Key, path: &str, items: &[Spanned<DeValue<'_>>]) -> Option<Vec<Entry>> {
        let mut entries = Some(Vec::new());
        for item in items {
            if let DeValue::String(text) = item.get_ref() {
                let entry = self.entry(text, item.span(), key.secret);
                entries.iter_mut().for_each(|entries| entries.push(entry.clone()));
            } else {
                self.wrong_type(
                    item,
                    &format!("{path} is a list of strings"),
                    instead(key, Kind::Text, item.get_ref()),
                );
                entries = None;
            }
        }
        entries
    }

    fn named_strings(&mut self, key: &Key, path: &str, table: &DeTable<'_>) -> Option<Vec<(Entry, Entry)>> {
        let mut entries = Some(Vec::new());
        for (name, value) in table {
            if let DeValue::String(text) = value.get_ref() {
                // The name is no secret, and an error about the value must be able to say whose it is.
                let name = self.entry(name.get_ref(), name.span(), false);
                let value = self.entry(text, value.span(), key.secret);
                entries.iter_mut().for_each(|entries| entries.push((name.clone(), value.clone())));
            } else {
                let fix = match value.get_ref() {
                    DeValue::Table(_) => "put the whole name, dots included, in double quotes".to_owned(),
                    other => instead(key, Kind::Text, other),
                };
                self.wrong_type(value, &format!("{path} is a table of strings"), fix);
                entries = None;
            }
        }
        entries
    }

    fn unknown(&mut self, (name, value): Named<'_, '_>, table: &str, known: &[&'static str]) {
        if secret::in_unknown(table, name.get_ref(), self.text.get(value.span()).unwrap_or_default()) {
            self.document.secrets.push(value.span());
        }
        let what = if table.is_empty() { name.get_ref().to_string() } else { format!("{table}.{}", name.get_ref()) };
        let elsewhere = || {
            let last = |key: &&Key| key.path.rsplit('.').next().is_some_and(|last| last == name.get_ref());
            KEYS.iter().find(last).map(|key| key.path)
        };
        let fix = if let Some(known) = nearest(name.get_ref(), known.iter().copied()) {
            format!("write {known}")
        } else if let Some(path) = elsewhere() {
            format!("move it: there is {path}")
        } else {
            format!("remove it: known here are {}", known.join(", "))
        };
        self.problem(name.span(), quoted(&what), Reason::new("there is no such key", fix));
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, rule: &str, fix: String) {
        let source = self.text.get(value.span()).unwrap_or_default();
        let hidden =
            secret::in_misplaced(rule, source) || self.document.secrets.iter().any(|s| s.contains(&value.span().start));
        if hidden {
            self.document.secrets.push(value.span());
        }
        let is = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let what = match value.get_ref() {
            DeValue::Array(_) | DeValue::Table(_) => is.to_owned(),
            _ if hidden => "\"***\"".to_owned(),
            DeValue::String(text) => quoted(text),
            _ => source.to_owned(),
        };
        let rule = if what == is { format!("{rule}, not this") } else { format!("{rule}, not {is}") };
        self.problem(value.span(), what, Reason::new(rule, fix));
    }
}

/// How to write a value of another type so that it fits.
fn instead(key: &Key, kind: Kind, value: &DeValue<'_>) -> String {
    match (kind, value) {
        (Kind::List, DeValue::String(text)) if !key.secret && !secret::in_url(text) => {
            format!("put it in brackets: [{}]", quoted(text))
        }
        (Kind::List, _) => "write strings in brackets, like [\"one\", \"two\"]".to_owned(),
        (Kind::Integer, DeValue::String(text)) if text.parse::<u32>().is_ok() => format!("take the quotes off: {text}"),
        (Kind::Integer, _) => "write a whole number".to_owned(),
        (Kind::Boolean, DeValue::String(text)) if matches!(text.as_ref(), "true" | "false") => {
            format!("take the quotes off: {text}")
        }
        (Kind::Boolean, _) => "write true or false".to_owned(),
        (Kind::Text, DeValue::Integer(digits)) if matches!(key.path, "grace" | "linger" | "interval") => {
            format!("write it with its unit: \"{digits}s\"")
        }
        (Kind::Text, DeValue::Array(_)) => "write one string, without brackets".to_owned(),
        (Kind::Text, _) => "put it in double quotes".to_owned(),
        (Kind::Table, _) => "write a table of strings: { \"name\" = \"value\" }".to_owned(),
    }
}
