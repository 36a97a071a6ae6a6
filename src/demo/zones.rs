//! Zone data, and what a resolver that has it answers: CNAMEs chased, negative answers with their SOA, captured zones.
//!
//! Plain data without I/O. `world` fills one for each of the demo's resolvers, `dns_server` serves it; integration tests
//! fill their own to stand in for an upstream.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Aliases followed in one answer; a longer chain is a loop.
const MAX_ALIASES: usize = 8;
/// How long a negative answer may be kept: the last field of every SOA here. Short, as the demo's zones are small worlds.
const NEGATIVE_TTL: u32 = 60;

/// Everything that one resolver knows. A name belongs to the zone with the longest matching apex.
#[derive(Debug, Clone, Default)]
pub struct Zones {
    zones: BTreeMap<Name, Zone>,
}

#[derive(Debug, Clone)]
struct Zone {
    soa: Record,
    records: BTreeMap<Name, Vec<Record>>,
    /// The TTL of the alias to the apex that stands in for every name without records of its own.
    capture: Option<u32>,
}

/// The records and the code that answer one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    /// The SOA that makes a negative answer cacheable (RFC 2308).
    pub soa: Option<Record>,
}

impl Zones {
    /// Adds an empty zone, in place of what an earlier zone with the same apex held. `"."` is the root zone, without
    /// which a name outside every zone is REFUSED instead of NXDOMAIN.
    ///
    /// # Errors
    /// `apex` is not a domain name.
    pub fn add_zone(&mut self, apex: &str) -> Result<(), ProtoError> {
        let apex = absolute(apex)?;
        let soa = SOA::new(
            apex.prepend_label("ns")?,
            apex.prepend_label("hostmaster")?,
            1,
            7_200,
            900,
            1_209_600,
            NEGATIVE_TTL,
        );
        let soa = Record::from_rdata(apex.clone(), NEGATIVE_TTL, RData::SOA(soa));
        let records = BTreeMap::from([(apex.clone(), vec![soa.clone()])]);
        self.zones.insert(apex, Zone { soa, records, capture: None });
        Ok(())
    }

    /// Adds a zone in the shape that private DNS gives an interface endpoint's: the apex has the endpoint's addresses,
    /// and whatever stands below it is an alias of the apex.
    ///
    /// # Errors
    /// `apex` is not a domain name.
    pub fn add_captured_zone(&mut self, apex: &str, ttl: u32, endpoint: &[Ipv4Addr]) -> Result<(), ProtoError> {
        self.add_zone(apex)?;
        self.add_a(apex, ttl, endpoint)?;
        if let Some(zone) = self.zones.get_mut(&absolute(apex)?) {
            zone.capture = Some(ttl);
        }
        Ok(())
    }

    /// Adds one A record for each address.
    ///
    /// # Errors
    /// `name` is not a domain name, or is in none of the zones.
    pub fn add_a(&mut self, name: &str, ttl: u32, addresses: &[Ipv4Addr]) -> Result<(), ProtoError> {
        let name = absolute(name)?;
        addresses
            .iter()
            .try_for_each(|address| self.add_record(Record::from_rdata(name.clone(), ttl, RData::A(A::from(*address)))))
    }

    /// Makes `name` an alias of `target`, which need not be in the same zone.
    ///
    /// # Errors
    /// One of them is not a domain name, or `name` is in none of the zones.
    pub fn add_cname(&mut self, name: &str, ttl: u32, target: &str) -> Result<(), ProtoError> {
        self.add_record(Record::from_rdata(absolute(name)?, ttl, RData::CNAME(CNAME(absolute(target)?))))
    }

    /// Adds a record of any type.
    ///
    /// # Errors
    /// Its owner is in none of the zones.
    pub fn add_record(&mut self, record: Record) -> Result<(), ProtoError> {
        let apex = self.zones.keys().filter(|apex| apex.zone_of(&record.name)).max_by_key(|apex| apex.num_labels());
        match apex.cloned().and_then(|apex| self.zones.get_mut(&apex)) {
            Some(zone) => {
                zone.records.entry(record.name.to_lowercase()).or_default().push(record);
                Ok(())
            }
            None => Err(ProtoError::from(format!("{} is in none of the zones: add its zone first", record.name))),
        }
    }

    /// Answers a question as a recursive resolver does: the whole chain of aliases and what it ends in, in one answer.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let mut answers: Vec<Record> = Vec::new();
        let mut owner = name.clone();
        for _ in 0..MAX_ALIASES {
            let Some(zone) = self.zone_of(&owner) else {
                // A chain that leaves what we know ends there; a question that starts there is not for us.
                let code = if answers.is_empty() { ResponseCode::Refused } else { ResponseCode::NoError };
                return Answer { code, answers, soa: None };
            };
            match zone.find(&owner, kind) {
                Found::Records(found) => {
                    answers.extend(found);
                    return Answer { code: ResponseCode::NoError, answers, soa: None };
                }
                Found::Alias(record, target) => {
                    answers.push(*record);
                    owner = target;
                }
                Found::NoData => {
                    return Answer { code: ResponseCode::NoError, answers, soa: Some(zone.soa.clone()) };
                }
                Found::NoName => {
                    return Answer { code: ResponseCode::NXDomain, answers, soa: Some(zone.soa.clone()) };
                }
            }
        }
        Answer { code: ResponseCode::ServFail, answers: Vec::new(), soa: None }
    }

    fn zone_of(&self, name: &Name) -> Option<&Zone> {
        let longest = self.zones.iter().filter(|(apex, _)| apex.zone_of(name));
        longest.max_by_key(|(apex, _)| apex.num_labels()).map(|(_, zone)| zone)
    }
}

/// What one zone has for a name and a type.
enum Found {
    Records(Vec<Record>),
    /// The alias, and what it stands for.
    Alias(Box<Record>, Name),
    NoData,
    NoName,
}

impl Zone {
    fn find(&self, name: &Name, kind: RecordType) -> Found {
        let wanted = |record: &&Record| kind == RecordType::ANY || record.record_type() == kind;
        let captured;
        let records = match (self.records.get(&name.to_lowercase()), self.capture) {
            (Some(records), _) => records.as_slice(),
            (None, Some(ttl)) => {
                let alias = RData::CNAME(CNAME(self.soa.name.clone()));
                captured = [Record::from_rdata(name.clone(), ttl, alias)];
                &captured
            }
            (None, None) if self.records.keys().any(|existing| name.zone_of(existing)) => return Found::NoData,
            (None, None) => return Found::NoName,
        };
        let found: Vec<Record> = records.iter().filter(wanted).cloned().collect();
        if !found.is_empty() {
            return Found::Records(found);
        }
        let alias = records.iter().find_map(|record| match &record.data {
            RData::CNAME(CNAME(target)) => Some((Box::new(record.clone()), target.clone())),
            _ => None,
        });
        alias.map_or(Found::NoData, |(record, target)| Found::Alias(record, target))
    }
}

/// Reads a name that is absolute with or without its trailing dot, as zone data and questions must compare equal.
fn absolute(text: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_ascii(text)?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests;
