//! What becomes of the file, without asking anybody.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use rustix::process::{Uid, geteuid};

use super::output::{MODE, in_words};
use super::*;
use crate::discovery::{Entry, List, MAX_BYTES};

/// A list of these ids, all in one region.
fn list(region: Option<&str>, ids: &[&str]) -> List {
    let entry = |id: &&str| Entry { region: region.map(|r| r.parse().unwrap()), ..Entry::of(id.parse().unwrap()) };
    List::new(ids.iter().map(entry).collect())
}

fn both(one: &List, other: &List) -> List {
    List::new(one.entries().iter().chain(other.entries()).cloned().collect())
}

/// Publishes these ids, one a line. Whether that changed anything.
fn put(ids: &[&str], output: &Path) -> anyhow::Result<bool> {
    let list = list(Some("us-east-1"), ids);
    match Output::of(output)? {
        Output::File(path) => Ok(publish(&list, list.to_lines().as_bytes(), &path, None)? == Published::Replaced),
        Output::Stream(stream) => Ok(write_to(&stream, list.to_lines().as_bytes()).map(|()| true)?),
        own => panic!("{own:?}"),
    }
}

/// Publishes a list as JSON.
fn put_json(list: &List, output: &Path, first: Option<&List>) -> anyhow::Result<Published> {
    publish(list, list.to_json().as_bytes(), output, first)
}

/// Ids with these numbers.
fn numbered(numbers: std::ops::Range<usize>) -> List {
    let ids: Vec<_> = numbers.map(|number| format!("api{number:07}")).collect();
    list(Some("us-east-1"), &ids.iter().map(String::as_str).collect::<Vec<_>>())
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_new_file_is_made_readable_for_all_and_nothing_is_left_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    assert!(put(&["a1b2c3d4e5"], &output).unwrap());
    assert_eq!(fs::read_to_string(&output).unwrap(), "a1b2c3d4e5\n");
    // What the umask of the test leaves of 0644.
    let plain = directory.path().join("plain");
    OpenOptions::new().write(true).create_new(true).open(&plain).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&output), mode(&plain) & MODE);
    fs::remove_file(plain).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn another_list_is_another_file_and_the_same_list_is_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    put(&["a1b2c3d4e5"], &output).unwrap();
    let first = inode(&output);
    assert!(!put(&["a1b2c3d4e5"], &output).unwrap());
    assert_eq!(inode(&output), first);
    // Held open, so that its number is not given to the next.
    let mut reading = File::open(&output).unwrap();
    assert!(put(&["f6g7h8i9j0"], &output).unwrap());
    assert_ne!(inode(&output), first);
    assert_eq!(io::read_to_string(&mut reading).unwrap(), "a1b2c3d4e5\n");
}

#[test]
fn no_ids_do_not_replace_ids_nor_what_is_no_list() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    let long = format!("# {}\na1b2c3d4e5\n", "x".repeat(MAX_BYTES));
    for before in ["a1b2c3d4e5\n", "[{\"id\": \"a1b2c3d4e5\"}]", "not a list!\n", &long] {
        fs::write(&output, before).unwrap();
        let error = put(&[], &output).unwrap_err().to_string();
        assert!(error.contains("stays as it is") && error.contains("remove the file"), "{error}");
        assert_eq!(fs::read_to_string(&output).unwrap(), before);
    }
    for before in ["", "# none yet\n", "[]"] {
        fs::write(&output, before).unwrap();
        put(&[], &output).unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), "");
    }
    fs::remove_file(&output).unwrap();
    assert!(put(&[], &output).unwrap());
}

#[test]
fn the_target_of_a_symlink_is_replaced_also_where_it_is_not_there_yet() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    symlink("elsewhere", &output).unwrap();
    for ids in [["a1b2c3d4e5"], ["f6g7h8i9j0"]] {
        put(&ids, &output).unwrap();
        assert!(fs::symlink_metadata(&output).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(directory.path().join("elsewhere")).unwrap(), format!("{}\n", ids[0]));
    }
}

