//! The identifiers AWS hands out, as types: API ids, regions, VPC endpoint ids.
//!
//! Built by `config` and `discovery`, compared by [`super::route()`].

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Partition;

/// Why a text is not the identifier it should be. Each message is the rule and how to meet it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    #[error(
        "an API id is lower-case letters and digits only: write the part before the first dot of the API's host name"
    )]
    ApiId,
    #[error("a region looks like us-east-1 and fits one AWS partition: check the spelling, or set policy.dns_suffix")]
    Region,
    #[error("a VPC endpoint id is vpce- and 8 to 17 hexadecimal digits: copy it from the VPC console")]
    VpceId,
}

/// An API Gateway API id: `[a-z0-9]+`, at most 63 characters. Today's ids have ten, which AWS does not promise.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiId(Box<[u8]>);

impl ApiId {
    /// Whether a DNS label could be an API id. Labels with a dash are custom-domain targets or endpoint aliases.
    #[inline]
    pub fn fits(label: &[u8]) -> bool {
        !label.is_empty() && label.len() <= 63 && label.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for ApiId {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if Self::fits(text.as_bytes()) { Ok(Self(text.as_bytes().into())) } else { Err(IdentifierError::ApiId) }
    }
}

/// Lets a map keyed by ids be asked with a label of a name.
impl Borrow<[u8]> for ApiId {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ApiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ApiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An AWS region that fits a partition's pattern, or any region-shaped label where the DNS suffix is set by hand.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Region(Arc<str>);

impl Region {
    /// A region whose partition is not known here, for use with `policy.dns_suffix`.
    ///
    /// # Errors
    /// Anything but lower-case letters, digits and inner dashes, at most 63 characters.
    pub fn outside_partitions(text: &str) -> Result<Self, IdentifierError> {
        let shaped = !text.is_empty()
            && text.len() <= 63
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if shaped { Ok(Self(text.into())) } else { Err(IdentifierError::Region) }
    }

    /// The region as AWS writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if Partition::of(text).is_some() { Ok(Self(text.into())) } else { Err(IdentifierError::Region) }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an interface VPC endpoint, `vpce-` and 8 to 17 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VpceId {
    /// As AWS writes it, zeros behind it: lists hold many, and none is to be freed alone.
    text: [u8; VPCE_ID],
    length: u8,
}

/// The longest id of an endpoint, in octets.
const VPCE_ID: usize = 22;

impl VpceId {
    fn fits(text: &[u8]) -> bool {
        text.strip_prefix(b"vpce-").is_some_and(|digits| {
            (8..=17).contains(&digits.len()) && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// Splits the label of an endpoint alias, `<id>-<vpce-id>`, into its two parts (DG
    /// apigateway-private-api-test-invoke-url).
    pub(super) fn split_alias(label: &[u8]) -> Option<(&[u8], &[u8])> {
        let at = label.windows(6).position(|window| window == b"-vpce-")?;
        let (id, vpce_id) = (&label[..at], &label[at + 1..]);
        (ApiId::fits(id) && Self::fits(vpce_id)).then_some((id, vpce_id))
    }

    /// The id as AWS writes it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl FromStr for VpceId {
    type Err = IdentifierError;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let mut text = [0; VPCE_ID];
        match (text.get_mut(..written.len()), u8::try_from(written.len())) {
            (Some(start), Ok(length)) if Self::fits(written.as_bytes()) => {
                start.copy_from_slice(written.as_bytes());
                Ok(Self { text, length })
            }
            _ => Err(IdentifierError::VpceId),
        }
    }
}

impl fmt::Display for VpceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for VpceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_id_is_letters_and_digits_of_any_length() {
        for good in ["a1b2c3d4e5", "abc1234", "x"] {
            assert_eq!(good.parse::<ApiId>().unwrap().to_string(), good);
        }
        for bad in ["", "A1b2", "a.b", "d-abc", "a_b", &"x".repeat(64)] {
            assert_eq!(bad.parse::<ApiId>(), Err(IdentifierError::ApiId), "{bad}");
        }
    }

    #[test]
    fn a_region_fits_a_partition() {
        for good in ["us-east-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "us-iso-east-1", "mx-central-1"] {
            assert_eq!(good.parse::<Region>().unwrap().as_str(), good);
        }
        for bad in ["", "us-east", "us_east_1", "US-EAST-1", "mars-north-1", "us-east-1a"] {
            assert_eq!(bad.parse::<Region>(), Err(IdentifierError::Region), "{bad}");
        }
    }

    #[test]
    fn an_alias_label_splits_at_the_endpoint_id() {
        assert_eq!(
            VpceId::split_alias(b"01234567ab-vpce-01234567abcdef012"),
            Some((&b"01234567ab"[..], &b"vpce-01234567abcdef012"[..]))
        );
        for other in ["d-abcdefghij", "vpce-01234567abcdef012", "a-vpce-xyz", "-vpce-01234567", "a-b-vpce-01234567"] {
            assert_eq!(VpceId::split_alias(other.as_bytes()), None, "{other}");
        }
    }
}
