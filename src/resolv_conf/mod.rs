//! `/etc/resolv.conf`: read, taken over, put back. `app` asks for the servers it had; `resolv-conf` and `dns.take_over`
//! change it.
//!
//! - `line`: resolv.conf(5), line by line
//! - `form`: what the file looks like while names are resolved by Sidegate, and what it was before; pure
//! - `in_place`: writes into the file that is there, so that it is never empty and never half
//! - `refusal`: files that are not ours to write, and what to do about each
//!
//! RESOLV_CONF.md is the same from outside.

mod form;
mod in_place;
mod line;
mod refusal;

use std::net::IpAddr;
use std::path::Path;

pub use form::{Step, Taken, Text, Us, install, look, put_back};
pub use in_place::{Change, change, check};
pub use line::{Line, NameServer, lines, name_servers};
pub use refusal::Refusal;

use crate::whole_file;

/// The largest file that is read, in octets: resolvers look at three servers and a few hundred characters.
pub const MAX_LENGTH: usize = 64 * 1024;

/// The whole file, through links.
///
/// # Errors
/// The system's, and for what is no regular file or longer than [`MAX_LENGTH`].
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    whole_file::read(path, MAX_LENGTH).map(|(text, ..)| text)
}

/// The servers that names were resolved by before any Sidegate stood in their place, in order.
pub fn former_servers(text: &[u8]) -> Vec<IpAddr> {
    match look(text) {
        Text::Taken(taken) => {
            name_servers(&taken.former).into_iter().filter(|server| *server != taken.address).collect()
        }
        Text::Free | Text::Unknown => name_servers(text),
    }
}

#[cfg(test)]
mod tests;
