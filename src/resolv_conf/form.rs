//! What resolv.conf looks like while Sidegate resolves names, and how the file before is found in it. Pure: bytes to
//! bytes.
//!
//! ```text
//! nameserver 127.0.0.1
//! search ec2.internal
//! # sidegate takes resolv.conf over, form 1: nameserver 127.0.0.1 for these 41 octets (undo: sidegate resolv-conf restore)
//! #|search ec2.internal
//! #|nameserver 10.0.0.2
//! ```
//!
//! The server comes first, so that who reads the file while it is written sees no less than that. Settings are repeated as
//! they were; then the file before stands in full, each line behind `#|`, so that it comes back byte for byte, and so that
//! every Sidegate that reads it later finds the servers. What others wrote before or behind all this is theirs, and stays.

use std::net::IpAddr;

use super::line::{Line, NameServer, lines};

/// Begins the line that says what is behind it; the number of the form follows.
const HEADER: &str = "# sidegate takes resolv.conf over, form ";
/// The one form there is. Another way of writing gets another number: older forms are read for good.
const FORM: &str = "1: nameserver ";
/// Stands before each line of the file before.
const FORMER: &[u8] = b"#|";
/// Begins the line that ends a file which is about to be cut there; the number of octets before it follows.
const CUT: &str = "# sidegate cuts resolv.conf here, form 1, octets: ";

/// Whose a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// No Sidegate has a part in it.
    Free,
    Taken(Taken),
    /// A Sidegate wrote it, but not in a form that this one knows, or somebody changed its words.
    Unknown,
}

/// A text that leads to a Sidegate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where that Sidegate listens.
    pub address: IpAddr,
    /// What to put back: the text before, and what others wrote around ours since.
    pub former: Vec<u8>,
    /// Nobody has changed anything since.
    pub is_intact: bool,
    /// The server of our address still stands in it.
    pub leads_there: bool,
}

/// What there is to do with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Write(Vec<u8>),
    /// It is as it should be.
    Nothing,
    /// Another Sidegate has it, at this address.
    Neighbour(IpAddr),
    /// See [`Text::Unknown`].
    Unknown,
}

/// Says whose a text is.
pub fn look(text: &[u8]) -> Text {
    let text = settled(text);
    let mut at = 0;
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        if let Some(words) = line.strip_prefix(HEADER.as_bytes()) {
            return taken(&text[..at], words, &text[at + line.len()..]).map_or(Text::Unknown, Text::Taken);
        }
        at += line.len();
    }
    Text::Free
}

/// How to have names resolved at `address`. The Sidegate that has the file already gives way only if `replaces`.
pub fn install(text: &[u8], address: IpAddr, replaces: bool) -> Step {
    match look(text) {
        Text::Free => Step::Write(taken_over(settled(text), address)),
        Text::Taken(taken) if taken.address == address && taken.is_intact => Step::Nothing,
        Text::Taken(taken) if taken.address != address && taken.leads_there && !replaces => {
            Step::Neighbour(taken.address)
        }
        Text::Taken(taken) => Step::Write(taken_over(&taken.former, address)),
        Text::Unknown => Step::Unknown,
    }
}

/// How to have the file as it was. With `of`, only where the Sidegate at this address has it.
pub fn put_back(text: &[u8], of: Option<IpAddr>) -> Step {
    match look(text) {
        Text::Taken(taken) if of.is_some_and(|address| address != taken.address) => Step::Neighbour(taken.address),
        // Somebody else made it lead elsewhere: that is what they want.
        Text::Taken(taken) if !taken.leads_there => Step::Nothing,
        Text::Taken(taken) => Step::Write(taken.former),
        // Only what a write that was killed has left.
        Text::Free if settled(text).len() < text.len() => Step::Write(settled(text).to_vec()),
        Text::Free => Step::Nothing,
        Text::Unknown => Step::Unknown,
    }
}

