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
mod tests {
    use super::super::client::ClientError;
    use super::*;

    const ENDPOINT: [IpAddr; 2] = [ip(11), ip(12)];
    const GATEWAY: [IpAddr; 1] = [ip(21)];

    const fn ip(last: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, last))
    }

    fn cell(addresses: &[IpAddr], status: Result<u16, ClientError>, place: Place, expected: u16) -> Cell {
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        let expected = Expected { place, status: StatusCode::from_u16(expected).unwrap() };
        Cell::new(Outcome { addresses: addresses.to_vec(), status }, expected, &ENDPOINT, &GATEWAY)
    }

    fn rows() -> [Row; 2] {
        [
            Row {
                what: "Private API",
                name: "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
                vpc_alone: cell(&ENDPOINT, Ok(200), Place::Endpoint, 200),
                with_sidegate: cell(&ENDPOINT, Ok(200), Place::Endpoint, 200),
            },
            Row {
                what: "Custom domain of a public API",
                name: "api.example.com",
                vpc_alone: cell(&ENDPOINT, Ok(403), Place::Endpoint, 403),
                with_sidegate: cell(&GATEWAY, Ok(200), Place::Internet, 200),
            },
        ]
    }

    #[test]
    fn the_table_tells_problem_result_and_cure() {
        insta::assert_snapshot!(render(&rows(), false), @"
    This VPC has an API Gateway endpoint with private DNS on. Its resolver sends every API's name to that
    endpoint, which serves private APIs only: every call to a public API is answered 403 Forbidden.

                                                    VPC resolver alone          with Sidegate
    --------------------------------------------------------------------------------------------------------
    Private API                                     endpoint -> 200 OK          endpoint -> 200 OK
    a1b2c3d4e5.execute-api.us-east-1.amazonaws.com  127.0.0.11, 127.0.0.12      127.0.0.11, 127.0.0.12

    Custom domain of a public API                   endpoint -> 403 Forbidden   internet -> 200 OK
    api.example.com                                 127.0.0.11, 127.0.0.12      127.0.0.21

    With Sidegate the private API stays on the endpoint and all others go to the internet: every call works.
    ");
    }

    #[test]
    fn a_row_that_went_wrong_says_what_was_expected() {
        let mut rows = rows();
        rows[1].with_sidegate = cell(&[], Err(ClientError::NoSuchName), Place::Internet, 200);
        insta::assert_snapshot!(render(&rows[1..], false), @"
    This VPC has an API Gateway endpoint with private DNS on. Its resolver sends every API's name to that
    endpoint, which serves private APIs only: every call to a public API is answered 403 Forbidden.

                                                    VPC resolver alone          with Sidegate
    --------------------------------------------------------------------------------------------------------
    Custom domain of a public API                   endpoint -> 403 Forbidden   no such name
    api.example.com                                 127.0.0.11, 127.0.0.12
    expected:                                       endpoint -> 403 Forbidden   internet -> 200 OK

    Not every call came out as it should: see the rows with an expected line.
    ");
    }

    #[test]
    fn colours_change_no_column() {
        let coloured = render(&rows(), true);
        assert!(coloured.contains("\x1b[32mendpoint -> 200 OK\x1b[0m") && coloured.contains("\x1b[31mendpoint -> 403"));
        let mut plain = coloured;
        for code in [BOLD, DIM, RED, GREEN, YELLOW, "0"] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, render(&rows(), false).lines().collect::<Vec<_>>());
    }

    #[test]
    fn no_line_is_wider_than_110_columns() {
        let mut rows = rows();
        rows[0].vpc_alone = cell(&[ip(111), ip(112), ip(113)], Err(ClientError::Slow), Place::Endpoint, 200);
        assert!(render(&rows, false).lines().all(|line| line.chars().count() <= 110));
    }

    #[test]
    fn the_right_status_from_the_wrong_place_is_not_as_expected() {
        assert!(!cell(&GATEWAY, Ok(200), Place::Endpoint, 200).as_expected());
        assert!(!cell(&[ENDPOINT[0], GATEWAY[0]], Ok(200), Place::Endpoint, 200).as_expected());
        assert!(!cell(&ENDPOINT, Ok(403), Place::Endpoint, 200).as_expected());
        assert!(cell(&ENDPOINT[..1], Ok(200), Place::Endpoint, 200).as_expected());
    }
}
