//! What a reply over an encrypted listener has beyond one in the clear: padding, and over HTTPS how long it may be kept.
//! Bytes in, bytes out; called by the listeners.

use super::message::Message;
use super::query::Query;
use super::wire::{HEADER, Malformed, Reader, option, put_u16, rtype, u16_at};

/// Replies are padded to a multiple of this, RFC 8467 section 4.1.
const BLOCK: usize = 468;
/// Octets of an option before its payload.
const OPTION_HEAD: usize = 4;

/// Pads a reply whose query was padded (RFC 7830), so that its length tells less; leaves any other as it is.
pub fn pad(query: &[u8], reply: &mut Vec<u8>) {
    let wanted = Query::parse(query).is_ok_and(|query| query.edns.is_some_and(|edns| edns.padded));
    let Some(length_at) = wanted.then(|| opt_length_at(reply).ok().flatten()).flatten() else { return };
    let whole = (reply.len() + OPTION_HEAD).next_multiple_of(BLOCK);
    let padding = whole - reply.len() - OPTION_HEAD;
    if whole > u16::MAX.into() {
        return;
    }
    let options = usize::from(u16_at(reply, length_at)) + OPTION_HEAD + padding;
    put_u16(reply, length_at, options as u16);
    reply.extend(option::PADDING.to_be_bytes());
    reply.extend((padding as u16).to_be_bytes());
    reply.resize(whole, 0);
}

/// Where the length of the OPT record's data stands, if that record is the last thing in the message, as we write it.
fn opt_length_at(reply: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut reader = Reader::new(reply, HEADER);
    let mut name = Vec::new();
    for _ in 0..u16_at(reply, 4) {
        name.clear();
        reader.name(&mut name)?;
        reader.slice(4)?;
    }
    let records: u32 = [6, 8, 10].iter().map(|&at| u32::from(u16_at(reply, at))).sum();
    for _ in 0..records {
        name.clear();
        reader.name(&mut name)?;
        let rtype = reader.u16()?;
        reader.slice(6)?;
        let length_at = reader.position();
        let length = reader.u16()?;
        reader.slice(length.into())?;
        if rtype == rtype::OPT && reader.at_end() {
            return Ok(Some(length_at));
        }
    }
    Ok(None)
}

/// Seconds for which HTTP may keep a reply: the smallest TTL of its answers, for a negative one what its SOA record says
/// (RFC 8484 section 5.1, RFC 2308); 0 where nothing says so.
pub fn max_age(reply: &[u8]) -> u32 {
    let Ok(message) = Message::parse(reply) else { return 0 };
    let least = message.answer.iter().map(|record| record.ttl).min();
    let negative = || message.authority.iter().find_map(super::message::Record::negative_ttl);
    least.or_else(negative).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::reply::{self, ReplyLimit};
    use crate::policy::Addresses;

    fn query(options: &[u8]) -> Vec<u8> {
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend(b"\x03api\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00");
        query.extend((options.len() as u16).to_be_bytes());
        query.extend(options);
        query
    }

    fn reply(query: &[u8], addresses: usize) -> Vec<u8> {
        let v4 = (0..addresses).map(|n| [10, 0, (n / 256) as u8, n as u8].into()).collect();
        let (addresses, mut out) = (Addresses { v4, ..Addresses::default() }, Vec::new());
        let query = Query::parse(query).unwrap();
        reply::addresses(&query, &addresses, 30, None, ReplyLimit::Stream, &mut out);
        out
    }

    #[test]
    fn a_padded_query_gets_a_reply_in_whole_blocks_that_says_the_same() {
        let padded = query(&[0, 12, 0, 3, 0, 0, 0]);
        for addresses in [0, 1, 20, 26, 27, 28, 29, 200] {
            let before = reply(&padded, addresses);
            let mut after = before.clone();
            pad(&padded, &mut after);
            assert_eq!(after.len() % BLOCK, 0, "{addresses} addresses");
            assert!(after.len() >= before.len() + OPTION_HEAD && after.len() < before.len() + OPTION_HEAD + BLOCK);
            let (before, after) = (Message::parse(&before).unwrap(), Message::parse(&after).unwrap());
            assert_eq!(before, after);
        }
    }

    #[test]
    fn nothing_else_is_padded() {
        for (query, addresses) in [(query(&[]), 1), (query(&[0, 12, 0, 0]), 4093)] {
            let before = reply(&query, addresses);
            let mut after = before.clone();
            pad(&query, &mut after);
            assert_eq!(after, before);
        }
        let mut scraps = vec![0; 5];
        pad(&query(&[0, 12, 0, 0]), &mut scraps);
        assert_eq!(scraps, [0; 5]);
    }

    #[test]
    fn a_reply_is_kept_for_its_smallest_ttl_and_a_negative_one_for_what_its_soa_says() {
        let query = query(&[]);
        assert_eq!(max_age(&reply(&query, 3)), 30);
        assert_eq!(max_age(&reply(&query, 0)), 10);
        assert_eq!(max_age(&query), 0);
        assert_eq!(max_age(b""), 0);
    }
}
