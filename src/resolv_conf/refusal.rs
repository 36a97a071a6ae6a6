//! Files that are not ours to write, and what to do about each.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Why the file stays as it is; each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{} leads to {}, which {writer} writes: {}", .path.display(), .target.display(), .writer.cure())]
    Managed { path: PathBuf, target: PathBuf, writer: Writer },
    #[error("{} is not there: create it with a nameserver line, or bind-mount one to its place", .path.display())]
    Missing { path: PathBuf },
    #[error("{} leads to {}, which is not there: remove the link, and create a file with a nameserver line", .path.display(), .target.display())]
    Dangling { path: PathBuf, target: PathBuf },
    #[error("{} is no regular file: name one by --file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is longer than 64 KiB: leave out what no resolver reads", .path.display())]
    TooLong { path: PathBuf },
    #[error(
        "{} may not be written by this user: run as root; in a systemd unit by ExecStartPost=-+, in a container as user 0",
        .path.display()
    )]
    NotPermitted { path: PathBuf },
    #[error("{} may not be changed by anybody, root neither: take its attribute off by chattr -i", .path.display())]
    Immutable { path: PathBuf },
    #[error(
        "{} is on a read-only file system: in a container turn readonlyRootFilesystem off for this one container, or set \
         HTTPS_PROXY for the application instead; in a systemd unit use ExecStartPost=-+sidegate resolv-conf install",
        .path.display()
    )]
    ReadOnly { path: PathBuf },
    #[error("{} is taken over by a newer Sidegate, or its comments were changed: use that Sidegate, or write it anew", .path.display())]
    Unknown { path: PathBuf },
    #[error("{}: {error}", .path.display())]
    System { path: PathBuf, error: String },
}

impl Refusal {
    /// Whether it stays so until an operator changes something: neither time nor another start cures it.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Managed { .. }
                | Self::NotAFile { .. }
                | Self::NotPermitted { .. }
                | Self::Immutable { .. }
                | Self::ReadOnly { .. }
        )
    }
}

/// Who writes what the link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Its stub: the file names systemd-resolved itself.
    Stub,
    /// The file names every server that systemd-resolved knows.
    Resolved,
    NetworkManager,
    Resolvconf,
    Other,
}

impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stub | Self::Resolved => "systemd-resolved",
            Self::NetworkManager => "NetworkManager",
            Self::Resolvconf => "resolvconf",
            Self::Other => "another program",
        })
    }
}

impl Writer {
    /// Of a link's target. All of them keep what they write below /run; systemd-resolved also ships a file that never
    /// changes and names its stub.
    fn of(target: &Path) -> Option<Self> {
        if ["/usr/lib/systemd/resolv.conf", "/lib/systemd/resolv.conf"].iter().any(|file| target == Path::new(file)) {
            return Some(Self::Stub);
        }
        let target = target.strip_prefix("/var").map_or(target.to_owned(), |below| Path::new("/").join(below));
        if let Ok(below) = target.strip_prefix("/run") {
            if below == Path::new("systemd/resolve/stub-resolv.conf") {
                return Some(Self::Stub);
            }
            return Some(match below.components().next().and_then(|first| first.as_os_str().to_str()) {
                Some("systemd") => Self::Resolved,
                Some("NetworkManager") => Self::NetworkManager,
                Some("resolvconf") => Self::Resolvconf,
                _ => Self::Other,
            });
        }
        // Where resolvconf kept it before /run.
        target.starts_with("/etc/resolvconf/run").then_some(Self::Resolvconf)
    }

