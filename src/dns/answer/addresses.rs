//! The most usual reply, which need not be taken apart: the addresses of the name that was asked for, and nothing else.

use super::{Answer, MAX_POSITIVE};
use crate::dns::question::Question;
use crate::dns::wire::{CLASS_IN, HEADER, Malformed, Reader, flag, rcode, rtype, u16_at};

/// A pointer to the name in the question, RFC 1035 section 4.1.4.
const TO_QUESTION: u16 = 0xc000 | HEADER as u16;
/// Type, class, TTL and length of a record.
const FIXED: usize = 10;

impl Answer {
    /// The answer that such a reply is, the same that [`Answer::encode`] makes of it; `None` for every other reply. That it is a
    /// reply to this very question is for the caller to see first.
    pub fn of_addresses(reply: &[u8], question: &Question) -> Option<Self> {
        let octets = match question.qtype {
            rtype::A => 4,
            rtype::AAAA => 16,
            _ => return None,
        };
        let name = question.name.wire();
        if reply.len() < HEADER + name.len() + 4 {
            return None;
        }
        let (flags, records) = (u16_at(reply, 2), u16_at(reply, 6));
        let usual = flags & (flag::TC | 0xf) == rcode::NOERROR && records > 0 && u16_at(reply, 8) == 0;
        if !usual || u16_at(reply, 10) > 1 {
            return None;
        }
        let mut reader = Reader::new(reply, HEADER + name.len() + 4);
        let start = reader.position();
        let lifetime = least_ttl(&mut reader, records, question.qtype, octets).ok().flatten()?;
        let end = reader.position();
        if u16_at(reply, 10) == 1 && !is_plain_opt(&mut reader).unwrap_or(false) || !reader.at_end() {
            return None;
        }
        let mut message = Vec::with_capacity(end + 2 * usize::from(records));
        message.extend([0, 0, 0, 0, 0, 1]);
        message.extend(records.to_be_bytes());
        message.extend([0; 4]);
        message.extend_from_slice(name);
        message.extend_from_slice(&reply[HEADER + name.len()..end]);
        let ttls = (0..records).map(|record| (start + usize::from(record) * (2 + FIXED + octets) + 6) as u16);
        let answer = Self::of(message, &[], ttls);
        Some(Self { authentic: flags & flag::AD != 0, lifetime: lifetime.min(MAX_POSITIVE), ..answer })
    }
}

/// The least TTL of so many records, if each is an address that the question's name has.
fn least_ttl(reader: &mut Reader<'_>, records: u16, kind: u16, octets: usize) -> Result<Option<u32>, Malformed> {
    let mut least = u32::MAX;
    for _ in 0..records {
        let is_address = reader.u16()? == TO_QUESTION && reader.u16()? == kind && reader.u16()? == CLASS_IN;
        let (ttl, length) = (reader.u32()?, reader.u16()?);
        // One with the highest bit set counts as 0 (RFC 2181 section 8), so that it is not the one that was sent.
        if !is_address || ttl > i32::MAX as u32 || usize::from(length) != octets {
            return Ok(None);
        }
        reader.slice(octets)?;
        least = least.min(ttl);
    }
    Ok(Some(least))
}

/// Whether an OPT record is next that says nothing: no extended code, no options.
fn is_plain_opt(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    let (owner, kind, _size) = (reader.u8()?, reader.u16()?, reader.u16()?);
    let ([extended, ..], length) = (reader.u32()?.to_be_bytes(), reader.u16()?);
    Ok(owner == 0 && kind == rtype::OPT && extended == 0 && length == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::message::Message;

    fn question(kind: u16) -> Question {
        Question::new("www.example.com".parse().unwrap(), kind)
    }

    /// A reply with these addresses, and an OPT record if wanted.
    fn reply(kind: u16, records: &[(u32, u8)], flags: u16, opt: Option<&[u8]>) -> Vec<u8> {
        let question = question(kind);
        let mut reply = question.to_wire(false);
        reply[2..4].copy_from_slice(&(flag::QR | flags).to_be_bytes());
        reply[7] = records.len() as u8;
        reply[11] = u8::from(opt.is_some());
        let octets = if kind == rtype::A { 4 } else { 16 };
        for (ttl, octet) in records {
            reply.extend(TO_QUESTION.to_be_bytes());
            reply.extend(kind.to_be_bytes());
            reply.extend(CLASS_IN.to_be_bytes());
            reply.extend(ttl.to_be_bytes());
            reply.extend([0, octets]);
            reply.extend(std::iter::repeat_n(*octet, octets.into()));
        }
        reply.extend(opt.unwrap_or_default());
        reply
    }

    const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

    proptest! {
        #[test]
        fn it_is_what_taking_the_reply_apart_gives(
            kind in prop_oneof![Just(rtype::A), Just(rtype::AAAA)],
            records in proptest::collection::vec((0..200_000u32, any::<u8>()), 1..6),
            authentic in any::<bool>(),
            with_opt in any::<bool>(),
        ) {
            let flags = if authentic { flag::AD } else { 0 };
            let bytes = reply(kind, &records, flags, with_opt.then_some(OPT));
            let question = question(kind);
            let message = Message::parse(&bytes).unwrap();
            let expected = Answer::encode(question.name.wire(), kind, &message, u32::MAX);
            prop_assert_eq!(Answer::of_addresses(&bytes, &question), Some(expected));
        }

        /// Whatever it makes of broken octets, it is the same again.
        #[test]
        fn a_reply_with_any_octet_changed_is_left_alone_or_means_the_same(at in 0usize..90, to in any::<u8>()) {
            let question = question(rtype::A);
            let mut bytes = reply(rtype::A, &[(60, 1), (30, 2)], 0, Some(OPT));
            let at = HEADER + question.name.wire().len() + 4 + at;
            prop_assume!(at < bytes.len());
            bytes[at] = to;
            if let Some(answer) = Answer::of_addresses(&bytes, &question) {
                let message = Message::parse(&bytes).unwrap();
                prop_assert_eq!(answer, Answer::encode(question.name.wire(), rtype::A, &message, u32::MAX));
            }
        }
    }

    #[test]
    fn every_other_reply_is_left_alone() {
        let bytes = reply(rtype::A, &[(60, 1)], 0, Some(OPT));
        let question = question(rtype::A);
        assert!(Answer::of_addresses(&bytes, &question).is_some());
        for length in 0..bytes.len() {
            assert_eq!(Answer::of_addresses(&bytes[..length], &question), None, "cut off at {length}");
        }
        let extended: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 15, 0, 2, 0, 3];
        for (why, other) in [
            ("nothing", reply(rtype::A, &[], 0, Some(OPT))),
            ("truncated", reply(rtype::A, &[(60, 1)], flag::TC, None)),
            ("no such name", reply(rtype::A, &[(60, 1)], rcode::NXDOMAIN, None)),
            ("an extended error", reply(rtype::A, &[(60, 1)], 0, Some(extended))),
            ("a TTL beyond what one may be", reply(rtype::A, &[(1 << 31, 1)], 0, None)),
            ("more behind its end", [bytes.clone(), vec![0]].concat()),
            ("records of another type", reply(rtype::AAAA, &[(60, 1)], 0, None)),
        ] {
            assert_eq!(Answer::of_addresses(&other, &question), None, "{why}");
        }
        let mut authority = bytes;
        authority[9] = 1;
        assert_eq!(Answer::of_addresses(&authority, &question), None, "an authority section");
    }
}
