//! Every form that a zone of API Gateway may have: `execute-api`, with or without `-fips`, a region, and a suffix, of
//! whichever partition, dual stack or not.
//!
//! Where the VPC's resolver sends such names to us, none of them may be asked of it: [`super::route()`] sends them elsewhere,
//! `dns` holds its gate by the same words, and `config` refuses what would have to pass it.

use super::partition::suffixes;
use super::{HostName, Zone};

/// All zones of API Gateway, those of regions that we know nothing of too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiZones {
    /// What may follow the region.
    suffixes: Vec<HostName>,
}

impl ApiZones {
    /// Those under the suffixes that AWS has, and under one of the operator's own.
    pub fn with(own: Option<&HostName>) -> Self {
        let mut suffixes: Vec<HostName> = suffixes().filter_map(|suffix| suffix.parse().ok()).collect();
        if let Some(own) = own.filter(|own| !suffixes.contains(own)) {
            suffixes.push(*own);
        }
        Self { suffixes }
    }

    /// As [`ApiZones::with`], the own suffix taken from what the zones of our endpoints have.
    pub(super) fn of(zones: &[Zone]) -> Self {
        let own = zones.first().and_then(|zone| HostName::from_wire(zone.name.suffixes().nth(2)?).ok());
        Self::with(own.as_ref())
    }

    /// The zone that a name is in, in wire form. The region may be any label: AWS opens new ones. A name of an endpoint's own,
    /// `vpce-....execute-api.<region>.vpce.<suffix>`, is in none.
    #[inline]
    fn find<'n>(&self, name: &'n HostName) -> Option<&'n [u8]> {
        name.suffixes().find(|zone| {
            let Some(after) = zone.strip_prefix(b"\x0bexecute-api").or(zone.strip_prefix(b"\x10execute-api-fips"))
            else {
                return false;
            };
            let region = after.first().copied().unwrap_or_default() as usize;
            let suffix = after.get(region + 1..).filter(|_| region > 0);
            suffix.is_some_and(|suffix| self.suffixes.iter().any(|known| known.wire() == suffix))
        })
    }

    /// Whether a name is one of these zones or lies in one. Allocates nothing.
    #[inline]
    pub fn hold(&self, name: &HostName) -> bool {
        self.find(name).is_some()
    }

    /// Whether a zone of DNS has names in these zones: it lies in one of them, or one of them in it. Regions have a hyphen,
    /// which tells them from services, `rds.amazonaws.com`.
    pub fn meet(&self, zone: &HostName) -> bool {
        let is_region =
            |above: &[u8]| above.first().is_some_and(|&n| n as usize + 1 == above.len()) && above.contains(&b'-');
        let holds = |suffix: &HostName| suffix.is_within(zone) || zone.above_zone(suffix).is_some_and(is_region);
        self.hold(zone) || self.suffixes.iter().any(holds)
    }

    /// The zone that a name is in.
    pub fn zone_of(&self, name: &HostName) -> Option<HostName> {
        self.find(name).and_then(|zone| HostName::from_wire(zone).ok())
    }
}

impl Default for ApiZones {
    fn default() -> Self {
        Self::with(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(own: Option<&str>, name: &str) -> Option<String> {
        let own: Option<HostName> = own.map(|own| own.parse().unwrap());
        ApiZones::with(own.as_ref()).zone_of(&name.parse().unwrap()).map(|zone| zone.to_string())
    }

    #[test]
    fn every_form_of_every_region_is_one_of_them() {
        let suffixes = [
            "amazonaws.com",
            "amazonaws.com.cn",
            "amazonaws.eu",
            "c2s.ic.gov",
            "sc2s.sgov.gov",
            "cloud.adc-e.uk",
            "csp.hci.ic.gov",
            "api.aws",
            "api.amazonwebservices.com.cn",
            "api.amazonwebservices.eu",
            "api.aws.ic.gov",
            "api.aws.scloud",
            "api.cloud-aws.adc-e.uk",
            "api.aws.hci.ic.gov",
        ];
        for suffix in suffixes {
            for region in ["us-east-1", "eu-central-2", "cn-north-1", "mars-north-12"] {
                for service in ["execute-api", "execute-api-fips"] {
                    let apex = format!("{service}.{region}.{suffix}");
                    for name in [apex.clone(), format!("a1.{apex}"), format!("B.A1.{}", apex.to_uppercase())] {
                        assert_eq!(zone(None, &name).as_ref(), Some(&apex), "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_zone_of_dns_meets_them_from_above_and_from_below() {
        let meets = |name: &str| ApiZones::default().meet(&name.parse().unwrap());
        for zone in [".", "com", "amazonaws.com", "eu-west-1.amazonaws.com", "aws", "us-east-1.api.aws"] {
            assert!(meets(zone), "{zone} is above some");
        }
        for zone in ["execute-api.eu-west-1.amazonaws.com", "a1.execute-api-fips.us-east-1.amazonaws.com"] {
            assert!(meets(zone), "{zone} is in one");
        }
        for zone in
            ["rds.amazonaws.com", "rds.eu-west-1.amazonaws.com", "corp.internal", "example.com", "vpce.amazonaws.com"]
        {
            assert!(!meets(zone), "{zone} has none");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for name in [
            "vpce-0123456789abcdef0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com",
            "execute-api.amazonaws.com",
            "execute-api.api.aws.example.com",
            "execute-api.us-east-1.amazonaws.com.example.org",
            "my-execute-api.us-east-1.amazonaws.com",
            "us-east-1.amazonaws.com",
            "execute-api",
            ".",
        ] {
            assert_eq!(zone(None, name), None, "{name}");
        }
        // `execute-api.` and `amazonaws.com`, with no room for a region between.
        assert_eq!(zone(None, "a1.execute-api.amazonaws.com"), None);
    }

    #[test]
    fn an_own_suffix_counts_beside_those_of_aws() {
        assert_eq!(
            zone(Some("lab.example"), "a1.execute-api.r1.lab.example").as_deref(),
            Some("execute-api.r1.lab.example")
        );
        assert!(zone(Some("lab.example"), "a1.execute-api.us-east-1.api.aws").is_some());
        assert_eq!(zone(None, "a1.execute-api.r1.lab.example"), None);
    }
}
