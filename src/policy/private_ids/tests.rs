//! The compact form says what was added, in the order it was added.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A statement with what it is about, owned.
#[derive(Debug, Clone)]
struct Said {
    id: ApiId,
    region: Option<Region>,
    index: Option<usize>,
    vpce_ids: Vec<VpceId>,
    origin: Origin,
    since: Option<SystemTime>,
}

impl Said {
    fn knowledge(&self) -> Knowledge<'_> {
        let bound = |ids| if self.vpce_ids.is_empty() { None } else { Some(Binding::Ids(ids)) };
        let binding = self.index.map(|index| Binding::Index(EndpointIndex(index)));
        Knowledge {
            region: self.region.as_ref(),
            binding: binding.or_else(|| bound(&self.vpce_ids)),
            origin: &self.origin,
            since: self.since,
        }
    }
}

fn any_said() -> impl Strategy<Value = Said> {
    let region =
        prop::option::of(prop::sample::select(vec!["us-east-1", "eu-west-1"]).prop_map(|r| r.parse().unwrap()));
    let vpce_id = "vpce-0[ab]{8}".prop_map(|id| id.parse().unwrap());
    let origin = prop_oneof![
        Just(Origin::Static),
        Just(Origin::Endpoint),
        prop::sample::select(vec!["file /a", "file /b"]).prop_map(|name| Origin::Source(name.into())),
    ];
    let since = prop::option::of((0_u64..3).prop_map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s)));
    let ids = prop::collection::vec(vpce_id, 0..3);
    ("[ab]{1,3}", region, prop::option::of(0_usize..3), ids, origin, since).prop_map(
        |(id, region, index, vpce_ids, origin, since)| Said {
            id: id.parse().unwrap(),
            region,
            index,
            vpce_ids,
            origin,
            since,
        },
    )
}

proptest! {
    #[test]
    fn every_id_has_its_statements_in_the_order_they_were_added(said in prop::collection::vec(any_said(), 0..60)) {
        let mut ids = PrivateIds::default();
        let mut expected: HashMap<String, Vec<Said>> = HashMap::new();
        for one in &said {
            ids.add(&one.id, one.knowledge());
            expected.entry(one.id.to_string()).or_default().push(one.clone());
        }
        prop_assert_eq!(ids.len(), expected.len());
        let mut known: Vec<&str> = ids.ids().collect();
        known.sort_unstable();
        let mut names: Vec<&str> = expected.keys().map(String::as_str).collect();
        names.sort_unstable();
        prop_assert_eq!(known, names);
        for (id, statements) in &expected {
            let of: Vec<_> = ids.of(&id.parse().unwrap()).collect();
            prop_assert_eq!(of, statements.iter().map(Said::knowledge).collect::<Vec<_>>());
        }
        prop_assert_eq!(ids.of_label(b"unknown").count(), 0);
    }
}

#[test]
fn ids_of_any_length_and_number_are_found_again() {
    let id = |number: usize| format!("{}{number}", "x".repeat(number % 59)).parse::<ApiId>().unwrap();
    let mut ids = PrivateIds::with_capacity(10);
    for number in 0..5_000 {
        ids.add(&id(number), Knowledge::of(&Origin::Static));
    }
    assert_eq!(ids.len(), 5_000);
    assert!((0..5_000).all(|number| ids.of(&id(number)).count() == 1));
    assert_eq!(ids.of(&id(5_000)).count(), 0);
}

#[test]
fn what_many_ids_share_is_kept_once() {
    let (region, origin): (Region, _) = ("us-east-1".parse().unwrap(), Origin::Source("file /ids".into()));
    let bound: Vec<VpceId> = vec!["vpce-0aaaaaaaaaaaaaaa0".parse().unwrap(), "vpce-0bbbbbbbbbbbbbbb0".parse().unwrap()];
    let mut ids = PrivateIds::default();
    for number in 0..1_000 {
        let binding = Some(Binding::Ids(&bound));
        let knowledge = Knowledge { region: Some(&region), binding, ..Knowledge::of(&origin) };
        ids.add(&format!("id{number}").parse().unwrap(), knowledge);
    }
    let shared = (ids.sayings.values.len(), ids.regions.values.len(), ids.origins.values.len(), ids.vpce_ids.len());
    assert_eq!(shared, (1, 1, 1, 2));
    assert_eq!(size_of::<Known>() + size_of::<Statement>(), 20);
}
