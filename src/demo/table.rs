//! The demo's result as a table that needs no DNS to be understood. Pure: outcomes in, text out.
//!
//! `run` fills it. Every cell is made from what a call came to, and is held against what it should have come to.

use std::fmt::Write as _;
use std::net::IpAddr;

use hyper::StatusCode;

use super::client::Outcome;

/// Width of the column of names, and of each column of results: 104 columns in all.
const NAME: usize = 48;
const CELL: usize = 28;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Whose addresses a name got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All are the endpoint's.
    Endpoint,
    /// All are the public gateway's.
    Internet,
    /// Some of both, or others.
    Elsewhere,
}

/// Where a name should lead, and what the call should answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub place: Place,
    pub status: StatusCode,
}

/// What one call came to, beside what it should have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    addresses: Vec<IpAddr>,
    place: Place,
    /// The status, or the reason why there is none.
    status: Result<StatusCode, String>,
    expected: Expected,
}

/// One API: what a manager calls it, its name, and its call through each resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub what: &'static str,
    pub name: &'static str,
    pub vpc_alone: Cell,
    pub with_sidegate: Cell,
}

impl Cell {
    /// Places an outcome's addresses and keeps what is shown of it.
    pub fn new(outcome: Outcome, expected: Expected, endpoint: &[IpAddr], gateway: &[IpAddr]) -> Self {
        let Outcome { addresses, status } = outcome;
        let within = |group: &[IpAddr]| !addresses.is_empty() && addresses.iter().all(|one| group.contains(one));
        let place = match (within(endpoint), within(gateway)) {
            (true, _) => Place::Endpoint,
            (_, true) => Place::Internet,
            _ => Place::Elsewhere,
        };
        Self { addresses, place, status: status.map_err(|error| error.to_string()), expected }
    }

    /// Whether the name led where it should and the call answered what it should.
    pub fn as_expected(&self) -> bool {
        self.place == self.expected.place && self.status == Ok(self.expected.status)
    }

    /// `endpoint -> 403 Forbidden`
    fn result(&self) -> String {
        match &self.status {
            Ok(status) => leads(self.place, *status),
            Err(reason) if self.addresses.is_empty() => reason.clone(),
            Err(reason) => format!("{} -> {reason}", place(self.place)),
        }
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
    fn cells(&self) -> [&Cell; 2] {
        [&self.vpc_alone, &self.with_sidegate]
    }

    /// Whether both calls came out as they should.
    pub fn as_expected(&self) -> bool {
        self.cells().into_iter().all(Cell::as_expected)
    }
}

/// The table with the problem told before it and the cure after it, in colours or without.
pub fn render(rows: &[Row], colour: bool) -> String {
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
        "This VPC has an API Gateway endpoint with private DNS on. Its resolver sends every API's name to that".into(),
        "endpoint, which serves private APIs only: every call to a public API is answered 403 Forbidden.".into(),
        String::new(),
        paint(BOLD, "", NAME) + &paint(BOLD, "VPC resolver alone", CELL) + &paint(BOLD, "with Sidegate", CELL),
        "-".repeat(NAME + 2 * CELL),
    ];
    for row in rows {
        let [alone, sidegate] = row.cells();
        let three = |name: String, cell: &dyn Fn(&Cell) -> String| name + &cell(alone) + &cell(sidegate);
        lines.push(three(paint(BOLD, row.what, NAME), &|cell| paint(cell.colour(), &cell.result(), CELL)));
        lines.push(three(paint(DIM, row.name, NAME), &|cell| paint(DIM, &list(&cell.addresses), CELL)));
        if !row.as_expected() {
            lines.push(three(paint(YELLOW, "expected:", NAME), &|cell| {
                paint(YELLOW, &leads(cell.expected.place, cell.expected.status), CELL)
            }));
        }
        lines.push(String::new());
    }
    lines.push(if rows.iter().all(Row::as_expected) {
        "With Sidegate the private API stays on the endpoint and all others go to the internet: every call works."
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

fn leads(to: Place, status: StatusCode) -> String {
    format!("{} -> {} {}", place(to), status.as_u16(), status.canonical_reason().unwrap_or_default())
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Endpoint => "endpoint",
        Place::Internet => "internet",
        Place::Elsewhere => "elsewhere",
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
