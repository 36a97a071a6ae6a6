//! One client query, read in place: what `respond` works on.
//!
//! Strict by intent: a query has one question, nothing else but at most one OPT record, and ends where it says. What is
//! not that is rejected here with the answer the RFCs ask for, so nothing malformed ever reaches a cache or an upstream.

use super::wire::{CLASS_IN, ExtendedError, HEADER, Malformed, Reader, flag, option, rcode, rtype, u16_at};
use crate::policy::HostName;

/// The longest query that is read, in octets: the largest in use have a few hundred, padding included.
pub const MAX_QUERY: usize = 4096;

/// A well-formed query of class IN.
#[derive(Debug, Clone, Copy)]
pub struct Query<'p> {
    pub id: u16,
    /// The header's flags as they came.
    pub flags: u16,
    pub name: HostName,
    pub qtype: u16,
    /// The question section as it came: its case is echoed.
    pub question: &'p [u8],
    pub edns: Option<Edns<'p>>,
}

/// What a client's OPT record says, RFC 6891.
#[derive(Debug, Clone, Copy)]
pub struct Edns<'p> {
    /// The largest UDP reply it takes; values below 512 count as 512 (section 6.2.5).
    pub udp_size: u16,
    pub dnssec_ok: bool,
    /// The payload of a client subnet option, RFC 7871.
    pub client_subnet: Option<&'p [u8]>,
    /// Whether it is padded, RFC 7830.
    pub padded: bool,
}

/// A packet that gets no regular answer.
#[derive(Debug, Clone, Copy)]
pub enum Rejection<'p> {
    /// No reply at all: too short to reply to, or itself a reply (RFC 5358 loops).
    Silent,
    /// A reply that says why.
    Refused(Refusal<'p>),
}

/// What the reply to a rejected packet holds.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'p> {
    pub id: u16,
    pub flags: u16,
    pub rcode: u16,
    /// Echoed if it could be read.
    pub question: &'p [u8],
    pub edns: Option<Edns<'p>>,
    pub extended: Option<(ExtendedError, &'static str)>,
}

impl<'p> Query<'p> {
    /// Reads a query.
    ///
    /// # Errors
    /// Whatever is not one well-formed question of class IN, with the reply it deserves: FORMERR, NOTIMP for other
    /// opcodes, BADVERS, REFUSED for other classes and for zone transfers; silence for replies and scraps. One that is longer
    /// than [`MAX_QUERY`] is FORMERR whatever it says: it would be held while it waits.
    pub fn parse(packet: &'p [u8]) -> Result<Self, Rejection<'p>> {
        if packet.len() < HEADER || u16_at(packet, 2) & flag::QR != 0 {
            return Err(Rejection::Silent);
        }
        let (id, flags) = (u16_at(packet, 0), u16_at(packet, 2));
        let refusal = Refusal { id, flags, rcode: rcode::FORMERR, question: &[], edns: None, extended: None };
        if flags & flag::OPCODE != 0 {
            return Err(Rejection::Refused(Refusal { rcode: rcode::NOTIMP, ..refusal }));
        }
        if packet.len() > MAX_QUERY {
            return Err(Rejection::Refused(refusal));
        }
        let counts = [4, 6, 8, 10].map(|at| u16_at(packet, at));
        if !matches!(counts, [1, 0, 0, 0 | 1]) {
            return Err(Rejection::Refused(refusal));
        }
        let name = HostName::from_wire(&packet[HEADER..]).map_err(|_| Rejection::Refused(refusal))?;
        let end = HEADER + name.wire().len() + 4;
        let question = packet.get(HEADER..end).ok_or(Rejection::Refused(refusal))?;
        let (qtype, qclass) = (u16_at(packet, end - 4), u16_at(packet, end - 2));
        let refusal = Refusal { question, ..refusal };
        let (edns, version) = match counts[3] {
            0 if packet.len() == end => (None, 0),
            0 => return Err(Rejection::Refused(refusal)),
            _ => Edns::parse(packet, end).map_err(|Malformed| Rejection::Refused(refusal))?,
        };
        let refusal = Refusal { edns, ..refusal };
        let not_supported = |text| Some((ExtendedError::NotSupported, text));
        let rejected = if version > 0 {
            Refusal { rcode: rcode::BADVERS, ..refusal }
        } else if qclass != CLASS_IN {
            Refusal { rcode: rcode::REFUSED, extended: not_supported("class IN only"), ..refusal }
        } else {
            match qtype {
                0 | rtype::OPT => refusal,
                rtype::AXFR | rtype::IXFR => {
                    Refusal { rcode: rcode::REFUSED, extended: not_supported("no zone transfers"), ..refusal }
                }
                rtype::TKEY | rtype::TSIG | rtype::MAILA | rtype::MAILB => Refusal { rcode: rcode::NOTIMP, ..refusal },
                _ => return Ok(Self { id, flags, name, qtype, question, edns }),
            }
        };
        Err(Rejection::Refused(rejected))
    }

    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }
}

