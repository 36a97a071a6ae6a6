//! Queries and replies as bytes: written by hand, so that anything can be said; replies are read with hickory-proto.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};

pub const A: u16 = 1;
pub const CNAME_TYPE: u16 = 5;
pub const TXT_TYPE: u16 = 16;
pub const AAAA: u16 = 28;
pub const HTTPS: u16 = 65;
pub const ANY: u16 = 255;

/// A query to be sent.
#[derive(Debug, Clone)]
pub struct Ask {
    pub id: u16,
    pub flags: u16,
    pub name: String,
    pub qtype: u16,
    /// UDP size and DO bit of an OPT record.
    pub edns: Option<(u16, bool)>,
    /// EDNS options: code and payload.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Ask {
    /// As a stub resolver asks: RD set, no EDNS.
    pub fn new(name: &str, qtype: u16) -> Self {
        Self { id: rand::random(), flags: 0x0100, name: name.to_owned(), qtype, edns: None, options: Vec::new() }
    }

    pub fn edns(self, size: u16, dnssec_ok: bool) -> Self {
        Self { edns: Some((size, dnssec_ok)), ..self }
    }

    pub fn flags(self, flags: u16) -> Self {
        Self { flags, ..self }
    }

    pub fn option(mut self, code: u16, payload: &[u8]) -> Self {
        self.options.push((code, payload.to_vec()));
        self
    }

    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.id.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        for label in self.name.split('.').filter(|label| !label.is_empty()) {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.push(0);
        out.extend(self.qtype.to_be_bytes());
        out.extend([0, 1]);
        if let Some((size, dnssec_ok)) = self.edns {
            out.extend([0, 0, 41]);
            out.extend(size.to_be_bytes());
            out.extend([0, 0, u8::from(dnssec_ok) << 7, 0]);
            put_options(&mut out, &self.options);
        }
        out
    }
}

fn put_options(out: &mut Vec<u8>, options: &[(u16, Vec<u8>)]) {
    let length: usize = options.iter().map(|(_, payload)| 4 + payload.len()).sum();
    out.extend((length as u16).to_be_bytes());
    for (code, payload) in options {
        out.extend(code.to_be_bytes());
        out.extend((payload.len() as u16).to_be_bytes());
        out.extend(payload);
    }
}

/// Where the question of a query without compression ends.
pub fn question_end(packet: &[u8]) -> usize {
    let mut at = 12;
    while packet[at] != 0 {
        at += 1 + usize::from(packet[at]);
    }
    at + 5
}

/// The name a query asks for, lower case, without the trailing dot.
pub fn asked_name(packet: &[u8]) -> String {
    let name = Message::from_vec(packet).unwrap().queries[0].name().to_lowercase().to_ascii();
    name.trim_end_matches('.').to_owned()
}

pub fn asked_type(packet: &[u8]) -> u16 {
    let end = question_end(packet);
    u16::from_be_bytes([packet[end - 4], packet[end - 3]])
}

/// What an upstream answers; start with [`Answer::to`].
#[derive(Debug, Clone)]
pub struct Answer {
    query: Vec<u8>,
    pub flags: u16,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    /// Options of an OPT record, which is there if this is.
    pub options: Option<Vec<(u16, Vec<u8>)>>,
}

impl Answer {
    /// NOERROR without a record.
    pub fn to(query: &[u8]) -> Self {
        let flags = 0x8180 | u16::from_be_bytes([query[2], query[3]]) & 0x0110;
        Self { query: query.to_vec(), flags, answers: Vec::new(), authorities: Vec::new(), options: None }
    }

    pub fn with(mut self, owner: &str, ttl: u32, data: RData) -> Self {
        self.answers.push(Record::from_rdata(name(owner), ttl, data));
        self
    }

    /// An SOA record in the authority section, for negative answers.
    pub fn soa(mut self, owner: &str, ttl: u32) -> Self {
        let soa = SOA::new(name("ns.example"), name("root.example"), 1, 2, 3, 4, ttl);
        self.authorities.push(Record::from_rdata(name(owner), ttl, RData::SOA(soa)));
        self
    }

    pub fn rcode(self, code: u16) -> Self {
        Self { flags: self.flags & !0xf | code, ..self }
    }

    pub fn flag(self, bit: u16) -> Self {
        Self { flags: self.flags | bit, ..self }
    }

    pub fn option(mut self, code: u16, payload: &[u8]) -> Self {
        self.options.get_or_insert_default().push((code, payload.to_vec()));
        self
    }

    pub fn to_wire(&self) -> Vec<u8> {
        let mut message = Message::response(0, hickory_proto::op::OpCode::Query);
        message.queries = Message::from_vec(&self.query).unwrap().queries;
        message.answers = self.answers.clone();
        message.authorities = self.authorities.clone();
        let mut out = message.to_vec().unwrap();
        out[..2].copy_from_slice(&self.query[..2]);
        out[2..4].copy_from_slice(&self.flags.to_be_bytes());
        let end = question_end(&self.query);
        out[12..end].copy_from_slice(&self.query[12..end]);
        if let Some(options) = &self.options {
            out[11] += 1;
            out.extend([0, 0, 41, 16, 0, 0, 0, 0, 0]);
            put_options(&mut out, options);
        }
        out
    }
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).unwrap()
}

pub fn a(address: &str) -> RData {
    RData::A(address.parse().unwrap())
}

pub fn cname(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

pub fn txt(length: usize) -> RData {
    RData::TXT(TXT::from_bytes([7; 255].chunks(250).cycle().take(length / 250).collect()))
}

/// A reply as a client reads it.
pub fn read(reply: &[u8]) -> Message {
    Message::from_vec(reply).unwrap()
}

/// The data of the answer section, in its order.
pub fn data(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

pub fn code(reply: &Message) -> ResponseCode {
    reply.metadata.response_code
}

/// Codes and texts of the extended errors (RFC 8914) in a reply.
pub fn extended_errors(reply: &Message) -> Vec<(u16, String)> {
    options(reply)
        .into_iter()
        .filter(|(code, _)| *code == 15)
        .map(|(_, bytes)| (u16::from_be_bytes([bytes[0], bytes[1]]), String::from_utf8_lossy(&bytes[2..]).into_owned()))
        .collect()
}

/// Every EDNS option of a reply.
pub fn options(reply: &Message) -> Vec<(u16, Vec<u8>)> {
    let edns = reply.edns.as_ref().expect("an OPT record");
    edns.options().options.iter().map(|(code, option)| (u16::from(*code), Vec::try_from(option).unwrap())).collect()
}