#[test]
fn no_symlink_of_a_chain_is_replaced_and_a_circle_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("below")).unwrap();
    symlink("below/link", at("link2")).unwrap();
    symlink("../ids", at("below/link")).unwrap();
    for ids in [["a1b2c3d4e5"], ["f6g7h8i9j0"]] {
        put(&ids, &at("link2")).unwrap();
        assert!(fs::symlink_metadata(at("link2")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(at("below/link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(at("ids")).unwrap(), format!("{}\n", ids[0]));
    }
    symlink("there", at("here")).unwrap();
    symlink("here", at("there")).unwrap();
    let error = put(&["a1b2c3d4e5"], &at("here")).unwrap_err().to_string();
    assert!(error.contains("circle"), "{error}");
}

#[test]
fn a_device_is_written_to_and_pipes_sockets_and_directories_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (pipe, socket) = (directory.path().join("pipe"), directory.path().join("socket"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(put(&["a1b2c3d4e5"], Path::new("/dev/null")).unwrap());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    for (refused, words) in [
        (pipe.as_path(), "it is a FIFO"),
        (&socket, "a socket"),
        (directory.path(), "it is a directory: name a file in it"),
    ] {
        let error = put(&["a1b2c3d4e5"], refused).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_open_file_is_written_to_at_its_end_and_our_own_streams_are_known() {
    for (named, own) in [
        ("-", Output::Stdout),
        ("/dev/stdout", Output::Stdout),
        ("/dev/fd/1", Output::Stdout),
        ("/proc/self/fd/1", Output::Stdout),
        ("/proc/thread-self/fd/1", Output::Stdout),
        ("/dev/stderr", Output::Stderr),
    ] {
        assert_eq!(Output::of(Path::new(named)).unwrap(), own, "{named}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "before\n").unwrap();
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    let first = inode(&path);
    let named = PathBuf::from(format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    let link = directory.path().join("link");
    symlink(&named, &link).unwrap();
    put(&["a1b2c3d4e5"], &named).unwrap();
    put(&["f6g7h8i9j0"], &link).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\na1b2c3d4e5\nf6g7h8i9j0\n");
    assert_eq!(inode(&path), first);
}

#[test]
fn a_file_keeps_the_mode_that_it_was_given() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    fs::write(&output, "a1b2c3d4e5\n").unwrap();
    fs::set_permissions(&output, Permissions::from_mode(0o640)).unwrap();
    put(&["f6g7h8i9j0"], &output).unwrap();
    assert_eq!(fs::metadata(&output).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join(".ids.Zme123.tmp");
    let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
    File::create(&left).unwrap().set_modified(two_hours_ago).unwrap();
    put(&["a1b2c3d4e5"], &directory.path().join("ids")).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_region_without_ids_keeps_the_file_that_has_some_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    let (here, there) = (list(Some("us-east-1"), &["a1b2c3d4e5"]), list(Some("eu-west-1"), &["f6g7h8i9j0"]));
    put_json(&both(&here, &there), &output, None).unwrap();
    let before = fs::read_to_string(&output).unwrap();
    let error = put_json(&here, &output, None).unwrap_err().to_string();
    assert!(error.contains("no private API in eu-west-1") && error.contains("stays as it is"), "{error}");
    assert_eq!(fs::read_to_string(&output).unwrap(), before);
    // One that is new does no harm.
    put_json(&here, &directory.path().join("new"), None).unwrap();
    assert_eq!(put_json(&both(&here, &there), &directory.path().join("new"), None).unwrap(), Published::Replaced);
    // Lines do not say whose they were.
    fs::write(&output, "a1b2c3d4e5\nf6g7h8i9j0\n").unwrap();
    assert_eq!(put_json(&here, &output, None).unwrap(), Published::Replaced);
}

#[test]
fn a_file_that_loses_more_than_half_of_ten_ids_waits_for_a_second_read() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    let lines_and_json = [numbered(0..10).to_lines(), numbered(0..10).to_json()];
    for before in &lines_and_json {
        fs::write(&output, before).unwrap();
        assert_eq!(put_json(&numbered(0..4), &output, None).unwrap(), Published::NeedsSecondRead);
        assert_eq!(fs::read_to_string(&output).unwrap(), *before);
        // What the first read lacked only is not gone.
        let error = put_json(&numbered(6..10), &output, Some(&numbered(0..10))).unwrap_err().to_string();
        assert!(error.contains("stays as it is"), "{error}");
        assert_eq!(put_json(&numbered(0..4), &output, Some(&numbered(0..4))).unwrap(), Published::Replaced);
        assert_eq!(fs::read_to_string(&output).unwrap(), numbered(0..4).to_json());
    }
    for (before, after) in [(numbered(0..10), numbered(5..15)), (numbered(0..9), numbered(8..9))] {
        fs::write(&output, before.to_json()).unwrap();
        assert_eq!(put_json(&after, &output, None).unwrap(), Published::Replaced);
    }
}

#[test]
fn what_cannot_be_replaced_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = put(&["a1b2c3d4e5"], &directory.path().join("nowhere/ids")).unwrap_err().to_string();
    assert_eq!(error, "its directory is not there: create it, or correct the path");
    for (code, words) in [
        (libc::EBUSY, "cannot be replaced as it is a mount of its own: mount its directory"),
        (libc::EROFS, "its directory is read-only: mount it writable"),
        (libc::ENOSPC, "there is no room for it: free some"),
    ] {
        assert_eq!(in_words(&io::Error::from_raw_os_error(code)).to_string(), words);
    }
}

#[test]
fn lines_are_refused_where_they_would_mix_regions() {
    let regions: Vec<_> = ["us-east-1", "eu-west-1"].map(|region| region.parse().unwrap()).into();
    let (here, there) = (list(Some("us-east-1"), &["a1b2c3d4e5"]), list(Some("eu-west-1"), &["f6g7h8i9j0"]));
    let mixed = PrivateApis { regions: regions.clone(), list: both(&here, &there) };
    let error = text(&mixed, Format::Lines).unwrap_err().to_string();
    assert!(error.contains("--format json"), "{error}");
    assert!(text(&mixed, Format::Json).is_ok());
    assert_eq!(summary(&mixed), "1 private API in us-east-1, 1 private API in eu-west-1");
    assert_eq!(text(&PrivateApis { regions, list: here }, Format::Lines).unwrap(), "a1b2c3d4e5\n");
}

#[test]
fn a_directory_that_cannot_be_written_leaves_the_file_alone() {
    if geteuid() == Uid::ROOT {
        // Nothing stops root.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("ids");
    put(&["a1b2c3d4e5"], &output).unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o555)).unwrap();
    let error = put(&["f6g7h8i9j0"], &output).unwrap_err().to_string();
    assert!(error.contains("permission denied") && !error.contains("tmp"), "{error}");
    assert_eq!(fs::read_to_string(&output).unwrap(), "a1b2c3d4e5\n");
}
