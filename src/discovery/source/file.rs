//! A list in a file, watched: a change that has been stable for half a second is read.
//!
//! By looking at it twice a second, not by the system's notifications: those do not see through the symlink swaps of a
//! ConfigMap, nor on network file systems.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::Read;
use crate::discovery::list::{List, MAX_BYTES};
use crate::whole_file::{self, Identity};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// It keeps still once it has been the same for so long.
const STILL: Duration = Duration::from_millis(500);
/// A file that has not changed for so long, by its own clock, keeps still: longer than a clock tick of any file system.
const OLD: Duration = Duration::from_secs(3);
/// How often it is looked at that is about to be read and may still be written, and how long at most: what never keeps
/// still is read as it is.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(3);
/// So often a read is begun anew that a change has come into.
const ATTEMPTS: usize = 3;

/// What is seen of a file without reading it.
type Sight = Result<Identity, io::ErrorKind>;

/// Reads one file.
#[derive(Debug)]
pub(super) struct FileReader {
    path: PathBuf,
    any_region: bool,
    /// What it was when it was last read, and whether it kept still then. One that did not may be written to within the
    /// same tick of its clock, and look the same.
    read: Option<(Sight, bool)>,
    /// What it was last seen as, and since when.
    seen: Option<(Sight, Instant)>,
}

impl FileReader {
    pub(super) fn new(path: PathBuf, any_region: bool) -> Self {
        Self { path, any_region, read: None, seen: None }
    }

    /// Reads it, whole, once it keeps still: half a list is one too.
    ///
    /// # Errors
    /// In words for an operator.
    pub(super) async fn read(&mut self) -> Result<Read, String> {
        self.settle().await;
        let (path, any_region, begun) = (self.path.clone(), self.any_region, Instant::now());
        let (sight, list) =
            spawn_blocking(move || read_list(&path, any_region)).await.map_err(|end| end.to_string())?;
        let keeps_still = self.has_been(sight, begun) || is_old(&sight);
        self.read = Some((sight, keeps_still));
        list.map(Read::List)
    }

    /// Returns once it keeps still, is not there, or never will.
    async fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (path, begun) = (self.path.clone(), Instant::now());
            let Ok(sight) = spawn_blocking(move || look(&path)).await else { return };
            if sight.is_err() || is_old(&sight) || self.has_been(sight, begun) || begun >= deadline {
                return;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns once it is no longer what was read and has kept still.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep(LOOK_EVERY).await;
            let (path, begun) = (self.path.clone(), Instant::now());
            let Ok(sight) = spawn_blocking(move || look(&path)).await else { continue };
            if self.has_been(sight, begun) && self.read != Some((sight, true)) {
                return;
            }
        }
    }

    /// Whether it has been the same for long enough at a time before `sight`.
    fn has_been(&mut self, sight: Sight, at: Instant) -> bool {
        match self.seen {
            Some((seen, since)) if seen == sight => at.saturating_duration_since(since) >= STILL,
            _ => {
                self.seen = Some((sight, Instant::now()));
                false
            }
        }
    }
}

fn look(path: &Path) -> Sight {
    fs::metadata(path).map(|metadata| Identity::of(&metadata)).map_err(|error| error.kind())
}

/// By the clocks of both: where that of the file is wrong, it is found to keep still by looking at it.
fn is_old(sight: &Sight) -> bool {
    let changed_at = sight.as_ref().ok().and_then(Identity::changed_at);
    changed_at.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age >= OLD)
}

fn read_list(path: &Path, any_region: bool) -> (Sight, Result<List, String>) {
    read_list_by(path, any_region, || whole_file::read(path, MAX_BYTES))
}

/// As [`read_list`]; `read` gives the text, and what the file was before and after.
fn read_list_by(
    path: &Path,
    any_region: bool,
    mut read: impl FnMut() -> io::Result<(Vec<u8>, fs::Metadata, fs::Metadata)>,
) -> (Sight, Result<List, String>) {
    for _ in 0..ATTEMPTS {
        let sight = look(path);
        match read() {
            Ok((text, before, after)) => {
                let (before, after) = (Identity::of(&before), Identity::of(&after));
                if before == after {
                    return (Ok(after), List::parse(&text, any_region).map_err(|error| error.to_string()));
                }
            }
            Err(error) => {
                let problem = match error.kind() {
                    io::ErrorKind::NotFound => {
                        "there is no such file: write the list there, or correct the path".to_owned()
                    }
                    io::ErrorKind::PermissionDenied => {
                        "it may not be read: let this user read it and its folders".to_owned()
                    }
                    _ => format!("it cannot be read: {error}"),
                };
                return (sight, Err(problem));
            }
        }
    }
    (look(path), Err("it changes while it is read: write it elsewhere, and rename it into place".to_owned()))
}

#[cfg(test)]
mod tests;
