//! Writes into the file that is there. In a container it is a mount, in a task it is shared: another file in its place
//! would be refused, or seen by nobody.
//!
//! The new text goes over the old one in one `pwrite` from the start, filled up to the old length where it is shorter, and
//! only then the file is cut. So the file is never empty, and a reader sees the old text or the new one: up to 4096 octets
//! the kernel copies at one go, which not even SIGKILL divides. A process killed before the cut leaves lines that no
//! resolver reads, and that `form` knows.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::form::padded;
use super::refusal::{self, Refusal};
use super::{MAX_LENGTH, Step};

/// How often, and how long, another Sidegate's lock is waited for. None keeps it longer than a write takes.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The text as it was found.
    pub before: Vec<u8>,
    pub step: Step,
    /// Another program kept the file locked; it was changed nevertheless.
    pub was_locked: bool,
}

/// Reads the file, lets `decide` say what to do, and does it; no other Sidegate gets between. On disk when it returns. Blocks
/// for a second at most where another program holds the file, and then goes on without the lock.
///
/// # Errors
/// A file that is not ours to write, or cannot be written; then it is as it was.
pub fn change(path: &Path, decide: impl FnOnce(&[u8]) -> Step) -> Result<Change, Refusal> {
    let file = open(path)?;
    let failed = |error| refusal::of_error(path, &error);
    let was_locked = !lock(&file);
    let mut before = Vec::new();
    (&file).take(MAX_LENGTH as u64 + 1).read_to_end(&mut before).map_err(failed)?;
    if before.len() > MAX_LENGTH {
        return Err(Refusal::TooLong { path: path.to_owned() });
    }
    let step = decide(&before);
    if let Step::Write(text) = &step {
        write(&file, &before, text).map_err(failed)?;
    }
    Ok(Change { before, step, was_locked })
}

/// Whether [`change`] could write it. Changes nothing.
///
/// # Errors
/// As [`change`].
pub fn check(path: &Path) -> Result<(), Refusal> {
    open(path).map(drop)
}

fn open(path: &Path) -> Result<File, Refusal> {
    refusal::unless_ours(path)?;
    // A pipe may have taken its place: it is not waited for.
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    opened.map_err(|error| refusal::of_error(path, &error))
}

/// Orders Sidegates among each other; whether nobody else has it. Freed when the file is closed, also by the end of the
/// process.
///
/// Whoever may read the file may lock it, so that this must not be what keeps it from being put back.
fn lock(file: &File) -> bool {
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => sleep(PAUSE),
            // Some file systems have no locks; then two Sidegates may write one after the other, and see it a second later.
            Ok(()) | Err(TryLockError::Error(_)) => return true,
        }
    }
    false
}

fn write(file: &File, before: &[u8], text: &[u8]) -> io::Result<()> {
    let written = file.write_all_at(&padded(text, before.len()), 0).and_then(|()| file.set_len(text.len() as u64));
    if written.is_err() {
        // A full disk, say. What was there fits, as it did before.
        let _ = file.write_all_at(before, 0).and_then(|()| file.set_len(before.len() as u64));
    }
    written?;
    file.sync_data()
}
