//! The last good list of a source on disk, so that a start without the source knows what was known.
//!
//! One file for each source in `state_dir`, named by kind and a digest of the path, URL or region; it holds the list and
//! nothing secret. Written whole or not at all. `source` reads one at start and writes one whenever its list changes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::config::SourceKind;
use super::list::{Entry, List};
use crate::policy::{ApiId, Region, VpceId};
use crate::whole_file;

/// The form of the file; another one is not read.
const VERSION: u32 = 1;
/// The most octets of a file: a list of [`super::list::MAX_BYTES`] with what this form adds to each id has half of that.
const MAX_BYTES: usize = 64 << 20;
/// Nobody else needs to know what APIs there are.
const MODE: u32 = 0o600;
/// So many octets of the digest are in the file's name: more than enough to tell the sources of one host apart.
const DIGEST: usize = 8;

/// Where the list of one source is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastGood {
    path: PathBuf,
    /// The kind and the digest: the file's name, and in the file as well.
    source: String,
    /// For people who look into the file; without what may be secret.
    label: String,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<'c> {
    version: u32,
    source: String,
    label: String,
    #[serde(borrow)]
    entries: Vec<Stored<'c>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'c> {
    id: &'c str,
    #[serde(default, skip_serializing_if = "Vec::is_empty", borrow)]
    vpc_endpoint_ids: Vec<&'c str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<&'c str>,
    /// Owned, as a name may hold what JSON escapes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Box<str>>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

impl LastGood {
    /// `region` is that of this host, for sources that name none.
    pub(super) fn new(state_dir: &Path, kind: &SourceKind, region: &Region) -> Self {
        let (name, label, identity) = match kind {
            SourceKind::File { path } => {
                ("file", format!("file {}", path.display()), path.as_os_str().as_bytes().to_vec())
            }
            SourceKind::Url { url, .. } => {
                let public = url.split(['?', '#']).next().unwrap_or_default();
                // Credentials may stand before the host, too.
                let (scheme, rest) = public.split_once("://").unwrap_or(("", public));
                let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                ("url", format!("url {scheme}://{host}"), url.as_bytes().to_vec())
            }
            SourceKind::ApiGateway { region: own, endpoint_url } => {
                let region = own.as_ref().unwrap_or(region);
                let identity = format!("{region} {}", endpoint_url.as_deref().unwrap_or_default());
                ("api-gateway", format!("api-gateway {region}"), identity.into_bytes())
            }
            SourceKind::Learned => ("learned", "learned".to_owned(), Vec::new()),
        };
        let digest = digest::digest(&digest::SHA256, &[name.as_bytes(), b"\n", &identity].concat());
        let mut source = format!("{name}-");
        for octet in digest.as_ref().iter().take(DIGEST) {
            _ = write!(source, "{octet:02x}");
        }
        Self { path: state_dir.join(format!("{source}.json")), source, label }
    }

    /// The list, and when the source last said so. `None` if there is none; one that is corrupt is none, with a warning.
    pub(super) fn load(&self) -> Option<(List, SystemTime)> {
        let problem = match whole_file::read(&self.path, MAX_BYTES) {
            Ok((content, metadata, _)) => match self.list(&content) {
                Ok(list) => {
                    let now = SystemTime::now();
                    return Some((list, metadata.modified().map_or(now, |said| said.min(now))));
                }
                Err(problem) => format!("{problem}: the next read replaces it"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => format!("{error}: make state_dir readable for this user"),
        };
        tracing::warn!("{}: its last good list in {} is not used: {problem}", self.label, self.path.display());
        None
    }

    fn list(&self, content: &[u8]) -> Result<List, String> {
        /// Read first, as other forms have other fields.
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let text = |error: serde_json::Error| error.to_string().escape_debug().to_string();
        let Form { version } = serde_json::from_slice(content).map_err(text)?;
        if version != VERSION {
            return Err(format!("its version is {version}, and {VERSION} is read here"));
        }
        let content: Content<'_> = serde_json::from_slice(content).map_err(text)?;
        if content.source != self.source {
            return Err("it is the list of another source".to_owned());
        }
        let entries = content.entries.into_iter().map(Stored::into_entry);
        entries.collect::<Option<Vec<_>>>().map(List::new).ok_or_else(|| "it holds what is no id".to_owned())
    }

    /// Replaces what is kept.
    ///
    /// # Errors
    /// The system's; what was kept before is still there then.
    pub(super) fn store(&self, list: &List) -> io::Result<()> {
        let entries = list.entries().iter().map(Stored::of).collect();
        let content = Content { version: VERSION, source: self.source.clone(), label: self.label.clone(), entries };
        let text = serde_json::to_vec(&content)?;
        if text.len() > MAX_BYTES {
            let rule = format!("it would have {} octets, and {MAX_BYTES} are the most", text.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, rule));
        }
        self.path.parent().map(fs::create_dir_all).transpose()?;
        whole_file::replace(&self.path, &text, MODE)
    }

    /// The source says now what is kept.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn confirm(&self) -> io::Result<()> {
        File::open(&self.path)?.set_modified(SystemTime::now())
    }
}

impl<'c> Stored<'c> {
    fn of(entry: &'c Entry) -> Self {
        let since = entry.since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
        Self {
            id: entry.id.as_str(),
            vpc_endpoint_ids: entry.vpc_endpoint_ids.iter().map(VpceId::as_str).collect(),
            region: entry.region.as_ref().map(Region::as_str),
            name: entry.name.clone(),
            since: since.map(|since| since.as_secs()),
        }
    }

    fn into_entry(self) -> Option<Entry> {
        // A region that fits no partition was listed where the suffix is set by hand.
        let region = |text: &str| text.parse::<Region>().or_else(|_| Region::outside_partitions(text)).ok();
        let since = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Some(Entry {
            id: self.id.parse::<ApiId>().ok()?,
            vpc_endpoint_ids: self.vpc_endpoint_ids.iter().map(|id| id.parse().ok()).collect::<Option<_>>()?,
            region: match self.region {
                Some(text) => Some(region(text)?),
                None => None,
            },
            name: self.name,
            since: match self.since {
                Some(seconds) => Some(since(seconds)?),
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests;
