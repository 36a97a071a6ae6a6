//! A whole message taken apart into records: what upstreams send, before it is filtered, cut and encoded again.
//!
//! Names inside are uncompressed and keep their case; every other byte of a record stays as it came, so types unknown
//! here survive (RFC 3597). Used by `resolver` and `chain`.

use std::net::IpAddr;

use super::wire::{CLASS_IN, HEADER, Malformed, Reader, flag, option, rcode, rtype, u16_at};

/// CNAMEs followed in one answer: recursive resolvers give up after fewer, and it bounds the work a hostile one can cause.
const MAX_CHAIN: usize = 32;

/// One resource record, its names uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub owner: Box<[u8]>,
    pub rtype: u16,
    pub class: u16,
    /// Seconds; values above 2^31 count as 0 (RFC 2181 section 8).
    pub ttl: u32,
    pub rdata: Box<[u8]>,
}

/// A reply in parts, without its question and its OPT record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// With the extended bits of the OPT record.
    pub rcode: u16,
    pub truncated: bool,
    /// The AD bit.
    pub authentic: bool,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// EDNS options that belong to the answer rather than to the hop, encoded: extended errors and the client subnet.
    pub options: Vec<u8>,
    /// Whether there was an OPT record.
    pub edns: bool,
}

/// How the names lie in the data of a record.
pub enum Field {
    /// So many octets.
    Octets(usize),
    /// A length octet and as many more.
    Text,
    Name,
}

/// The fields of types whose data holds names that may come compressed: RFC 1035, and those of RFC 3597 section 4. What
/// is left behind the last field is taken as it is.
pub fn layout(rtype: u16) -> &'static [Field] {
    use Field::{Name, Octets, Text};
    match rtype {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, DNAME; NXT
        rtype::NS | 3 | 4 | rtype::CNAME | 7 | 8 | 9 | 12 | rtype::DNAME | 30 => &[Name],
        // SOA, MINFO, RP
        rtype::SOA | 14 | 17 => &[Name, Name],
        // MX, AFSDB, RT, KX
        rtype::MX | 18 | 21 | 36 => &[Octets(2), Name],
        // SIG
        24 => &[Octets(18), Name],
        // PX
        26 => &[Octets(2), Name, Name],
        rtype::SRV => &[Octets(6), Name],
        // NAPTR
        35 => &[Octets(4), Text, Text, Text, Name],
        _ => &[],
    }
}