/// `content`, made at least `length` octets long by what no resolver reads: written over a longer text it leaves nothing of
/// that, and if the cut behind it never comes, [`look`] and [`install`] still know where it ends.
pub(super) fn padded(content: &[u8], length: usize) -> Vec<u8> {
    let mut padded = content.to_vec();
    let cut = format!("\n{CUT}{}\n", content.len());
    // A text of ours needs no more than empty lines.
    if look(content) == Text::Free && padded.len() + cut.len() <= length {
        padded.extend_from_slice(cut.as_bytes());
    }
    padded.resize(padded.len().max(length), b'\n');
    padded
}

/// A text without what [`padded`] put behind it.
fn settled(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|octet| *octet != b'\n').map_or(0, |last| last + 1);
    let start = text[..end].iter().rposition(|octet| *octet == b'\n').map_or(0, |newline| newline + 1);
    let octets = text[start..end].strip_prefix(CUT.as_bytes()).and_then(|octets| str::from_utf8(octets).ok());
    match octets.and_then(|octets| octets.parse::<usize>().ok()) {
        Some(octets) if octets + 1 == start => &text[..octets],
        _ => text,
    }
}

/// The lines for resolvers: one server and never a second, since some ask all that there are at once.
fn live(former: &[u8], address: IpAddr) -> Vec<u8> {
    let mut live = format!("nameserver {address}\n").into_bytes();
    for line in lines(former) {
        if let Line::Setting(setting) = line {
            live.extend_from_slice(setting.as_bytes());
            live.push(b'\n');
        }
    }
    live
}

fn taken_over(former: &[u8], address: IpAddr) -> Vec<u8> {
    let mut text = live(former, address);
    let octets = former.len();
    let undo = "(undo: sidegate resolv-conf restore)";
    text.extend_from_slice(format!("{HEADER}{FORM}{address} for these {octets} octets {undo}\n").as_bytes());
    for line in former.split_inclusive(|octet| *octet == b'\n') {
        text.extend_from_slice(FORMER);
        text.extend_from_slice(line);
    }
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text
}

/// What stands before the header, its words, and what stands behind it. `None` if its words are none of ours.
fn taken(before: &[u8], words: &[u8], behind: &[u8]) -> Option<Taken> {
    let words = str::from_utf8(words).ok()?.strip_prefix(FORM)?;
    let mut words = words.split(' ');
    let address: IpAddr = words.next()?.parse().ok()?;
    let octets: usize = words.nth(2)?.parse().ok()?;
    let mut former = Vec::new();
    let mut end = 0;
    for line in behind.split_inclusive(|octet| *octet == b'\n') {
        let Some(line) = line.strip_prefix(FORMER) else { break };
        former.extend_from_slice(line);
        end += FORMER.len() + line.len();
    }
    if former.len() == octets + 1 && former.last() == Some(&b'\n') {
        former.pop();
    }
    let is_whole = former.len() == octets;
    let above = before.strip_suffix(live(&former, address).as_slice());
    let above = above.filter(|above| above.is_empty() || above.ends_with(b"\n"));
    // Empty lines may be what a write that was killed has left.
    let below = Some(&behind[end..]).filter(|below| below.iter().any(|octet| *octet != b'\n')).unwrap_or_default();
    let is_intact = is_whole && above.is_some_and(<[u8]>::is_empty) && below.is_empty();
    if !below.is_empty() && !former.is_empty() && !former.ends_with(b"\n") {
        former.push(b'\n');
    }
    let leads_there = lines(before).any(|line| matches!(line, Line::NameServer(server) if server.address == address));
    // Where our lines were changed, servers that were added are wanted; the rest is ours to write.
    let added = || lines(before).filter_map(|line| other_server(line, address)).collect::<String>().into_bytes();
    let above = above.map_or_else(added, <[u8]>::to_vec);
    Some(Taken { address, former: [&above, former.as_slice(), below].concat(), is_intact, leads_there })
}

/// The line of a server that is not at `address`.
fn other_server(line: Line<'_>, address: IpAddr) -> Option<String> {
    let Line::NameServer(NameServer { address: other, zone: None }) = line else { return None };
    (other != address).then(|| format!("nameserver {other}\n"))
}
