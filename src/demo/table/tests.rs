//! The table's texts, its widths and colours, and when a cell is as it should be.

use super::*;
use crate::demo::client::ClientError;

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
