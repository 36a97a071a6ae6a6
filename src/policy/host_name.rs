//! A domain name in the one form that can be compared byte by byte: lower-case wire form.
//!
//! Used by [`super::route()`] for every look-up, by `config` for every name an operator writes, and by `dns` for what
//! comes off the network. A name is kept inline, so reading one from a packet allocates nothing.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// Longest name in wire form, RFC 1035 section 2.3.4: 255 octets with the root label.
const MAX_WIRE: usize = 255;
/// Longest label, RFC 1035 section 2.3.4: 63 octets.
const MAX_LABEL: usize = 63;

/// A domain name: lower case, at most 255 octets, every label 1 to 63 octets, root label last.
///
/// Equality and hashing see the wire form only, so case and a trailing dot never matter.
#[derive(Clone, Copy)]
pub struct HostName {
    len: u8,
    wire: [u8; MAX_WIRE],
}

/// Why some text or some bytes are not a domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has no empty label: remove the doubled or leading dot")]
    EmptyLabel,
    #[error("a label has at most 63 characters")]
    LongLabel,
    #[error("a name has at most 253 characters")]
    LongName,
    #[error("a name has no {0:?}: write internationalised names in their xn-- form")]
    Character(char),
    #[error("the bytes end inside a name")]
    Truncated,
    #[error("a label has length octet {0:#04x}, which is no plain label")]
    LabelType(u8),
}

impl HostName {
    /// The root, `.`.
    pub const ROOT: Self = Self { len: 1, wire: [0; MAX_WIRE] };

    /// Reads an uncompressed name (RFC 1035 section 3.1) from the start of `bytes`; its length there is `wire().len()`.
    ///
    /// # Errors
    /// A compression pointer or an unknown label type, more than 255 octets, or bytes that end too early.
    #[inline]
    pub fn from_wire(bytes: &[u8]) -> Result<Self, HostNameError> {
        let mut at = 0;
        loop {
            let length = *bytes.get(at).ok_or(HostNameError::Truncated)? as usize;
            if length > MAX_LABEL {
                return Err(HostNameError::LabelType(length as u8));
            }
            at += 1 + length;
            if at > MAX_WIRE {
                return Err(HostNameError::LongName);
            }
            if length == 0 {
                break;
            }
        }
        let mut wire = [0; MAX_WIRE];
        wire[..at].copy_from_slice(bytes.get(..at).ok_or(HostNameError::Truncated)?);
        // Length octets are below 64 and therefore untouched by this.
        wire[..at].make_ascii_lowercase();
        Ok(Self { len: at as u8, wire })
    }

    /// The name in lower-case wire form, root label included.
    #[inline]
    pub fn wire(&self) -> &[u8] {
        &self.wire[..self.len as usize]
    }

    /// The labels from the left, without the root label.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.suffixes().filter_map(|suffix| {
            let length = suffix[0] as usize;
            (length > 0).then(|| &suffix[1..=length])
        })
    }

    /// The name itself, then each of its parents in wire form, down to the root.
    pub fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Some(self.wire());
        std::iter::from_fn(move || {
            let here = rest?;
            let length = here[0] as usize;
            rest = (length > 0).then(|| &here[1 + length..]);
            Some(here)
        })
    }

    /// Whether this name is `zone` or lies below it.
    pub fn is_within(&self, zone: &HostName) -> bool {
        self.above_zone(zone).is_some()
    }

    /// What stands to the left of `zone`, in wire form without a root label; `None` if the name is not within the zone.
    #[inline]
    pub(super) fn above_zone(&self, zone: &HostName) -> Option<&[u8]> {
        let (name, zone) = (self.wire(), zone.wire());
        let split = name.len().checked_sub(zone.len())?;
        if &name[split..] != zone {
            return None;
        }
        // The tail may only match from a label boundary on.
        let mut at = 0;
        while at < split {
            at += 1 + name[at] as usize;
        }
        (at == split).then(|| &name[..split])
    }

    /// This name below `zone`; `None` if that would be too long.
    pub fn join(&self, zone: &HostName) -> Option<HostName> {
        let own = &self.wire()[..self.len as usize - 1];
        let len = own.len() + zone.len as usize;
        let mut wire = [0; MAX_WIRE];
        wire.get_mut(..own.len())?.copy_from_slice(own);
        wire.get_mut(own.len()..len)?.copy_from_slice(zone.wire());
        Some(HostName { len: len as u8, wire })
    }

    /// `<label>.<zone>`; `None` if that would be too long.
    pub(super) fn below(label: &[u8], zone: &HostName) -> Option<HostName> {
        let mut single = Self::ROOT;
        single.wire[0] = label.len() as u8;
        single.wire.get_mut(1..=label.len())?.copy_from_slice(label);
        single.len = label.len() as u8 + 2;
        single.join(zone)
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    /// Reads a name as people write it, with or without the trailing dot, in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(HostNameError::Empty);
        }
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '\\' | '"' | '/' | ':' | '@')) {
            return Err(HostNameError::Character(c));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::ROOT);
        }
        let mut name = Self::ROOT;
        let mut at = 0;
        for label in text.split('.') {
            if label.is_empty() {
                return Err(HostNameError::EmptyLabel);
            }
            if label.len() > MAX_LABEL {
                return Err(HostNameError::LongLabel);
            }
            if at + 1 + label.len() + 1 > MAX_WIRE {
                return Err(HostNameError::LongName);
            }
            name.wire[at] = label.len() as u8;
            name.wire[at + 1..=at + label.len()].copy_from_slice(label.as_bytes());
            at += 1 + label.len();
        }
        name.wire[..at].make_ascii_lowercase();
        name.len = at as u8 + 1;
        Ok(name)
    }
}

