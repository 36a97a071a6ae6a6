//! Names, as text and as octets: what is taken is a name to others too, and comes back as it was.

use hickory_proto::rr::Name;
use sidegate::policy::HostName;

/// Panics where a promise is broken.
pub fn run(data: &[u8]) {
    from_octets(data);
    if let Ok(text) = std::str::from_utf8(data) {
        from_text(text);
    }
}

fn from_octets(data: &[u8]) {
    let Ok(name) = HostName::from_wire(data) else { return };
    let wire = name.wire();
    assert!(wire.len() <= 255 && wire.len() <= data.len());
    assert!(wire.eq_ignore_ascii_case(&data[..wire.len()]));
    assert_eq!(HostName::from_wire(wire).as_ref(), Ok(&name), "lower case is taken as well");
    let theirs = Name::from_labels(name.labels()).expect("others take it");
    assert_eq!(theirs.num_labels() as usize, name.labels().filter(|label| *label != b"*").count());
    assert_eq!(name.suffixes().last(), Some(&[0][..]), "every name ends at the root");
    for suffix in name.suffixes() {
        let parent = HostName::from_wire(suffix).expect("a part of a name");
        assert!(name.is_within(&parent), "{name} is within {parent}");
        assert!(parent == name || !parent.is_within(&name), "{parent} is not within {name}");
    }
    let zone: HostName = "corp.example".parse().expect("a name");
    if let Some(joined) = name.join(&zone) {
        assert!(joined.is_within(&zone) && joined.wire().starts_with(&wire[..wire.len() - 1]));
    }
}

fn from_text(text: &str) {
    let Ok(name) = text.parse::<HostName>() else { return };
    assert_eq!(name.to_string().parse::<HostName>().as_ref(), Ok(&name), "what is shown is read again");
    assert_eq!(text.to_ascii_uppercase().parse::<HostName>().as_ref(), Ok(&name), "case does not matter");
    assert_eq!(HostName::from_wire(name.wire()).as_ref(), Ok(&name));
    let theirs =
        Name::from_ascii(text).map(|theirs| theirs.to_lowercase().iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
    if let Ok(theirs) = theirs {
        assert_eq!(name.labels().map(<[u8]>::to_vec).collect::<Vec<_>>(), theirs, "{text:?}");
    }
}
