//! Small worlds to decide in: which endpoints, ids and names there are, drawn from a fuzzer's bytes.
//!
//! One description makes both the table that Sidegate reads and, in [`crate::model`], what is expected of it. Names come from a
//! vocabulary in which most meet a rule: bytes alone would hardly ever hit one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use sidegate::policy::{
    Addresses, Binding, Endpoint, EndpointIndex, HostName, Knowledge, Names, NotReady, Origin, PrivateIds, Region,
    Table, Upstream, VpceId,
};

pub const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];
pub const IDS: [&str; 5] = ["a1b2c3d4e5", "priv1", "x", "0", "pub1"];
pub const VPCE_IDS: [&str; 4] =
    ["vpce-0aaaaaaaaaaaaaaa0", "vpce-0bbbbbbbbbbbbbbb0", "vpce-0ccccccccccccccc0", "vpce-0ddddddddddddddd0"];
pub const LISTED: [&str; 4] =
    ["orders.corp.example", "api.corp.internal", "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", "shop.example.com"];
pub const FORWARD_ZONES: [&str; 2] = ["corp.internal", "deep.corp.internal"];
/// What a name may end with.
const ENDINGS: [&str; 13] = [
    "execute-api.us-east-1.amazonaws.com",
    "execute-api.eu-west-1.amazonaws.com",
    "execute-api.sa-east-1.amazonaws.com",
    "execute-api.us-east-1.api.aws",
    "execute-api-fips.us-east-1.amazonaws.com",
    "us-east-1.amazonaws.com",
    "orders.corp.example",
    "api.corp.internal",
    "deep.corp.internal",
    "corp.internal",
    "shop.example.com",
    "sidegate.invalid",
    "",
];
const LABELS: [&str; 6] = ["www", "d-abc123", "health", "execute-api", "_443", "a1b2c3d4e5-vpce-xyz"];

/// An endpoint, as its region, its id if it is configured, and how many addresses of each family it has.
#[derive(Debug, Clone)]
pub struct EndpointFacts {
    pub region: usize,
    pub vpce_id: Option<usize>,
    pub v4: u8,
    pub v6: u8,
}

/// What one source says of an id.
#[derive(Debug, Clone)]
pub struct IdFacts {
    pub id: usize,
    pub region: Option<usize>,
    /// The endpoint ids it is bound to, in order.
    pub bound: Vec<usize>,
}

/// Everything a decision may depend on; positions are those in the vocabulary.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub endpoints: Vec<EndpointFacts>,
    pub ids: Vec<IdFacts>,
    pub always_public_ids: Vec<usize>,
    pub always_public_names: Vec<usize>,
    /// A name and the position of its endpoint.
    pub private_names: Vec<(usize, usize)>,
    pub forward_zones: bool,
    /// An id and a region.
    pub learned: Vec<(usize, usize)>,
    pub not_ready: bool,
    pub default_vpc: bool,
    pub whole_vpc: bool,
    pub learn: bool,
    /// Whether the names of our zones resolve to the forwarder.
    pub stand_in: bool,
}

/// The forwarder's own addresses, where it stands in.
pub const STAND_IN: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

impl World {
    pub fn draw(u: &mut Unstructured<'_>) -> Result<Self> {
        let mut world = Self::default();
        for _ in 0..u.int_in_range(1..=3)? {
            let vpce_id = if u.arbitrary()? { Some(position(u, VPCE_IDS.len())?) } else { None };
            let (v4, v6) = (u.int_in_range(0..=3)?, u.int_in_range(0..=2)?);
            world.endpoints.push(EndpointFacts { region: position(u, REGIONS.len())?, vpce_id, v4, v6 });
        }
        for _ in 0..u.int_in_range(0..=4)? {
            let region = if u.arbitrary()? { Some(position(u, REGIONS.len())?) } else { None };
            let bound = (0..u.int_in_range(0..=2)?).map(|_| position(u, VPCE_IDS.len())).collect::<Result<_>>()?;
            world.ids.push(IdFacts { id: position(u, IDS.len())?, region, bound });
        }
        for _ in 0..u.int_in_range(0..=1)? {
            world.always_public_ids.push(position(u, IDS.len())?);
        }
        for _ in 0..u.int_in_range(0..=1)? {
            world.always_public_names.push(position(u, LISTED.len())?);
        }
        for _ in 0..u.int_in_range(0..=2)? {
            let name = position(u, LISTED.len())?;
            if world.private_names.iter().all(|(other, _)| *other != name) {
                world.private_names.push((name, position(u, world.endpoints.len())?));
            }
        }
        for _ in 0..u.int_in_range(0..=1)? {
            world.learned.push((position(u, IDS.len())?, position(u, REGIONS.len())?));
        }
        let flags: u8 = u.arbitrary()?;
        world.forward_zones = flags & 1 > 0;
        world.not_ready = flags & 2 > 0;
        world.default_vpc = flags & 4 > 0;
        world.whole_vpc = flags & 8 > 0;
        world.learn = flags & 16 > 0;
        world.stand_in = flags & 32 > 0;
        Ok(world)
    }

