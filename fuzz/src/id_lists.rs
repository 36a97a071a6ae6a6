//! Lists of private ids, in their three forms: what is read is written and read again, and a plain JSON array says what
//! serde_json says.

use sidegate::discovery::List;

/// Panics where a promise is broken.
pub fn run(data: &[u8]) {
    let strict = List::parse(data, false);
    let loose = List::parse(data, true);
    let list = match (strict, loose) {
        (Ok(strict), Ok(loose)) => {
            assert_eq!(strict, loose, "regions that fit are taken either way");
            strict
        }
        (Ok(_), Err(error)) => panic!("refused where more is allowed: {error}"),
        (Err(error), loose) => {
            assert!(error.to_string().len() < 1024, "an error of {} octets", error.to_string().len());
            let Ok(list) = loose else { return };
            list
        }
    };
    assert_eq!(List::parse(list.to_json().as_bytes(), true).as_ref(), Ok(&list), "what is written is read again");
    assert!(list.entries().is_sorted_by(|a, b| (&a.id, &a.region) < (&b.id, &b.region)), "in order, none twice");
    let lines = List::parse(list.to_lines().as_bytes(), true).expect("lines of ids");
    assert!(lines.entries().iter().all(|line| list.entries().iter().any(|entry| entry.id == line.id)));
    if let Ok(mut ids) = serde_json::from_slice::<Vec<String>>(data) {
        ids.sort();
        ids.dedup();
        assert!(list.entries().iter().map(|entry| entry.id.as_str()).eq(ids.iter().map(String::as_str)), "{ids:?}");
    }
}