impl Record {
    fn parse(reader: &mut Reader<'_>, message: &[u8], scratch: &mut Vec<u8>) -> Result<Self, Malformed> {
        scratch.clear();
        reader.name(scratch)?;
        let owner = Box::from(scratch.as_slice());
        let (rtype, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let length = usize::from(reader.u16()?);
        let end = reader.position() + length;
        // Names in the data may point anywhere before them, but their own bytes end with the data.
        let mut data = Reader::new(message.get(..end).ok_or(Malformed)?, reader.position());
        scratch.clear();
        for field in if class == CLASS_IN { layout(rtype) } else { &[] } {
            match field {
                Field::Octets(count) => scratch.extend_from_slice(data.slice(*count)?),
                Field::Text => {
                    let length = data.u8()?;
                    scratch.push(length);
                    scratch.extend_from_slice(data.slice(length.into())?);
                }
                Field::Name => data.name(scratch)?,
            }
        }
        scratch.extend_from_slice(data.slice(end.checked_sub(data.position()).ok_or(Malformed)?)?);
        let whole = match (class, rtype) {
            (CLASS_IN, rtype::A) => length == 4,
            (CLASS_IN, rtype::AAAA) => length == 16,
            _ => true,
        };
        reader.slice(length)?;
        // The TTL of an OPT record is no time but flags (RFC 6891 section 6.1.3).
        let ttl = if ttl > i32::MAX as u32 && rtype != rtype::OPT { 0 } else { ttl };
        if whole { Ok(Self { owner, rtype, class, ttl, rdata: scratch.as_slice().into() }) } else { Err(Malformed) }
    }

    /// Whether it belongs to this name; case does not matter.
    pub fn is_of(&self, name: &[u8]) -> bool {
        self.owner.eq_ignore_ascii_case(name)
    }

    /// The negative TTL an SOA record stands for, RFC 2308 section 5: the lesser of its TTL and its MINIMUM field.
    pub fn negative_ttl(&self) -> Option<u32> {
        let minimum = self.rdata.last_chunk::<4>()?;
        (self.rtype == rtype::SOA).then(|| self.ttl.min(u32::from_be_bytes(*minimum)))
    }
}

impl Message {
    /// Takes a reply apart. Whether it answers the question that was asked is for the caller to see first.
    ///
    /// # Errors
    /// Records that do not end where they should, compression that does not lead back, two OPT records, anything but one
    /// question.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER || u16_at(bytes, 4) != 1 {
            return Err(Malformed);
        }
        let flags = u16_at(bytes, 2);
        let mut message = Self {
            rcode: flags & 0xf,
            truncated: flags & flag::TC != 0,
            authentic: flags & flag::AD != 0,
            ..Self::default()
        };
        let mut scratch = Vec::with_capacity(256);
        let mut reader = Reader::new(bytes, HEADER);
        reader.name(&mut scratch)?;
        reader.slice(4)?;
        if message.truncated {
            // What was cut off is asked for again over TCP; where the cut went through a record, the rest says nothing.
            return Ok(message);
        }
        for _ in 0..u16_at(bytes, 6) {
            message.answer.push(Record::parse(&mut reader, bytes, &mut scratch)?);
        }
        for _ in 0..u16_at(bytes, 8) {
            message.authority.push(Record::parse(&mut reader, bytes, &mut scratch)?);
        }
        for _ in 0..u16_at(bytes, 10) {
            let record = Record::parse(&mut reader, bytes, &mut scratch)?;
            if record.rtype == rtype::OPT {
                message.take_opt(&record)?;
            } else {
                message.additional.push(record);
            }
        }
        Ok(message)
    }

    fn take_opt(&mut self, record: &Record) -> Result<(), Malformed> {
        if std::mem::replace(&mut self.edns, true) || *record.owner != [0] {
            return Err(Malformed);
        }
        self.rcode |= u16::from(record.ttl.to_be_bytes()[0]) << 4;
        let mut reader = Reader::new(&record.rdata, 0);
        while !reader.at_end() {
            let (code, length) = (reader.u16()?, reader.u16()?);
            let value = reader.slice(length.into())?;
            if matches!(code, option::EXTENDED_ERROR | option::CLIENT_SUBNET) {
                self.options.extend(code.to_be_bytes());
                self.options.extend(length.to_be_bytes());
                self.options.extend_from_slice(value);
            }
        }
        Ok(())
    }

    /// The name of the response code, unless the reply speaks of the name: NOERROR or NXDOMAIN.
    pub fn failure(&self) -> Option<&'static str> {
        match self.rcode {
            rcode::NOERROR | rcode::NXDOMAIN => None,
            rcode::SERVFAIL => Some("SERVFAIL"),
            rcode::REFUSED => Some("REFUSED"),
            _ => Some("an error"),
        }
    }

    /// Code and text of each extended error (RFC 8914 section 2), the text as it came.
    pub fn extended_errors(&self) -> Vec<(u16, &[u8])> {
        let mut errors = Vec::new();
        let mut reader = Reader::new(&self.options, 0);
        while let (Ok(code), Ok(length)) = (reader.u16(), reader.u16())
            && let Ok(value) = reader.slice(length.into())
        {
            if let (option::EXTENDED_ERROR, Some((info, text))) = (code, value.split_first_chunk()) {
                errors.push((u16::from_be_bytes(*info), text));
            }
        }
        errors
    }

    /// The addresses in the answer, in its order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.answer.iter().filter_map(|record| match record.rtype {
            rtype::A => <[u8; 4]>::try_from(&*record.rdata).ok().map(IpAddr::from),
            rtype::AAAA => <[u8; 16]>::try_from(&*record.rdata).ok().map(IpAddr::from),
            _ => None,
        })
    }

    /// Where the answer leads from `name`: the name itself, then each CNAME's target in turn. A loop ends it, and so does
    /// a length that no resolver follows. Each link costs one look at the answer: a hostile one has thousands of records.
    pub fn chain<'m>(&'m self, name: &'m [u8]) -> Vec<&'m [u8]> {
        let mut chain = vec![name];
        while chain.len() <= MAX_CHAIN
            && let Some(target) = chain.last().and_then(|link| self.target_of(link))
            && chain.iter().all(|passed| !passed.eq_ignore_ascii_case(target))
        {
            chain.push(target);
        }
        chain
    }

    fn target_of(&self, name: &[u8]) -> Option<&[u8]> {
        let cname = self.answer.iter().find(|record| record.rtype == rtype::CNAME && record.is_of(name))?;
        Some(&cname.rdata)
    }
}

#[cfg(test)]
pub(crate) mod tests;
