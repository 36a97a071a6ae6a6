//! Where `sidegate discover` puts a list: a stream that is written to, or a file that is replaced whole; and when that file
//! stays as it is.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use crate::discovery::{Entry, List, MAX_BYTES, loses_most};
use crate::whole_file;

/// Anybody may read a new file: ids are no secrets. The umask takes its part.
pub(super) const MODE: u32 = 0o644;
/// As many symlinks as Linux follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What `--output` names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
    /// Another open file or a character device: written to, at its end.
    Stream(PathBuf),
    /// A regular file, or none yet: replaced. Never a symlink.
    File(PathBuf),
}

/// What came of putting a list in the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    Replaced,
    /// It has the same text already.
    Unchanged,
    /// More than half of its ids would go: nothing is done before a second read says so too.
    NeedsSecondRead,
}

impl Output {
    /// Follows the symlinks of a path, so that none is replaced.
    ///
    /// # Errors
    /// What can neither be written to nor replaced; in words.
    pub(super) fn of(named: &Path) -> anyhow::Result<Self> {
        if named == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let mut path = named.to_owned();
        for _ in 0..=MAX_LINKS {
            // What an open file's link leads to is shared with whoever opened it: a log that stdout goes to is no list.
            if let Some(stream) = Self::open_file(&path) {
                return Ok(stream);
            }
            match fs::read_link(&path) {
                Ok(target) => path = folder_of(&path).join(target),
                Err(_) => return Self::at(path),
            }
        }
        bail!("it is a symlink that leads in a circle, or over more than {MAX_LINKS} others: name the file itself")
    }

    /// A file that a process has open, named by way of `/proc/PID/fd`, as `/dev/stdout` and `/dev/fd/N` are.
    fn open_file(path: &Path) -> Option<Self> {
        let folder = fs::canonicalize(folder_of(path)).ok()?;
        let process = folder.strip_prefix("/proc").ok()?.to_str()?.strip_suffix("/fd")?.split('/').next()?;
        let is_own = fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(process));
        Some(match path.file_name()?.to_str() {
            Some("1") if is_own => Self::Stdout,
            // Opened once more, it would be written from its beginning again by what is said on stderr.
            Some("2") if is_own => Self::Stderr,
            _ => Self::Stream(path.to_owned()),
        })
    }

    /// What is at a path that is no symlink.
    fn at(path: PathBuf) -> anyhow::Result<Self> {
        let kind = match fs::metadata(&path) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Before the account is asked for nothing.
                fs::metadata(folder_of(&path)).map_err(|error| in_words(&error))?;
                return Ok(Self::File(path));
            }
            Err(error) => return Err(in_words(&error)),
        };
        if kind.is_file() {
            Ok(Self::File(path))
        } else if kind.is_char_device() {
            Ok(Self::Stream(path))
        } else if kind.is_dir() {
            bail!("it is a directory: name a file in it")
        } else if kind.is_fifo() || kind.is_socket() {
            // Opening a FIFO waits until somebody reads it.
            bail!(
                "it is a FIFO or a socket, which may have no reader: name a file, or use a pipe: sidegate discover | ..."
            )
        } else {
            bail!("it is neither a file nor a character device: name a file")
        }
    }
}

/// The folder of a path, as one that can be opened.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes to a device or an open file, behind what it has.
///
/// # Errors
/// The system's.
pub(super) fn write_to(stream: &Path, text: &[u8]) -> io::Result<()> {
    // A modem's line would be waited for.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = OpenOptions::new().append(true).custom_flags(flags).open(stream)?;
    rustix::io::ioctl_fionbio(&file, false)?;
    file.write_all(text)
}

/// Puts a list where it is read from. `first` is what the first read gave, if this list is from a second.
///
/// # Errors
/// Why the file stays as it is; in words.
pub(super) fn publish(list: &List, text: &[u8], path: &Path, first: Option<&List>) -> anyhow::Result<Published> {
    let before = match whole_file::read(path, MAX_BYTES.max(text.len())) {
        Ok((before, ..)) if before == text => return Ok(Published::Unchanged),
        Ok((before, ..)) => Some(List::parse(&before, true).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // Longer than any list.
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Some(None),
        Err(error) => return Err(in_words(&error)),
    };
    match before {
        Some(Some(before)) => {
            keep_if_emptied(&before, list)?;
            let is_gone = |entry: &&Entry| !has(list, entry) && first.is_none_or(|first| has(first, entry));
            if loses_most(before.len(), before.entries().iter().filter(is_gone).count()) {
                if first.is_some() {
                    bail!("stays as it is: two reads lack more than half of its ids, each other ones: try again later");
                }
                return Ok(Published::NeedsSecondRead);
            }
        }
        // What is no list at all may be anything, and is not replaced by nothing.
        Some(None) if list.is_empty() => {
            bail!(
                "stays as it is: it is no list, and the account has no private API: correct the path, or remove the file"
            )
        }
        Some(None) | None => {}
    }
    whole_file::replace(path, text, MODE).map_err(|error| in_words(&error))?;
    Ok(Published::Replaced)
}

/// A wrong account or region is likelier than that all APIs are gone: of each region where the file says it, of all
/// together where it does not.
fn keep_if_emptied(before: &List, list: &List) -> anyhow::Result<()> {
    let regions: HashSet<_> = list.entries().iter().filter_map(|entry| entry.region.as_ref()).collect();
    let emptied = before.entries().iter().find(|entry| match &entry.region {
        Some(region) => !regions.contains(region),
        None => list.is_empty(),
    });
    let Some(emptied) = emptied else { return Ok(()) };
    let place = emptied.region.as_ref().map_or_else(|| "any region asked".to_owned(), ToString::to_string);
    bail!(
        "stays as it is: the account has no private API in {place}, and there are ids of it in the file: correct the \
         credentials or the region, or remove the file if they are gone"
    )
}

/// Whether a list still has what a file had; lines do not say in which region.
fn has(list: &List, entry: &Entry) -> bool {
    let start = list.entries().partition_point(|now| now.id < entry.id);
    let same_id = list.entries().iter().skip(start).take_while(|now| now.id == entry.id);
    same_id.into_iter().any(|now| entry.region.is_none() || now.region == entry.region)
}

/// Why a file cannot be replaced, and what to do about it.
pub(super) fn in_words(error: &io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => anyhow!("its directory is not there: create it, or correct the path"),
        ErrorKind::NotADirectory => anyhow!("a part of its path is no directory: correct the path"),
        ErrorKind::IsADirectory => anyhow!("it is a directory: name a file in it"),
        ErrorKind::PermissionDenied => {
            anyhow!("permission denied: let this user read the file, and write to its directory")
        }
        ErrorKind::ReadOnlyFilesystem => anyhow!("its directory is read-only: mount it writable"),
        // A rewrite in place would be read half-done.
        ErrorKind::ResourceBusy => anyhow!("cannot be replaced as it is a mount of its own: mount its directory"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => anyhow!("there is no room for it: free some"),
        _ => anyhow!("{error}"),
    }
}
