//! The three forms, what is refused, and that what is written is read again.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<List, String> {
    List::parse(text.as_bytes(), false).map_err(|error| error.to_string())
}

fn ids(text: &str) -> Vec<String> {
    parse(text).unwrap().entries().iter().map(|entry| entry.id.to_string()).collect()
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err()
}

#[test]
fn one_id_a_line_with_comments_and_any_white_space() {
    let text = "\u{feff}# private APIs\r\n\r\n  b1 # orders\r\na1\t\n\n#c1\na1#again\nd1";
    assert_eq!(ids(text), ["a1", "b1", "d1"]);
    for nothing in ["", "\n", "# none\n", "\u{feff}", "[]", " [ ]\n"] {
        assert!(parse(nothing).unwrap().is_empty(), "{nothing:?}");
    }
}

#[test]
fn json_arrays_of_ids_and_of_objects_and_of_both() {
    assert_eq!(ids(r#"["b1","a1"]"#), ["a1", "b1"]);
    let text = "\u{feff}\n[\"b1\",\n {\"id\":\"a1\",\"vpc_endpoint_ids\":[\"vpce-0123456789abcdef0\"],\n\
                \"region\":\"us-east-1\",\"name\":\"orders \\u00e9\"},\
                {\"id\":\"c1\",\"vpc_endpoint_ids\":null,\"region\":null,\"name\":null}]\r\n";
    let list = parse(text).unwrap();
    let [first, second, third] = list.entries() else { panic!("{list:?}") };
    assert_eq!(first.vpc_endpoint_ids, ["vpce-0123456789abcdef0".parse().unwrap()]);
    assert_eq!((first.region.clone(), first.name.as_deref()), ("us-east-1".parse().ok(), Some("orders é")));
    assert_eq!((second, third), (&Entry::of("b1".parse().unwrap()), &Entry::of("c1".parse().unwrap())));
}

#[test]
fn an_id_may_be_listed_for_several_regions_and_once_for_each() {
    let text = r#"["a1", {"id":"a1","region":"us-east-1"}, {"id":"a1","region":"eu-west-1"}, {"id":"a1"}]"#;
    let list = parse(text).unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(list.to_lines(), "a1\n");
}

#[test]
fn a_region_fits_a_partition_unless_the_suffix_is_set_by_hand() {
    let text = r#"[{"id":"a1","region":"lab-1"}]"#;
    assert!(refused(text).starts_with("line 1, column 29: \"lab-1\": a region looks like"), "{}", refused(text));
    assert!(List::parse(text.as_bytes(), true).is_ok());
}

#[test]
fn an_error_names_the_line_the_text_the_rule_and_a_fix() {
    assert_eq!(
        refused("a1\n# fine\n  A1 \n"),
        "line 3: \"A1\": an API id is lower-case letters and digits only: write the part before the first dot of the API's \
         host name, one id a line"
    );
    for (text, beginning) in [
        ("a1 b1", "line 1: \"a1 b1\": "),
        ("[\"a1\",\n\"B1\"]", "line 2, column 4: \"B1\": an API id is"),
        ("[\n\"a1\"\n\"b1\"]", "line 3, column 1: expected `,` or `]`: write ["),
        ("[a1]", "line 1, column 2: expected value: write ["),
        ("[\"a1\"", "line 1, column 5: EOF while parsing a list: write ["),
        ("[\"a1\"] x", "line 1, column 8: trailing characters: write ["),
        ("[1]", "line 1, column 2: invalid type: integer `1`, expected an id in quotes, or an object with `id`"),
        ("[{\"name\":\"a\"}]", "line 1, column 13: missing field `id`"),
        ("[{\"id\":\"a1\",\"vpc_endpoint_ids\":[\"vpce-1\"]}]", "line 1, column 42: \"vpce-1\": a VPC endpoint id"),
        ("[{\"id\":\"a1\",\"id\":\"b1\"}]", "line 1, column 16: duplicate field `id`"),
    ] {
        assert!(refused(text).starts_with(beginning), "{text:?}: {}", refused(text));
    }
}

#[test]
fn a_list_of_all_apis_is_refused_with_the_way_to_a_list_of_private_ones() {
    for text in [
        r#"{"items":[{"id":"a1","endpointConfiguration":{"types":["REGIONAL"]}}]}"#,
        r#"[{"id":"a1","endpointConfiguration":{"types":["PRIVATE"]}}]"#,
        r#"[{"id":"a1","name":"orders","createdDate":1}]"#,
        r#"{"ids":["a1"]}"#,
    ] {
        assert!(refused(text).contains("`sidegate discover`"), "{text}: {}", refused(text));
    }
}

#[test]
fn what_is_wrong_is_shown_escaped_and_in_part() {
    let nasty = format!("a\u{1b}[31m\u{202e}{}", "x".repeat(5_000));
    for text in
        [nasty.clone(), format!("[{}]", serde_json::Value::from(&*nasty)), format!("[{{\"{}\":1}}]", "k".repeat(5_000))]
    {
        let error = refused(&text);
        assert!(error.len() < 1_500 && error.contains('…'), "{error}");
        assert!(!error.chars().any(|c| c.is_control() || c == '\u{202e}'), "{error}");
    }
    let key = "[{\"\\u001b[31m\\u202e\":1}]";
    assert!(!refused(key).chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", refused(key));
}

#[test]
fn what_is_no_text_is_refused_by_line() {
    let error = List::parse(b"a1\nb\xff1\n", false).unwrap_err();
    assert_eq!(error.to_string(), "line 2: it is not UTF-8: save it as UTF-8, without compression");
}

#[test]
fn a_list_has_at_most_so_many_octets_and_ids() {
    assert_eq!(List::parse(&vec![b'\n'; MAX_BYTES + 1], false), Err(ListError::TooLong(MAX_BYTES + 1)));
    let lines = |count: usize| (0..count).map(|id| format!("{id}\n")).collect::<String>();
    assert_eq!(parse(&lines(MAX_IDS)).unwrap().len(), MAX_IDS);
    assert_eq!(List::parse(lines(MAX_IDS + 1).as_bytes(), false), Err(ListError::TooMany));
    let array = |count: usize| {
        format!("[{}]", lines(count).lines().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(","))
    };
    assert_eq!(parse(&array(MAX_IDS)).unwrap().len(), MAX_IDS);
    assert_eq!(List::parse(array(MAX_IDS + 1).as_bytes(), false), Err(ListError::TooMany));
}

#[test]
fn json_is_written_one_object_a_line_with_what_is_known() {
    let text = r#"["b1",{"name":"a \"b\"\n","id":"a1","region":"us-east-1","vpc_endpoint_ids":["vpce-0aaaaaaa1","vpce-0aaaaaaa2"]}]"#;
    assert_eq!(
        parse(text).unwrap().to_json(),
        "[\n{\"id\":\"a1\",\"vpc_endpoint_ids\":[\"vpce-0aaaaaaa1\",\"vpce-0aaaaaaa2\"],\"region\":\"us-east-1\",\
         \"name\":\"a \\\"b\\\"\\n\"},\n{\"id\":\"b1\"}\n]\n"
    );
    assert_eq!(List::default().to_json(), "[]\n");
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let region = prop::option::of(prop::sample::select(vec!["us-east-1", "eu-west-1", "cn-north-1"]));
    let vpce_ids = prop::collection::vec("vpce-[0-9a-f]{8,17}", 0..3);
    ("[a-z0-9]{1,12}", vpce_ids, region, prop::option::of(".{0,8}")).prop_map(|(id, vpce_ids, region, name)| Entry {
        vpc_endpoint_ids: vpce_ids.iter().map(|id| id.parse().unwrap()).collect(),
        region: region.map(|region| region.parse().unwrap()),
        name: name.map(Into::into),
        ..Entry::of(id.parse().unwrap())
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(entries in prop::collection::vec(any_entry(), 0..30)) {
        let list = List::new(entries);
        prop_assert_eq!(&List::parse(list.to_json().as_bytes(), false).unwrap(), &list);
        let lines = List::parse(list.to_lines().as_bytes(), false).unwrap();
        let mut ids: Vec<_> = list.entries().iter().map(|entry| &entry.id).collect();
        ids.dedup();
        prop_assert_eq!(lines.entries().iter().map(|entry| &entry.id).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn arbitrary_octets_never_panic(octets: Vec<u8>, opening in "[\\[{]{0,2}") {
        let text = [opening.as_bytes(), &octets].concat();
        let _ = List::parse(&text, false);
    }
}
