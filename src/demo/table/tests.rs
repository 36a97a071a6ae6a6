//! The table's texts, its widths and colours, and when a cell is as it should be.

use super::*;
use crate::demo::client::{ClientError, Reply};

const ENDPOINT: [IpAddr; 2] = [ip(11), ip(12)];
const GATEWAY: [IpAddr; 1] = [ip(21)];
const APIS: [Api; 2] = [
    Api { what: "Private API", name: "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com" },
    Api { what: "Public custom domain", name: "api.example.com" },
];
const HERE: Option<Place> = Some(Place::Endpoint);
const OUTSIDE: Option<Place> = Some(Place::Internet);

const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, last))
}

fn cell(addresses: &[IpAddr], place: Option<Place>, status: Result<u16, ClientError>, expected: (Place, u16)) -> Cell {
    let code = |status| StatusCode::from_u16(status).unwrap();
    let reply = status.map(|status| Reply { status: code(status), through: None });
    let expected = Expected { place: expected.0, status: code(expected.1) };
    Cell::new(Outcome { addresses: addresses.to_vec(), reply }, place, expected)
}

fn rows() -> [Row; 3] {
    let (endpoint, internet) = ((Place::Endpoint, 200), (Place::Internet, 200));
    let alone = vec![cell(&ENDPOINT, HERE, Ok(200), endpoint), cell(&ENDPOINT, HERE, Ok(403), (Place::Endpoint, 403))];
    let dns = vec![cell(&ENDPOINT, HERE, Ok(200), endpoint), cell(&GATEWAY, OUTSIDE, Ok(200), internet)];
    let proxy = vec![cell(&[], HERE, Ok(200), endpoint), cell(&[], OUTSIDE, Ok(200), internet)];
    [
        Row { way: "VPC resolver alone", cells: alone },
        Row { way: "Sidegate's DNS", cells: dns },
        Row { way: "HTTPS_PROXY", cells: proxy },
    ]
}

#[test]
fn the_table_tells_problem_result_and_cure() {
    insta::assert_snapshot!(render(&APIS, &rows(), &["A note.".to_owned()], false), @"
This VPC has an API Gateway endpoint with private DNS on. Its resolver sends every API's name to
that endpoint, which serves private APIs only: a call to a public API is answered 403 Forbidden.

Private API                a1b2c3d4e5.execute-api.us-east-1.amazonaws.com
Public custom domain       api.example.com

                   Private API                Public custom domain
-------------------------------------------------------------------------
VPC resolver alone endpoint -> 200 OK         endpoint -> 403 Forbidden
                   127.0.0.11, 127.0.0.12     127.0.0.11, 127.0.0.12
Sidegate's DNS     endpoint -> 200 OK         internet -> 200 OK
                   127.0.0.11, 127.0.0.12     127.0.0.21
HTTPS_PROXY        endpoint -> 200 OK         internet -> 200 OK

A note.
With Sidegate the private API stays on the endpoint and all others go to the internet:
every call works.
");
}

#[test]
fn a_row_that_went_wrong_says_what_was_expected() {
    let mut rows = rows();
    rows[1].cells[1] = cell(&[], None, Err(ClientError::NoSuchName), (Place::Internet, 200));
    rows[2].cells[0] = cell(&[], None, Ok(403), (Place::Endpoint, 200));
    insta::assert_snapshot!(render(&APIS, &rows, &[], false), @"
This VPC has an API Gateway endpoint with private DNS on. Its resolver sends every API's name to
that endpoint, which serves private APIs only: a call to a public API is answered 403 Forbidden.

Private API                a1b2c3d4e5.execute-api.us-east-1.amazonaws.com
Public custom domain       api.example.com

                   Private API                Public custom domain
-------------------------------------------------------------------------
VPC resolver alone endpoint -> 200 OK         endpoint -> 403 Forbidden
                   127.0.0.11, 127.0.0.12     127.0.0.11, 127.0.0.12
Sidegate's DNS     endpoint -> 200 OK         no such name
                   127.0.0.11, 127.0.0.12
expected:          endpoint -> 200 OK         internet -> 200 OK
HTTPS_PROXY        403 Forbidden              internet -> 200 OK
expected:          endpoint -> 200 OK         internet -> 200 OK

Not every call came out as it should: see the rows with an expected line.
");
}

#[test]
fn colours_change_no_column() {
    let coloured = render(&APIS, &rows(), &[], true);
    assert!(coloured.contains("\x1b[32mendpoint -> 200 OK\x1b[0m") && coloured.contains("\x1b[31mendpoint -> 403"));
    let mut plain = coloured;
    for code in [BOLD, DIM, RED, GREEN, YELLOW, "0"] {
        plain = plain.replace(&format!("\x1b[{code}m"), "");
    }
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, render(&APIS, &rows(), &[], false).lines().collect::<Vec<_>>());
}

#[test]
fn no_line_of_three_apis_is_wider_than_100_columns() {
    let mut row = rows()[0].clone();
    row.cells.push(cell(&[ip(111), ip(112), ip(113)], HERE, Err(ClientError::Slow), (Place::Endpoint, 200)));
    let text = render(&[APIS[0], APIS[1], APIS[0]], &[row], &[], false);
    assert_eq!(text.lines().map(|line| line.chars().count()).max(), Some(100), "{text}");
}

#[test]
fn the_right_status_from_the_wrong_place_is_not_as_expected() {
    let expected = (Place::Endpoint, 200);
    for place in [OUTSIDE, Some(Place::Elsewhere), None] {
        assert!(!cell(&[], place, Ok(200), expected).as_expected(), "{place:?}");
    }
    assert!(!cell(&ENDPOINT, HERE, Ok(403), expected).as_expected());
    assert!(cell(&ENDPOINT[..1], HERE, Ok(200), expected).as_expected());
}