impl fmt::Display for HostName {
    /// Presentation form without the trailing dot (RFC 1035 section 5.1): what does not print is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 1 {
            return f.write_str(".");
        }
        for (position, label) in self.labels().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", byte as char)?,
                    b'!'..=b'~' => write!(f, "{}", byte as char)?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for HostName {}

impl PartialOrd for HostName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HostName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.wire().cmp(other.wire())
    }
}

impl Hash for HostName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

/// Lets a map keyed by names be asked with a slice of a packet or a suffix of another name.
impl Borrow<[u8]> for HostName {
    fn borrow(&self) -> &[u8] {
        self.wire()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    #[test]
    fn case_and_trailing_dot_do_not_matter() {
        assert_eq!(name("A1.Execute-API.us-east-1.amazonaws.com."), name("a1.execute-api.us-east-1.amazonaws.com"));
    }

    #[test]
    fn text_and_wire_form_are_the_same_name() {
        let written = name("orders.corp.example");
        assert_eq!(HostName::from_wire(b"\x06OrderS\x04corp\x07example\x00trailing").unwrap(), written);
        assert_eq!(written.to_string(), "orders.corp.example");
    }

    #[test]
    fn bytes_that_are_no_plain_name_are_refused() {
        assert_eq!(HostName::from_wire(b"\x03ww"), Err(HostNameError::Truncated));
        assert_eq!(HostName::from_wire(b"\xc0\x0c"), Err(HostNameError::LabelType(0xc0)));
        assert_eq!(HostName::from_wire(&[1u8, b'a'].repeat(128)), Err(HostNameError::LongName));
    }

    #[test]
    fn text_that_is_no_name_is_refused_with_the_rule() {
        assert_eq!("".parse::<HostName>(), Err(HostNameError::Empty));
        assert_eq!("a..b".parse::<HostName>(), Err(HostNameError::EmptyLabel));
        assert_eq!("a b".parse::<HostName>(), Err(HostNameError::Character(' ')));
        assert_eq!("x".repeat(64).parse::<HostName>(), Err(HostNameError::LongLabel));
        assert_eq!("bücher.example".parse::<HostName>(), Err(HostNameError::Character('ü')));
        assert!(["a"; 127].join(".").parse::<HostName>().is_ok(), "253 characters are the most");
        assert_eq!(["a"; 128].join(".").parse::<HostName>(), Err(HostNameError::LongName));
    }

    #[test]
    fn a_zone_contains_whole_labels_only() {
        let zone = name("corp.example");
        assert!(name("corp.example").is_within(&zone));
        assert!(name("a.corp.example").is_within(&zone));
        assert!(!name("xcorp.example").is_within(&zone));
        assert!(!name("example").is_within(&zone));
        // A length octet inside a label must not be taken for a boundary.
        let tricky = HostName::from_wire(b"\x0ea\x04corp\x07example\x00").unwrap();
        assert!(!tricky.is_within(&zone));
    }

    #[test]
    fn what_does_not_print_is_escaped() {
        assert_eq!(HostName::from_wire(b"\x04a.\n\\\x00").unwrap().to_string(), "a\\.\\010\\\\");
    }
}
