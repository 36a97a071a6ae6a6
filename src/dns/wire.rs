//! The DNS wire format as this plane reads it: numbers, names with compression, records.
//!
//! Used by `query` for what clients send and by `message` for what upstreams send. hickory-proto decodes whole messages
//! into owned trees; here a private or cached name must cost no allocation and a forwarded record must keep its bytes,
//! so the few parts that matter are read in place.

/// Octets of a message header, RFC 1035 section 4.1.1.
pub const HEADER: usize = 12;
/// The longest name on the wire, RFC 1035 section 2.3.4.
pub const MAX_NAME: usize = 255;
/// Pointers followed within one name: far more than any server writes, and a bound on the work one name can cause.
const MAX_POINTERS: usize = 32;

/// Record and question types that are told apart here.
pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const HINFO: u16 = 13;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const NSEC3: u16 = 50;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const TKEY: u16 = 249;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const MAILB: u16 = 253;
    pub const MAILA: u16 = 254;
    pub const ANY: u16 = 255;
}

/// The Internet class.
pub const CLASS_IN: u16 = 1;

/// Response codes, RFC 6895 section 2.3; above 15 the upper bits travel in the OPT record.
pub mod rcode {
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const BADVERS: u16 = 16;
}

/// Bits of the header's third and fourth octet, as one number.
pub mod flag {
    pub const QR: u16 = 0x8000;
    pub const OPCODE: u16 = 0x7800;
    pub const TC: u16 = 0x0200;
    pub const RD: u16 = 0x0100;
    pub const RA: u16 = 0x0080;
    pub const AD: u16 = 0x0020;
    pub const CD: u16 = 0x0010;
}

/// EDNS options that are told apart here, RFC 6891 section 6.1.2.
pub mod option {
    /// RFC 7871.
    pub const CLIENT_SUBNET: u16 = 8;
    /// RFC 7830.
    pub const PADDING: u16 = 12;
    /// RFC 8914.
    pub const EXTENDED_ERROR: u16 = 15;
}

/// Extended errors this resolver gives, RFC 8914 section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ExtendedError {
    Other = 0,
    StaleAnswer = 3,
    NotReady = 14,
    Prohibited = 18,
    StaleNxdomain = 19,
    NotSupported = 21,
    NoReachableAuthority = 22,
    NetworkError = 23,
    InvalidData = 24,
}

/// Bytes that are no DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed DNS message")]
pub struct Malformed;

/// Reads big-endian numbers and slices off a message, never beyond its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    pub fn new(message: &'m [u8], at: usize) -> Self {
        Self { message, at }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.message.len()
    }

    #[inline]
    pub fn slice(&mut self, length: usize) -> Result<&'m [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let slice = self.message.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(slice)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.slice(1).map(|bytes| bytes[0])
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.slice(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.slice(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Reads a name, compressed or not, and appends it uncompressed to `out`, in the case it came in.
    ///
    /// Pointers must lead strictly backwards (RFC 1035 section 4.1.4 speaks of a *prior* occurrence), so they cannot loop.
    pub fn name(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        let mut at = self.at;
        let mut limit = self.at;
        let mut pointers = 0;
        loop {
            let length = *self.message.get(at).ok_or(Malformed)?;
            match length {
                0 => {
                    out.push(0);
                    at += 1;
                    break;
                }
                1..=63 => {
                    let label = self.message.get(at..=at + length as usize).ok_or(Malformed)?;
                    out.extend_from_slice(label);
                    at += label.len();
                }
                0xc0.. => {
                    let low = *self.message.get(at + 1).ok_or(Malformed)?;
                    let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    pointers += 1;
                    if target >= limit || pointers > MAX_POINTERS {
                        return Err(Malformed);
                    }
                    if pointers == 1 {
                        self.at = at + 2;
                    }
                    (at, limit) = (target, target);
                }
                _ => return Err(Malformed),
            }
            if out.len() - start >= MAX_NAME {
                return Err(Malformed);
            }
        }
        if pointers == 0 {
            self.at = at;
        }
        Ok(())
    }
}

/// The number in two octets of a header or record that is known to be there; 0 beyond the end.
#[inline]
pub fn u16_at(message: &[u8], at: usize) -> u16 {
    message.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Overwrites two octets.
#[inline]
pub fn put_u16(message: &mut [u8], at: usize, value: u16) {
    if let Some(bytes) = message.get_mut(at..at + 2) {
        bytes.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8], at: usize) -> Result<(Vec<u8>, usize), Malformed> {
        let mut reader = Reader::new(message, at);
        let mut name = Vec::new();
        reader.name(&mut name).map(|()| (name, reader.position()))
    }

    #[test]
    fn a_compressed_name_is_read_through_its_pointers() {
        let message = b"\x03com\x00\x07Example\xc0\x00\x03www\xc0\x05after";
        assert_eq!(read(message, 15), Ok((b"\x03www\x07Example\x03com\x00".to_vec(), 21)));
    }

    #[test]
    fn pointers_that_do_not_lead_back_are_refused() {
        assert_eq!(read(b"\xc0\x00", 0), Err(Malformed), "to itself");
        assert_eq!(read(b"\xc0\x02\xc0\x00", 0), Err(Malformed), "forwards");
        assert_eq!(read(b"\x01a\xc0\x00", 0), Err(Malformed), "a loop through a label");
        let chain: Vec<u8> = [0, 0].into_iter().chain((0..100u8).flat_map(|i| [0xc0, i * 2])).collect();
        assert_eq!(read(&chain, chain.len() - 2), Err(Malformed), "a long chain of pointers");
    }

    #[test]
    fn names_that_are_cut_off_or_too_long_are_refused() {
        assert_eq!(read(b"\x03ww", 0), Err(Malformed));
        assert_eq!(read(b"\xc0", 0), Err(Malformed));
        assert_eq!(read(b"\x40", 0), Err(Malformed));
        let long: Vec<u8> = [63; 64].repeat(5);
        assert_eq!(read(&long, 0), Err(Malformed));
    }
}
