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

/// The Sidegate that takes a file over.
#[derive(Clone, Copy)]
pub struct Us<'a> {
    /// Where the file is to lead.
    pub address: IpAddr,
    /// Whether a server is one of our listeners.
    pub is_us: &'a dyn Fn(IpAddr) -> bool,
    /// The former text as we last saw it, if that named another server than us.
    pub seen: Option<&'a [u8]>,
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

/// How to have names resolved by us. Another Sidegate that has the file gives way only if `replaces`.
pub fn install(text: &[u8], us: &Us<'_>, replaces: bool) -> Step {
    match look(text) {
        Text::Free => Step::Write(taken_over(&without_us(settled(text), us), us.address)),
        Text::Taken(taken) if taken.address == us.address && taken.is_intact => Step::Nothing,
        Text::Taken(taken) if taken.leads_there && !replaces && !(us.is_us)(taken.address) => {
            Step::Neighbour(taken.address)
        }
        Text::Taken(taken) => Step::Write(taken_over(&without_us(&taken.former, us), us.address)),
        Text::Unknown => Step::Unknown,
    }
}

/// How to have the file as it was. With `of`, only where that Sidegate has it.
pub fn put_back(text: &[u8], of: Option<&Us<'_>>) -> Step {
    match look(text) {
        Text::Taken(taken) if of.is_some_and(|us| !(us.is_us)(taken.address)) => Step::Neighbour(taken.address),
        // Somebody else made it lead elsewhere: that is what they want.
        Text::Taken(taken) if !taken.leads_there => Step::Nothing,
        Text::Taken(taken) => Step::Write(of.map(|us| without_us(&taken.former, us)).unwrap_or(taken.former)),
        Text::Free => {
            let whole = settled(text);
            // Who reads the file and writes it anew leaves our line, and not our comments.
            let ours = of.filter(|us| us.seen.is_some() && lines(whole).any(|line| us.is_in(line)));
            let before = ours.map_or_else(|| whole.to_vec(), |us| without_us(whole, us));
            // Otherwise there is at most what a write that was killed has left.
            if before == text { Step::Nothing } else { Step::Write(before) }
        }
        Text::Unknown => Step::Unknown,
    }
}

impl std::fmt::Debug for Us<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Us").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Us<'_> {
    fn is_in(&self, line: Line<'_>) -> bool {
        matches!(line, Line::NameServer(NameServer { address, zone: None }) if (self.is_us)(address))
    }
}

/// A text as others are to find it once we are gone: where it names us, nobody answers then. One that names nobody else gets
/// the servers that we saw before; if we saw none, it stays as it is.
fn without_us(text: &[u8], us: &Us<'_>) -> Vec<u8> {
    let is_server = |line: Line<'_>| matches!(line, Line::NameServer(_));
    let mut others = picked(text, |line| !us.is_in(line));
    match us.seen {
        _ if lines(&others).any(is_server) => others,
        None => text.to_vec(),
        // It has nothing that was not there before.
        Some(seen) if lines(&others).all(|line| line == Line::Other || lines(seen).any(|before| before == line)) => {
            seen.to_vec()
        }
        Some(seen) => {
            if !others.ends_with(b"\n") {
                others.push(b'\n');
            }
            others.extend(picked(seen, is_server));
            others
        }
    }
}

/// The lines that are wanted, as they stand.
fn picked(text: &[u8], is_wanted: impl Fn(Line<'_>) -> bool) -> Vec<u8> {
    let pairs = text.split_inclusive(|octet| *octet == b'\n').zip(lines(text));
    pairs.filter(|(_, line)| is_wanted(*line)).flat_map(|(octets, _)| octets.iter().copied()).collect()
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
