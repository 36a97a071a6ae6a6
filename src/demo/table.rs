//! The demo's result as a table that needs no DNS to be understood. Pure: outcomes in, text out.
//!
//! `run` fills it: a column for each API, a row for each way of calling them. Every cell is made from what a call came
//! to, and is held against what it should have come to.

use std::fmt::Write as _;
use std::net::IpAddr;

use hyper::StatusCode;

use super::client::Outcome;
use super::world::Place;

/// Width of the column of ways, and of each column of results; three APIs make 100 columns.
const WAY: usize = 19;
const CELL: usize = 27;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Who should answer a call, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub place: Place,
    pub status: StatusCode,
}

/// What one call came to, beside what it should have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    addresses: Vec<IpAddr>,
    /// Where it led; `None` if nothing tells.
    place: Option<Place>,
    /// The status, or the reason why there is none.
    status: Result<StatusCode, String>,
    expected: Expected,
}

/// One API: what a manager calls it, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    pub what: &'static str,
    pub name: &'static str,
}

/// One way of calling, and the call to each API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub way: &'static str,
    pub cells: Vec<Cell>,
}

impl Cell {
    /// Keeps what is shown of an outcome that led to `place`.
    pub fn new(outcome: Outcome, place: Option<Place>, expected: Expected) -> Self {
        let Outcome { addresses, reply } = outcome;
        let status = reply.map(|reply| reply.status).map_err(|error| error.to_string());
        Self { addresses, place, status, expected }
    }

    /// Whether the call led where it should and was answered what it should.
    pub fn as_expected(&self) -> bool {
        self.place == Some(self.expected.place) && self.status == Ok(self.expected.status)
    }

    /// `endpoint -> 403 Forbidden`
    fn result(&self) -> String {
        let status = match &self.status {
            Ok(status) => words(*status),
            Err(reason) => reason.clone(),
        };
        self.place.map_or_else(|| status.clone(), |place| format!("{} -> {status}", place.word()))
    }

    fn colour(&self) -> &'static str {
        match &self.status {
            _ if !self.as_expected() => YELLOW,
            Ok(status) if status.is_success() => GREEN,
            _ => RED,
        }
    }
}

impl Row {
    /// Whether every call came out as it should.
    pub fn as_expected(&self) -> bool {
        self.cells.iter().all(Cell::as_expected)
    }
}

/// The table with the problem told before it and the cure after it, in colours or without. `notes` follow the last row.
pub fn render(apis: &[Api], rows: &[Row], notes: &[String], colour: bool) -> String {
    let paint = |code: &str, text: &str, width: usize| {
        let text: String = text.chars().take(width.saturating_sub(1)).collect();
        // Padding stays outside, so that a colour never changes a column.
        let padding = width.saturating_sub(text.chars().count());
        if colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m{:padding$}", "")
        } else {
            format!("{text}{:padding$}", "")
        }
    };
    let mut lines = vec![
        "This VPC has an API Gateway endpoint with private DNS on. Its resolver sends every API's name to".into(),
        "that endpoint, which serves private APIs only: a call to a public API is answered 403 Forbidden.".into(),
        String::new(),
    ];
    // Names are too long for headings.
    lines.extend(apis.iter().map(|api| paint(BOLD, api.what, CELL) + &paint(DIM, api.name, 2 * CELL)));
    lines.push(String::new());
    let headings: String = apis.iter().map(|api| paint(BOLD, api.what, CELL)).collect();
    lines.push(paint(BOLD, "", WAY) + &headings);
    lines.push("-".repeat(WAY + apis.len() * CELL));
    for row in rows {
        let line = |code: &str, first: &str, cell: &dyn Fn(&Cell) -> String| {
            paint(code, first, WAY) + &row.cells.iter().map(cell).collect::<String>()
        };
        lines.push(line(BOLD, row.way, &|cell| paint(cell.colour(), &cell.result(), CELL)));
        if row.cells.iter().any(|cell| !cell.addresses.is_empty()) {
            lines.push(line(DIM, "", &|cell| paint(DIM, &list(&cell.addresses), CELL)));
        }
        if !row.as_expected() {
            lines.push(line(YELLOW, "expected:", &|Cell { expected, .. }| {
                paint(YELLOW, &format!("{} -> {}", expected.place.word(), words(expected.status)), CELL)
            }));
        }
    }
    lines.push(String::new());
    lines.extend_from_slice(notes);
    lines.push(if rows.iter().all(Row::as_expected) {
        "With Sidegate the private API stays on the endpoint and all others go to the internet:\nevery call works."
            .into()
    } else {
        "Not every call came out as it should: see the rows with an expected line.".into()
    });
    lines.iter().fold(String::new(), |mut text, line| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
        text
    })
}

fn words(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default())
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
