//! A configuration file: every text is taken, or refused with a place in it, a rule and a fix.

use sidegate::config::{Config, Inputs};

const PATH: &str = "fuzz.toml";

/// Panics where a promise is broken.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let inputs = Inputs {
        file: Some((PATH.to_owned(), text.to_owned())),
        environment: vec![("AWS_REGION".to_owned(), "us-east-1".to_owned())],
    };
    let _ = inputs.is_blank();
    let errors = match Config::load(&inputs) {
        Ok(config) => {
            assert_eq!(Config::load(&inputs).as_ref(), Ok(&config), "the same text says the same");
            return;
        }
        Err(errors) => errors,
    };
    assert!(errors.count() >= errors.iter().count() && errors.iter().count() > 0);
    let lines = text.split('\n').count();
    for error in errors.iter() {
        assert!(!error.rule.is_empty() && !error.fix.is_empty(), "{error}");
        let place = error.position.strip_prefix("fuzz.toml:");
        let place = place.and_then(|place| place.split_once(':'));
        let (line, column) = place.unwrap_or_else(|| panic!("{:?} is no place in the file", error.position));
        let (line, column): (usize, usize) = (line.parse().expect("a line"), column.parse().expect("a column"));
        assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column} of {lines} lines");
        let excerpt = error.excerpt.as_ref();
        assert!(excerpt.is_none_or(|excerpt| excerpt.line == line && excerpt.width >= 1), "{error}");
    }
    assert!(!errors.to_string().is_empty());
}