impl<'p> Edns<'p> {
    /// Reads the OPT record that must be all that is left of the packet; also gives its EDNS version.
    fn parse(packet: &'p [u8], at: usize) -> Result<(Option<Self>, u8), Malformed> {
        let mut reader = Reader::new(packet, at);
        let (owner, rtype) = (reader.u8()?, reader.u16()?);
        if owner != 0 || rtype != rtype::OPT {
            return Err(Malformed);
        }
        let udp_size = reader.u16()?.max(512);
        let [_, version, flags, _] = reader.u32()?.to_be_bytes();
        let length = reader.u16()?;
        let options = reader.slice(length.into())?;
        if !reader.at_end() {
            return Err(Malformed);
        }
        let (mut client_subnet, mut padded) = (None, false);
        let mut reader = Reader::new(options, 0);
        while !reader.at_end() {
            let (code, length) = (reader.u16()?, reader.u16()?);
            let value = reader.slice(length.into())?;
            if code == option::CLIENT_SUBNET {
                client_subnet = Some(well_formed_subnet(value)?);
            }
            padded |= code == option::PADDING;
        }
        Ok((Some(Self { udp_size, dnssec_ok: flags & 0x80 != 0, client_subnet, padded }), version))
    }
}

/// RFC 7871 section 6: family, source prefix, scope prefix 0, and as many address octets as the prefix needs.
fn well_formed_subnet(value: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(value, 0);
    let (family, source, scope) = (reader.u16()?, reader.u8()?, reader.u8()?);
    let widest = match family {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return Err(Malformed),
    };
    let octets = usize::from(source).div_ceil(8);
    if source > widest || scope != 0 || value.len() != 4 + octets { Err(Malformed) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `example.com A` with whatever is put in place of the usual header numbers and behind the question.
    fn packet(flags: u16, counts: [u16; 4], qtype: u16, qclass: u16, tail: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xab, 0xcd];
        packet.extend(flags.to_be_bytes());
        packet.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        packet.extend(b"\x07eXample\x03com\x00");
        packet.extend(qtype.to_be_bytes());
        packet.extend(qclass.to_be_bytes());
        packet.extend(tail);
        packet
    }

    fn opt(version: u8, options: &[u8]) -> Vec<u8> {
        let mut opt = vec![0, 0, 41, 4, 208, 0, version, 0x80, 0];
        opt.extend((options.len() as u16).to_be_bytes());
        opt.extend(options);
        opt
    }

    fn rejected(packet: &[u8]) -> Option<u16> {
        match Query::parse(packet) {
            Ok(_) => panic!("a query was taken that should not be"),
            Err(Rejection::Silent) => None,
            Err(Rejection::Refused(refusal)) => {
                assert_eq!(refusal.id, 0xabcd);
                Some(refusal.rcode)
            }
        }
    }

    #[test]
    fn a_plain_query_is_read() {
        let bytes = packet(0x0120, [1, 0, 0, 1], 28, 1, &opt(0, &[]));
        let query = Query::parse(&bytes).unwrap();
        assert_eq!((query.id, query.qtype, query.name.to_string().as_str()), (0xabcd, 28, "example.com"));
        assert_eq!(&query.question[..8], b"\x07eXample");
        let edns = query.edns.unwrap();
        assert_eq!((edns.udp_size, edns.dnssec_ok), (1232, true));
    }

    #[test]
    fn a_query_longer_than_any_in_use_is_a_format_error() {
        let padded = |octets: usize| {
            let options = [&[0, 12][..], &(octets as u16).to_be_bytes(), &vec![0; octets]].concat();
            packet(0x0100, [1, 0, 0, 1], 1, 1, &opt(0, &options))
        };
        let most = MAX_QUERY - padded(0).len();
        assert!(Query::parse(&padded(most)).is_ok());
        assert_eq!(rejected(&padded(most + 1)), Some(rcode::FORMERR));
    }

    #[test]
    fn scraps_and_replies_get_silence() {
        for length in 0..12 {
            assert_eq!(rejected(&[0; 12][..length]), None);
        }
        assert_eq!(rejected(&packet(0x8180, [1, 0, 0, 0], 1, 1, &[])), None);
    }

    #[test]
    fn other_opcodes_are_not_implemented() {
        for opcode in 1..16u16 {
            assert_eq!(rejected(&packet(opcode << 11, [1, 0, 0, 0], 1, 1, &[])), Some(rcode::NOTIMP));
        }
    }

    #[test]
    fn anything_beside_one_question_and_one_opt_is_a_format_error() {
        let question = b"\x00\x00\x01\x00\x01";
        for (counts, tail) in [
            ([0, 0, 0, 0], &b""[..]),
            ([2, 0, 0, 0], question),
            ([1, 1, 0, 0], b""),
            ([1, 0, 1, 0], b""),
            ([1, 0, 0, 1], b""),
            ([1, 0, 0, 2], &[opt(0, &[]), opt(0, &[])].concat()),
            ([1, 0, 0, 0], b"trailing"),
            ([1, 0, 0, 1], &[opt(0, &[]), vec![1]].concat()),
            ([1, 0, 0, 1], b"\x01a\x00\x00\x29\x04\xd0\0\0\0\0\0\0"),
            ([1, 0, 0, 1], &opt(0, &[0, 10, 0, 9, 1])),
            ([1, 0, 0, 1], &opt(0, &[0, 8, 0, 5, 0, 1, 33, 0, 1])),
            ([1, 0, 0, 1], &opt(0, &[0, 8, 0, 5, 0, 1, 24, 0, 1])),
        ] {
            assert_eq!(rejected(&packet(0x0100, counts, 1, 1, tail)), Some(rcode::FORMERR), "{counts:?} {tail:?}");
        }
        let mut pointer = packet(0x0100, [1, 0, 0, 0], 1, 1, &[]);
        pointer.truncate(12);
        pointer.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        assert_eq!(rejected(&pointer), Some(rcode::FORMERR));
        assert_eq!(rejected(&packet(0x0100, [1, 0, 0, 0], 41, 1, &[])), Some(rcode::FORMERR));
    }

    #[test]
    fn what_is_understood_but_not_served_is_said() {
        assert_eq!(rejected(&packet(0x0100, [1, 0, 0, 1], 1, 1, &opt(1, &[]))), Some(rcode::BADVERS));
        assert_eq!(rejected(&packet(0x0100, [1, 0, 0, 0], 16, 3, &[])), Some(rcode::REFUSED));
        assert_eq!(rejected(&packet(0x0100, [1, 0, 0, 0], rtype::AXFR, 1, &[])), Some(rcode::REFUSED));
        assert_eq!(rejected(&packet(0x0100, [1, 0, 0, 0], rtype::IXFR, 1, &[])), Some(rcode::REFUSED));
        assert_eq!(rejected(&packet(0x0100, [1, 0, 0, 0], rtype::TKEY, 1, &[])), Some(rcode::NOTIMP));
    }

    #[test]
    fn a_client_subnet_is_kept_as_it_came() {
        let bytes = packet(0x0100, [1, 0, 0, 1], 1, 1, &opt(0, &[0, 10, 0, 1, 7, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]));
        let subnet = Query::parse(&bytes).unwrap().edns.unwrap().client_subnet;
        assert_eq!(subnet, Some(&[0, 1, 24, 0, 192, 0, 2][..]));
    }
}
