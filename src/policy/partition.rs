//! AWS partitions: which regions they hold and under which DNS suffix their APIs live.
//!
//! Regions are accepted by pattern, so a region that AWS opens tomorrow needs no release. Facts from the SDKs'
//! `partitions.json`.

use super::{HostName, Region};

/// One AWS partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// As in an ARN: `aws`, `aws-cn`, ...
    pub name: &'static str,
    /// What follows the region in the names of its APIs, without a leading dot.
    pub dns_suffix: &'static str,
    /// What its regions begin with; then come `-<word>-<digits>`.
    prefixes: &'static [&'static str],
}

/// Every partition, as `<prefix>-<word>-<digits>`; no prefix holds a word of another's, so the order is free.
const PARTITIONS: &[Partition] = &[
    Partition {
        name: "aws",
        dns_suffix: "amazonaws.com",
        prefixes: &["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"],
    },
    Partition { name: "aws-us-gov", dns_suffix: "amazonaws.com", prefixes: &["us-gov"] },
    Partition { name: "aws-cn", dns_suffix: "amazonaws.com.cn", prefixes: &["cn"] },
    Partition { name: "aws-eusc", dns_suffix: "amazonaws.eu", prefixes: &["eusc-de"] },
    Partition { name: "aws-iso", dns_suffix: "c2s.ic.gov", prefixes: &["us-iso"] },
    Partition { name: "aws-iso-b", dns_suffix: "sc2s.sgov.gov", prefixes: &["us-isob"] },
    Partition { name: "aws-iso-e", dns_suffix: "cloud.adc-e.uk", prefixes: &["eu-isoe"] },
    Partition { name: "aws-iso-f", dns_suffix: "csp.hci.ic.gov", prefixes: &["us-isof"] },
];

impl Partition {
    /// All partitions.
    pub fn all() -> &'static [Partition] {
        PARTITIONS
    }

    /// The partition whose pattern a region fits.
    pub fn of(region: &str) -> Option<&'static Partition> {
        PARTITIONS.iter().find(|partition| partition.holds(region))
    }

    fn holds(&self, region: &str) -> bool {
        let Some((head, number)) = region.rsplit_once('-') else { return false };
        let Some((prefix, word)) = head.rsplit_once('-') else { return false };
        self.prefixes.contains(&prefix)
            && !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && (1..=3).contains(&number.len())
            && number.bytes().all(|b| b.is_ascii_digit())
    }
}

/// A name that looks like one of ours and is none: never answered here, only named in what `sidegate route` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialForm {
    /// `execute-api.<region>.api.aws` and its siblings.
    DualStack,
    /// `execute-api-fips.<region>.<suffix>`, dual stack or not.
    Fips,
    /// The zone of a region, well formed, that no endpoint stands for.
    RegionWithoutEndpoint,
}

/// Dual-stack suffixes (`dualStackDnsSuffix` in the SDKs' partition data).
const DUAL_STACK: &[&str] = &[
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "api.aws.ic.gov",
    "api.aws.scloud",
    "api.cloud-aws.adc-e.uk",
    "api.aws.hci.ic.gov",
];

/// Whatever may follow the region in a name of an API, in any partition.
pub(super) fn suffixes() -> impl Iterator<Item = &'static str> {
    PARTITIONS.iter().map(|partition| partition.dns_suffix).chain(DUAL_STACK.iter().copied())
}

/// Recognises names that resemble an API's and are left to the default upstream.
pub fn special_form(name: &HostName) -> Option<SpecialForm> {
    let text = name.to_string();
    let labels: Vec<&str> = text.split('.').collect();
    let at = labels.iter().position(|label| matches!(*label, "execute-api" | "execute-api-fips"))?;
    let region: Region = labels.get(at + 1)?.parse().ok()?;
    let suffix = labels[at + 2..].join(".");
    let dual_stack = DUAL_STACK.contains(&suffix.as_str());
    let own = Partition::of(region.as_str()).is_some_and(|partition| partition.dns_suffix == suffix);
    match (labels[at], dual_stack, own) {
        ("execute-api-fips", true, _) | ("execute-api-fips", _, true) => Some(SpecialForm::Fips),
        (_, true, _) => Some(SpecialForm::DualStack),
        (_, _, true) => Some(SpecialForm::RegionWithoutEndpoint),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_suffix() {
        for (region, suffix) in [
            ("us-east-1", "amazonaws.com"),
            ("us-gov-east-1", "amazonaws.com"),
            ("cn-northwest-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-west-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
            ("us-isof-south-1", "csp.hci.ic.gov"),
        ] {
            assert_eq!(Partition::of(region).map(|p| p.dns_suffix), Some(suffix), "{region}");
        }
    }

    #[test]
    fn lookalikes_are_told_apart() {
        let form = |text: &str| special_form(&text.parse().unwrap());
        assert_eq!(form("a1.execute-api.us-east-1.api.aws"), Some(SpecialForm::DualStack));
        assert_eq!(form("a1.execute-api-fips.us-east-1.amazonaws.com"), Some(SpecialForm::Fips));
        assert_eq!(form("a1.execute-api-fips.us-east-1.api.aws"), Some(SpecialForm::Fips));
        assert_eq!(form("a1.execute-api.us-east-1.amazonaws.com"), Some(SpecialForm::RegionWithoutEndpoint));
        assert_eq!(form("a1.execute-api.us-east-1.amazonaws.com.cn"), None);
        assert_eq!(form("execute-api"), None);
    }
}
