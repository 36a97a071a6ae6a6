//! The policy's table once more, as slowly and plainly as it can be said: what [`sidegate::policy::route`] is judged by.
//!
//! Works on labels and lists, row after row, and shares nothing with what it judges but the words of the contract.

use crate::world::{FORWARD_ZONES, IDS, LISTED, REGIONS, VPCE_IDS, World};

/// Where a name goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the endpoint at this position.
    Endpoint(usize),
    NoSuchName,
    NotReady,
    Public,
    Vpc,
    Zone(usize),
}

/// The way of a name, and the number of the rule.
pub fn expected(world: &World, labels: &[Vec<u8>]) -> (u8, Way) {
    let labels: Vec<String> = labels.iter().map(|label| label.iter().map(|byte| readable(*byte)).collect()).collect();
    let name = labels.join(".");
    if world.always_public_names.iter().any(|at| LISTED[*at] == name) {
        return (0, Way::Public);
    }
    if let Some((_, endpoint)) = world.private_names.iter().find(|(at, _)| LISTED[*at] == name) {
        return (0, Way::Endpoint(*endpoint));
    }
    for (region, region_name) in REGIONS.iter().enumerate() {
        let Some(first) = world.endpoints.iter().position(|endpoint| endpoint.region == region) else { continue };
        let zone: Vec<String> = ["execute-api", region_name, "amazonaws", "com"].map(str::to_owned).into();
        if let Some(above) = labels.strip_suffix(zone.as_slice()) {
            return in_zone(world, region, first, above, &name);
        }
    }
    if is_below_listed(world, &name) {
        return (4, Way::NoSuchName);
    }
    if world.forward_zones {
        let under = |zone: &str| name == zone || name.ends_with(&format!(".{zone}"));
        let longest = (0..FORWARD_ZONES.len())
            .filter(|position| under(FORWARD_ZONES[*position]))
            .max_by_key(|position| FORWARD_ZONES[*position].len());
        if let Some(position) = longest {
            return (6, Way::Zone(position));
        }
    }
    let comes_back = world.whole_vpc && is_of_api_gateway(&labels);
    (7, if world.default_vpc && !comes_back { Way::Vpc } else { Way::Public })
}

fn in_zone(world: &World, region: usize, first: usize, above: &[String], name: &str) -> (u8, Way) {
    let Some(nearest) = above.last() else { return (1, Way::Endpoint(first)) };
    let is_below = above.len() > 1;
    if world.always_public_ids.iter().any(|id| IDS[*id] == nearest) {
        return (if is_below { 5 } else { 0 }, Way::Public);
    }
    if let Some((rule, endpoint)) = private(world, region, first, nearest) {
        return if is_below { (4, Way::NoSuchName) } else { (rule, Way::Endpoint(endpoint)) };
    }
    if !is_below && alias(nearest).is_some() {
        return (3, Way::Public);
    }
    if is_below_listed(world, name) {
        return (4, Way::NoSuchName);
    }
    let could_be_an_id = !nearest.is_empty() && nearest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (5, if world.not_ready && could_be_an_id { Way::NotReady } else { Way::Public })
}

/// Rules 2 and 3.
fn private(world: &World, region: usize, first: usize, label: &str) -> Option<(u8, usize)> {
    let of_region = |vpce_id: usize| {
        world.endpoints.iter().position(|endpoint| endpoint.region == region && endpoint.vpce_id == Some(vpce_id))
    };
    let said: Vec<_> =
        world.ids.iter().filter(|said| IDS[said.id] == label && said.region.is_none_or(|of| of == region)).collect();
    if !said.is_empty() {
        let bound = said.iter().flat_map(|said| &said.bound).find_map(|vpce_id| of_region(*vpce_id));
        return Some((2, bound.unwrap_or(first)));
    }
    if world.learned.iter().any(|(id, of)| IDS[*id] == label && *of == region) {
        return Some((2, first));
    }
    let vpce_id = VPCE_IDS.iter().position(|id| Some(*id) == alias(label))?;
    Some((3, of_region(vpce_id)?))
}

/// The endpoint id of `<id>-<vpce-id>`.
fn alias(label: &str) -> Option<&str> {
    let (id, digits) = label.split_once("-vpce-")?;
    let is_id = !id.is_empty() && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_hex = digits.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
    (is_id && is_hex && (8..=17).contains(&digits.len())).then(|| &label[id.len() + 1..])
}

fn is_below_listed(world: &World, name: &str) -> bool {
    world.private_names.iter().any(|(at, _)| name.ends_with(&format!(".{}", LISTED[*at])))
}

/// The forms in the vocabulary: `execute-api` or its FIPS sibling, a region, a suffix.
fn is_of_api_gateway(labels: &[String]) -> bool {
    (0..labels.len()).any(|at| {
        let (service, suffix) = (&labels[at], labels.get(at + 2..).unwrap_or_default().join("."));
        matches!(service.as_str(), "execute-api" | "execute-api-fips")
            && matches!(suffix.as_str(), "amazonaws.com" | "api.aws")
    })
}

/// Octets that are no text stand for something that no listed name has; a dot within a label is none between labels.
fn readable(byte: u8) -> char {
    match byte.to_ascii_lowercase() {
        b'.' => '\u{fffd}',
        byte if byte.is_ascii() => byte.into(),
        byte => char::from_u32(0x2000 + u32::from(byte)).unwrap_or('\u{fffd}'),
    }
}