    fn cure(self) -> &'static str {
        match self {
            Self::Stub => {
                "give systemd-resolved the zone instead, from systemd 258 by a dns-delegate drop-in, before by a link's \
                 DNS and domains (resolvectl); or put a copy of /run/systemd/resolve/resolv.conf in the place of the link"
            }
            // Given us as one more server, it would list us beside the VPC's, which programs would go on asking.
            Self::Resolved => "put a copy of that file in the place of the link",
            Self::NetworkManager => {
                "set dns=none in NetworkManager.conf and put a copy in the place of the link; or give it Sidegate as \
                 ipv4.dns with ipv4.ignore-auto-dns=yes"
            }
            Self::Resolvconf => {
                "write the nameserver line to /etc/resolvconf/resolv.conf.d/head and run resolvconf -u; or put a copy in \
                 the place of the link"
            }
            Self::Other => "give that program Sidegate as its server; or put a copy in the place of the link",
        }
    }
}

/// Looks at what the path names, without opening it.
pub(super) fn unless_ours(path: &Path) -> Result<(), Refusal> {
    let metadata = fs::symlink_metadata(path).map_err(|error| of_error(path, &error))?;
    if metadata.is_symlink() {
        let link = fs::read_link(path).map_err(|error| of_error(path, &error))?;
        let next = without_dots(&path.parent().unwrap_or(Path::new("/")).join(link));
        let end = fs::canonicalize(path).ok();
        let target = end.clone().unwrap_or_else(|| next.clone());
        if let Some(writer) = Writer::of(&next).or_else(|| Writer::of(&target)) {
            return Err(Refusal::Managed { path: path.to_owned(), target: next, writer });
        }
        if end.is_none() {
            return Err(Refusal::Dangling { path: path.to_owned(), target });
        }
    }
    let is_file = fs::metadata(path).map_err(|error| of_error(path, &error))?.is_file();
    if is_file { Ok(()) } else { Err(Refusal::NotAFile { path: path.to_owned() }) }
}

/// What the system says, in terms of what to do.
pub(super) fn of_error(path: &Path, error: &io::Error) -> Refusal {
    let path = path.to_owned();
    match (error.kind(), error.raw_os_error()) {
        (_, Some(libc::EPERM)) => Refusal::Immutable { path },
        (io::ErrorKind::PermissionDenied, _) => Refusal::NotPermitted { path },
        (io::ErrorKind::ReadOnlyFilesystem, _) => Refusal::ReadOnly { path },
        (io::ErrorKind::NotFound, _) => Refusal::Missing { path },
        _ => Refusal::System { path, error: error.to_string() },
    }
}

/// By its words alone, as what it leads to may not be there.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_the_file_is_told_by_where_it_is() {
        for (target, writer) in [
            ("/run/systemd/resolve/stub-resolv.conf", Some(Writer::Stub)),
            ("/run/systemd/resolve/resolv.conf", Some(Writer::Resolved)),
            ("/run/systemd/resolv.conf", Some(Writer::Resolved)),
            ("/var/run/systemd/resolve/stub-resolv.conf", Some(Writer::Stub)),
            ("/var/run/NetworkManager/resolv.conf", Some(Writer::NetworkManager)),
            ("/run/resolvconf/resolv.conf", Some(Writer::Resolvconf)),
            ("/etc/resolvconf/run/resolv.conf", Some(Writer::Resolvconf)),
            ("/run/netconfig/resolv.conf", Some(Writer::Other)),
            ("/usr/lib/systemd/resolv.conf", Some(Writer::Stub)),
            ("/lib/systemd/resolv.conf", Some(Writer::Stub)),
            ("/etc/resolv.conf.static", None),
            ("/running/resolv.conf", None),
        ] {
            assert_eq!(Writer::of(Path::new(target)), writer, "{target}");
        }
        assert_eq!(without_dots(Path::new("/etc/../run/./x")), Path::new("/run/x"));
    }

    #[test]
    fn a_unit_is_advised_what_the_shipped_one_does() {
        let shipped = "config/systemd/sidegate.service.d/take-over.conf";
        let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(shipped)).unwrap();
        let path = PathBuf::from("/etc/resolv.conf");
        for refusal in [Refusal::NotPermitted { path: path.clone() }, Refusal::ReadOnly { path }] {
            assert!(
                shipped.contains("ExecStartPost=-+/") && refusal.to_string().contains("ExecStartPost=-+"),
                "{refusal}"
            );
        }
    }
}
