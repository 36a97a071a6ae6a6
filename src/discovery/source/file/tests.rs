//! Real files, and a clock that stands still while nothing happens: each wait passes at once.

use std::io::Write;
use std::os::unix::fs::symlink;

use tokio::time::timeout;

use super::*;

/// A change is applied within two seconds; what is read then takes the rest.
const PROMISED: Duration = Duration::from_millis(1600);

async fn ids(reader: &mut FileReader) -> Result<Vec<String>, String> {
    match reader.read().await? {
        Read::List(list) => Ok(list.entries().iter().map(|entry| entry.id.to_string()).collect()),
        Read::Unchanged => panic!("a file has no way to say so"),
    }
}

/// Whether it is noticed to have changed, in time.
async fn notices(reader: &mut FileReader) -> bool {
    timeout(PROMISED, reader.changed()).await.is_ok()
}

/// A folder, and a reader that has read the file in it, and read it again once it kept still.
async fn settled(content: &str) -> (tempfile::TempDir, PathBuf, FileReader) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    fs::write(&path, content).unwrap();
    let mut reader = FileReader::new(path.clone(), false);
    ids(&mut reader).await.unwrap();
    if notices(&mut reader).await {
        ids(&mut reader).await.unwrap();
    }
    assert!(!notices(&mut reader).await);
    (folder, path, reader)
}

/// Until the clock of the file system has moved on, so that a change cannot look like none.
fn next_tick(folder: &Path) {
    let (probe, begun) = (folder.join("probe"), SystemTime::now());
    loop {
        fs::write(&probe, "x").unwrap();
        if fs::metadata(&probe).unwrap().modified().unwrap() > begun {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_in_place_is_read_and_no_change_is_not() {
    let (_folder, path, mut reader) = settled("a1\n").await;
    fs::write(&path, "b1\n").unwrap();
    assert!(notices(&mut reader).await);
    assert_eq!(ids(&mut reader).await.unwrap(), ["b1"]);
    assert!(timeout(Duration::from_secs(600), reader.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_atomic_rename_is_read() {
    let (folder, path, mut reader) = settled("a1\n").await;
    fs::write(folder.path().join("new"), "b1\n").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(notices(&mut reader).await);
    assert_eq!(ids(&mut reader).await.unwrap(), ["b1"]);
}

#[tokio::test(start_paused = true)]
async fn the_symlink_swap_of_a_config_map_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, content) in [("..v1", "a1\n"), ("..v2", "b1\n")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("ids"), content).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/ids", at("ids")).unwrap();
    let mut reader = FileReader::new(at("ids"), false);
    assert_eq!(ids(&mut reader).await.unwrap(), ["a1"]);
    symlink("..v2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..v1")).unwrap();
    assert!(notices(&mut reader).await);
    assert_eq!(ids(&mut reader).await.unwrap(), ["b1"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_is_an_error_once_and_is_read_when_it_is_back() {
    let (_folder, path, mut reader) = settled("a1\n").await;
    fs::remove_file(&path).unwrap();
    assert!(notices(&mut reader).await);
    assert_eq!(ids(&mut reader).await.unwrap_err(), "there is no such file: write the list there, or correct the path");
    assert!(!notices(&mut reader).await);
    fs::write(&path, "a1\n").unwrap();
    assert!(notices(&mut reader).await);
    assert_eq!(ids(&mut reader).await.unwrap(), ["a1"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_half_written_is_read_once_it_is_whole() {
    let (folder, path, mut reader) = settled("a1\nb1\n").await;
    for half in ["", "a", "a1\nb", "a1\nb1\nc"] {
        fs::write(&path, half).unwrap();
        next_tick(folder.path());
        assert!(timeout(Duration::from_millis(600), reader.changed()).await.is_err(), "{half:?} is not stable yet");
    }
    fs::write(&path, "a1\nb1\nc1\n").unwrap();
    assert!(notices(&mut reader).await);
    assert_eq!(ids(&mut reader).await.unwrap(), ["a1", "b1", "c1"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_just_written_is_read_once_it_keeps_still_also_the_first_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    fs::write(&path, "").unwrap();
    let mut reader = FileReader::new(path.clone(), false);
    let write = async {
        for part in ["a1\n", "a1\nb1\n"] {
            sleep(Duration::from_millis(400)).await;
            fs::write(&path, part).unwrap();
        }
    };
    let (read, ()) = tokio::join!(ids(&mut reader), write);
    assert_eq!(read.unwrap(), ["a1", "b1"]);
    assert!(!notices(&mut reader).await, "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_never_keeps_still_is_read_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    fs::write(&path, "a1\n").unwrap();
    let mut reader = FileReader::new(path.clone(), false);
    // Each one whole: the file is read on a thread of its own, and may not be found cut short.
    let write = async {
        let next = folder.path().join("next");
        for length in 1..100 {
            fs::write(&next, "a1\n".repeat(length)).unwrap();
            fs::rename(&next, &path).unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    };
    let begun = Instant::now();
    tokio::select! {
        read = ids(&mut reader) => assert_eq!(read.unwrap(), ["a1"]),
        () = write => panic!("it was waited for beyond patience"),
    }
    assert!(begun.elapsed() < PATIENCE + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_has_long_been_the_same_is_read_once() {
    // Nobody writes to this file, and it was there before.
    let mut reader = FileReader::new("/etc/passwd".into(), false);
    assert!(ids(&mut reader).await.unwrap_err().starts_with("line 1: \"root:"));
    assert!(!notices(&mut reader).await, "nor is an error");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_regular_file_is_an_error_and_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe, folder.path().to_owned(), "/dev/zero".into()] {
        let mut reader = FileReader::new(path, false);
        let error = ids(&mut reader).await.unwrap_err();
        assert!(error.starts_with("it cannot be read: it is"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_wrong_is_an_error_until_it_is_corrected() {
    let (_folder, path, mut reader) = settled("a1\n").await;
    fs::write(&path, "A1\n").unwrap();
    assert!(notices(&mut reader).await);
    assert!(ids(&mut reader).await.unwrap_err().starts_with("line 1: \"A1\": "));
    assert!(!notices(&mut reader).await);
    fs::write(&path, "b1\n").unwrap();
    assert!(notices(&mut reader).await);
    assert_eq!(ids(&mut reader).await.unwrap(), ["b1"]);
}

#[test]
fn a_read_that_a_change_comes_into_is_begun_anew_and_given_up_where_each_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids");
    // What is read while so many more changes come, each between the two looks at the file.
    let read_while = |mut changes: usize| {
        fs::write(&path, "a1\n").unwrap();
        read_list_by(&path, false, || {
            let (text, before, after) = whole_file::read(&path, MAX_BYTES)?;
            if changes == 0 {
                return Ok((text, before, after));
            }
            changes -= 1;
            fs::OpenOptions::new().append(true).open(&path)?.write_all(b"b1\n")?;
            Ok((text, before, fs::metadata(&path)?))
        })
        .1
    };
    for changes in 0..ATTEMPTS {
        assert_eq!(read_while(changes).unwrap().len(), if changes == 0 { 1 } else { 2 }, "{changes} changes");
    }
    assert!(read_while(ATTEMPTS).unwrap_err().starts_with("it changes while it is read: "));
}
