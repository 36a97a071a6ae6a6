//! From a span of bytes to `path:line:column` and the line itself, without ever showing a credential.
//!
//! Called by `load` once everything is read, because only then is it known which parts of the file are secret.

use std::ops::Range;

use super::document::{DEFAULT_TEXT, Place};
use super::error::{ConfigError, Excerpt, Problem};

/// The longest line shown whole, in characters.
const WIDTH: usize = 120;

/// The texts that places point into.
#[derive(Debug)]
pub(super) struct Sources<'i> {
    /// The operator's file: what it is called and what it says.
    pub(super) file: Option<(&'i str, &'i str)>,
    /// The parts of the operator's file that no error may show.
    pub(super) secrets: Vec<Range<usize>>,
}

impl Sources<'_> {
    /// The error an operator reads.
    pub(super) fn locate(&self, problem: Problem) -> ConfigError {
        let Problem { place, what, rule, fix } = problem;
        let (position, excerpt) = match (&place, self.file) {
            (Place::File(span), Some((path, text))) => in_text(path, text, span, &self.secrets),
            (Place::File(_), None) => ("the file".to_owned(), None),
            (Place::Default(span), _) => in_text("the built-in default.toml", DEFAULT_TEXT, span, &[]),
            (Place::Named(name), _) => (name.clone(), None),
        };
        ConfigError { position, excerpt, what, rule, fix }
    }
}

fn in_text(path: &str, text: &str, span: &Range<usize>, secrets: &[Range<usize>]) -> (String, Option<Excerpt>) {
    let start = floor(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let line = text[..line_start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count();
    let end = floor(text, span.end).clamp(start, line_end);
    let width = text[start..end].chars().count().max(1);
    let line_text = &text[line_start..line_end];
    let length = line_text.chars().count();
    let (first, most) = if length > WIDTH { (column.saturating_sub(WIDTH / 3), WIDTH) } else { (0, length) };
    let secret = |at: usize| secrets.iter().any(|secret| secret.contains(&(line_start + at)));
    let mut part: String =
        line_text.char_indices().skip(first).take(most).map(|(at, c)| shown(c, secret(at))).collect();
    let mut start = column - first;
    let width = width.min((first + most).saturating_sub(column)).max(1);
    if first > 0 {
        part.insert(0, '…');
        start += 1;
    }
    if first + most < length {
        part.push('…');
    }
    (format!("{path}:{line}:{}", column + 1), Some(Excerpt { line, text: part, start, width }))
}

/// What a character of the source looks like: one column wide, and a star if it is secret.
fn shown(c: char, secret: bool) -> char {
    match c {
        _ if c.is_control() => ' ',
        _ if secret => '*',
        _ => c,
    }
}

/// The nearest character boundary at or below an offset.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, span: Range<usize>, secrets: &[Range<usize>]) -> (String, String) {
        let (position, excerpt) = in_text("f", text, &span, secrets);
        (position, excerpt.unwrap().to_string())
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let (position, shown) = excerpt("a = 1\n\"é\" = two\n", 13..16, &[]);
        assert_eq!(position, "f:2:7");
        assert_eq!(shown, "  |\n2 | \"é\" = two\n  |       ^^^");
    }

    #[test]
    fn places_at_or_beyond_the_end_are_still_places() {
        assert_eq!(excerpt("", 0..0, &[]).0, "f:1:1");
        assert_eq!(excerpt("a", 7..9, &[]).0, "f:1:2");
        assert_eq!(excerpt("é", 1..2, &[]).0, "f:1:1");
    }

    #[test]
    fn a_secret_is_starred_wherever_its_line_is_shown() {
        assert_eq!(
            excerpt("k = \"pass\" # x", 0..1, std::slice::from_ref(&(4..10))).1,
            "  |\n1 | k = ****** # x\n  | ^"
        );
    }

    #[test]
    fn of_a_long_line_only_the_part_around_the_mark_is_shown() {
        let text = format!("k = [{}\"bad\", {}]", "\"good\", ".repeat(100), "\"good\", ".repeat(100));
        let at = text.find("\"bad\"").unwrap();
        let (_, shown) = excerpt(&text, at..at + 5, &[]);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].chars().count() < 130);
        let mark = lines[2].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[1].chars().skip(mark).take(5).collect::<String>(), "\"bad\"");
    }
}
