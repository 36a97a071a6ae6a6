//! What a source says of its failures.

use super::*;
use crate::discovery::config::AddressSource;

#[test]
fn each_kind_of_failure_is_warned_of_once_until_the_source_works_again() {
    let kind = SourceKind::File { path: "/ids".into() };
    let config = SourceConfig { kind, interval: Duration::from_secs(1), required: true };
    let source = Source::new(&config, config.label(), &Config::of_test(AddressSource::Apex)).unwrap();
    let news = ["cut short", "redirect", "cut short", "expired at 10:00:01", "expired at 10:00:02"];
    assert_eq!(news.map(|error| !source.is_told(error)), [true, true, false, true, false]);
    source.publish(&Arc::default(), Held::Nothing, SystemTime::now());
    assert!(!source.is_told("cut short"));
    let many = (b'a'..=b'z').filter(|letter| !source.is_told(&char::from(*letter).to_string())).count();
    assert_eq!(many, MAX_TOLD - 1, "it never ends");
}
