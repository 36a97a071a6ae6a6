//! What is wrong with a configuration, as an operator reads it. Every error here is the operator's to correct.
//!
//! Built by `load` and `inputs`; `sidegate check` and `sidegate run` print [`ConfigErrors`] and exit with 78.

use std::fmt;

use super::document::Place;

/// Everything that is wrong, in the order of the file, then of the environment. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    count: usize,
}

impl ConfigErrors {
    /// How many errors are kept: a list of a hundred thousand ids in the wrong form is one mistake, not as many.
    pub(super) const MOST: usize = 100;

    pub(super) fn new(errors: Vec<ConfigError>, count: usize) -> Self {
        Self { errors, count }
    }

    /// The errors one by one, the first 100 at most.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    /// Each error, a blank line after it, and their number in the last line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "{error}\n")?;
        }
        let kept = self.errors.len();
        match self.count {
            1 => f.write_str("1 error in the configuration"),
            count if count > kept => write!(f, "{count} errors in the configuration, the first {kept} are shown"),
            count => write!(f, "{count} errors in the configuration"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `path:line:column`, or the name of an environment variable or argument.
    pub position: String,
    /// The line it is about, where there is one.
    pub excerpt: Option<Excerpt>,
    /// The value or the key; values that may be credentials are starred.
    pub what: String,
    /// The rule it breaks.
    pub rule: String,
    /// One way to put it right.
    pub fix: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}: {}", self.position, self.what, self.rule)?;
        if let Some(excerpt) = &self.excerpt {
            writeln!(f, "{excerpt}")?;
        }
        write!(f, "fix: {}", self.fix)
    }
}

/// A source line with the part that matters marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Counted from 1.
    pub line: usize,
    /// The line, or the part of a long one around the mark; credentials are starred.
    pub text: String,
    /// Where the mark begins in `text`, in characters from 0.
    pub start: usize,
    /// How many characters are marked, at least 1.
    pub width: usize,
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{margin} |")?;
        writeln!(f, "{}", format!("{number} | {}", self.text).trim_end())?;
        write!(f, "{margin} | {}{}", " ".repeat(self.start), "^".repeat(self.width))
    }
}

/// An error before its place in the source is looked up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) what: String,
    pub(super) rule: String,
    pub(super) fix: String,
}

impl Problem {
    pub(super) fn new(place: &Place, what: impl Into<String>, reason: Reason) -> Self {
        Self { place: place.clone(), what: what.into(), rule: reason.rule, fix: reason.fix }
    }
}

/// Why a value will not do, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) rule: String,
    pub(super) fix: String,
}

impl Reason {
    pub(super) fn new(rule: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { rule: rule.into(), fix: fix.into() }
    }
}

/// A value in quotes, shortened to what a line can hold.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_unprintable_values_are_quoted_safely() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), 83);
    }
}