    pub fn v4(&self, endpoint: usize) -> Vec<Ipv4Addr> {
        (0..self.endpoints[endpoint].v4).map(|last| Ipv4Addr::new(10, 0, endpoint as u8, last)).collect()
    }

    pub fn v6(&self, endpoint: usize) -> Vec<Ipv6Addr> {
        let address = |last: u8| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, endpoint as u16, last.into());
        (0..self.endpoints[endpoint].v6).map(address).collect()
    }

    /// The table that Sidegate decides by.
    pub fn table(&self) -> Table {
        let endpoints = self.endpoints.iter().enumerate().map(|(at, facts)| Endpoint {
            region: region(facts.region),
            vpce_id: facts.vpce_id.map(vpce_id),
            addresses: Addresses { v4: self.v4(at), v6: self.v6(at), ..Addresses::default() },
            port: 443,
        });
        let listed = |at: &usize| name(LISTED[*at]);
        let zones = FORWARD_ZONES.iter().enumerate().filter(|_| self.forward_zones);
        let names = Names {
            always_public_ids: self.always_public_ids.iter().map(|id| IDS[*id].parse().expect("an id")).collect(),
            always_public_names: self.always_public_names.iter().map(listed).collect(),
            private_names: self.private_names.iter().map(|(at, to)| (listed(at), EndpointIndex(*to))).collect(),
            forward_zones: zones.map(|(at, zone)| (name(zone), at)).collect(),
            default_upstream: if self.default_vpc { Upstream::Vpc } else { Upstream::Public },
            whole_vpc: self.whole_vpc,
            learn: self.learn,
        };
        let mut ids = PrivateIds::default();
        for facts in &self.ids {
            let region = facts.region.map(region);
            let bound: Vec<VpceId> = facts.bound.iter().map(|at| vpce_id(*at)).collect();
            let binding = (!bound.is_empty()).then_some(Binding::Ids(&bound));
            let said = Knowledge { region: region.as_ref(), binding, ..Knowledge::of(&Origin::Static) };
            ids.add(&IDS[facts.id].parse().expect("an id"), said);
        }
        let mut table = Table::new(endpoints.collect(), Arc::new(names), None).expect("regions with a suffix");
        table.ids = Arc::new(ids);
        table.learned = Arc::new(self.learned.iter().map(|(id, at)| name(&learned_name(*id, *at))).collect());
        table.not_ready = self.not_ready.then(|| NotReady { source: "a file".into(), last_error: None });
        table
    }
}

/// The name that an id has in a region.
pub fn learned_name(id: usize, region: usize) -> String {
    format!("{}.execute-api.{}.amazonaws.com", IDS[id], REGIONS[region])
}

/// Draws a name as labels, those of an ending behind up to three others.
pub fn draw_name(u: &mut Unstructured<'_>) -> Result<Vec<Vec<u8>>> {
    let mut labels = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        labels.push(match u.int_in_range(0..=3)? {
            0 => IDS[position(u, IDS.len())?].as_bytes().to_vec(),
            1 => format!("{}-{}", IDS[position(u, IDS.len())?], VPCE_IDS[position(u, VPCE_IDS.len())?]).into_bytes(),
            2 => LABELS[position(u, LABELS.len())?].as_bytes().to_vec(),
            _ => {
                let length = u.int_in_range(1..=63)?;
                u.bytes(length)?.to_vec()
            }
        });
    }
    let ending = ENDINGS[position(u, ENDINGS.len())?];
    labels.extend(ending.split('.').filter(|label| !label.is_empty()).map(|label| label.as_bytes().to_vec()));
    Ok(labels)
}

/// A name in wire form; case as it is.
pub fn to_wire(labels: &[Vec<u8>]) -> Vec<u8> {
    let mut wire: Vec<u8> = labels.iter().flat_map(|label| [&[label.len() as u8][..], label].concat()).collect();
    wire.push(0);
    wire
}

fn position(u: &mut Unstructured<'_>, length: usize) -> Result<usize> {
    u.choose_index(length)
}

fn region(at: usize) -> Region {
    REGIONS[at].parse().expect("a region")
}

fn vpce_id(at: usize) -> VpceId {
    VPCE_IDS[at].parse().expect("an endpoint id")
}

pub fn name(text: &str) -> HostName {
    text.parse().expect("a name")
}
