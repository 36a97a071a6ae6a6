//! Files that are read whole and replaced whole. Blocks; callers are on a thread that may.
//!
//! A leaf. `discovery` reads lists and keeps the last good ones with it, `sidegate discover` writes a list.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A temporary file this old was left by a process that was killed while it wrote.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What tells one state of a file from another, as far as the file system can: device, inode, size, and the times of the
/// last change of content and of anything, in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When anything of it changed last, by the clock of the file system.
    pub fn changed_at(&self) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(self.changed.0).ok()?))
    }
}

/// Reads a regular file of at most `max` octets, through symlinks; what it was before the read, and after.
///
/// # Errors
/// The system's; `InvalidInput` for what is no regular file, `FileTooLarge`.
pub fn read(path: &Path, max: usize) -> io::Result<(Vec<u8>, Metadata, Metadata)> {
    // Seen before it is opened, as opening some devices does something; not waited for, as a pipe may have taken its place.
    refuse_unless_regular(&fs::metadata(path)?)?;
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let before = file.metadata()?;
    refuse_unless_regular(&before)?;
    let mut text = Vec::new();
    (&mut file).take(max as u64 + 1).read_to_end(&mut text)?;
    if text.len() > max {
        let rule = format!("it is longer than {max} octets: split it, or leave out what nobody asks for");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, rule));
    }
    Ok((text, before, file.metadata()?))
}

fn refuse_unless_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let rule = if metadata.is_dir() { "it is a directory: name a file in it" } else { "it is no regular file" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, rule))
}

/// Puts a file in the place of whatever is there, or leaves that as it was. It has the mode of the file that was there, and
/// its owner and group where we may give them; a new one has `mode`, less the umask. On disk when it returns.
///
/// # Errors
/// The system's, without the temporary file's name.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let prefix = format!(".{}.", name.to_string_lossy());
    remove_abandoned(folder, &prefix);
    let before = fs::symlink_metadata(path).ok().filter(Metadata::is_file);
    // Nobody reads it who may not read the file before: it is ours alone until it is whole and has its owner.
    let permissions = Permissions::from_mode(if before.is_some() { 0o600 } else { mode });
    let temporary =
        tempfile::Builder::new().prefix(&prefix).suffix(".tmp").permissions(permissions).tempfile_in(folder);
    // Their words would be about the temporary file.
    let mut temporary = temporary.map_err(|error| io::Error::from(error.kind()))?;
    temporary.as_file_mut().write_all(content)?;
    if let Some(before) = before {
        keep_owner_and_mode(temporary.as_file(), &before)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

fn keep_owner_and_mode(file: &File, before: &Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
        // Root may give it to anybody, others to a group of theirs.
        if fchown(file, Some(before.uid()), Some(before.gid())).is_err() {
            let _ = fchown(file, None, Some(before.gid()));
        }
    }
    // After the owner: changing that takes bits of the mode away.
    file.set_permissions(Permissions::from_mode(before.mode() & 0o777))
}

/// Removes what processes that were killed have left. What cannot be removed stays: it harms nothing but the disk's space.
fn remove_abandoned(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is_ours = |name: &str| name.starts_with(prefix) && name.ends_with(".tmp");
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_ours)) {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read(path, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
    }

    #[test]
    fn a_file_may_have_as_many_octets_as_said_and_not_one_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().0, b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn who_is_reading_a_file_that_is_replaced_goes_on_with_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"before", 0o600).unwrap();
        let mut open = File::open(&path).unwrap();
        replace(&path, b"after", 0o600).unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), fs::read(&path).unwrap()), ("before", b"after".to_vec()));
    }

    #[test]
    fn a_file_keeps_its_mode_whatever_a_new_one_would_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for mode in [0o600, 0o640, 0o664, 0o666] {
            fs::write(&path, "before").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            replace(&path, b"after", 0o644).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{mode:o}");
        }
    }

    #[test]
    fn a_file_keeps_its_owner_and_group_where_we_may_give_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "before").unwrap();
        // Nobody but root may; what others may give is a group of theirs, and they may have one only.
        let may = std::os::unix::fs::chown(&path, Some(1234), Some(5678)).is_ok();
        let owner = || (fs::metadata(&path).unwrap().uid(), fs::metadata(&path).unwrap().gid());
        let before = owner();
        replace(&path, b"after", 0o644).unwrap();
        assert_eq!(owner(), before);
        assert!(!may || before == (1234, 5678));
    }

    #[test]
    fn an_error_does_not_name_the_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = replace(&folder.path().join("nowhere/file"), b"", 0o644).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!error.to_string().contains("tmp"), "{error}");
    }

    #[test]
    fn only_old_leftovers_of_the_same_file_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, age: u64| {
            let path = folder.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let (left, young) = (file(".list.abc.tmp", 4000), file(".list.def.tmp", 10));
        let (foreign, own) = (file(".other.abc.tmp", 4000), file("list", 4000));
        replace(&own, b"new", 0o600).unwrap();
        assert!(!left.exists() && young.exists() && foreign.exists());
        assert_eq!(fs::read(&own).unwrap(), b"new");
    }
}
