//! What becomes of the file, without asking anybody.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use rustix::process::{Uid, geteuid};

use super::*;
use crate::discovery::Entry;

fn list(ids: &[&str]) -> List {
    let entry = |id: &&str| Entry {
        id: id.parse().unwrap(),
        vpc_endpoint_ids: Vec::new(),
        region: None,
        name: None,
        since: None,
    };
    List::new(ids.iter().map(entry).collect())
}

/// Publishes these ids, one a line.
fn put(ids: &[&str], output: &Path) -> anyhow::Result<bool> {
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    publish(&list(ids), text.as_bytes(), output)
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_file_is_made_readable_for_all_and_nothing_is_left_beside_it() {
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
    let long = format!("# {}\na1b2c3d4e5\n", "x".repeat(MAX_EMPTY));
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
fn what_is_no_regular_file_is_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reading = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    assert!(put(&["a1b2c3d4e5"], &pipe).unwrap());
    assert_eq!(reading.join().unwrap(), "a1b2c3d4e5\n");
    put(&[], directory.path()).unwrap_err();
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
    put(&["f6g7h8i9j0"], &output).unwrap_err();
    assert_eq!(fs::read_to_string(&output).unwrap(), "a1b2c3d4e5\n");
}
