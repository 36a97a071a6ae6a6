//! What was stored is loaded again; what is anything else is none, and does no harm.

use std::fs;
use std::thread;

use super::*;

const SECRET: &str = "https://user:hunter2@lists.example/ids?token=hunter2#hunter2";

fn list(ids: usize) -> List {
    let since = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let entry = |number: usize| Entry { since, ..Entry::of(format!("id{number}").parse().unwrap()) };
    let mut entries: Vec<_> = (0..ids).map(entry).collect();
    if let Some(first) = entries.first_mut() {
        first.vpc_endpoint_ids = vec!["vpce-0123456789abcdef0".parse().unwrap()];
        first.region = Some(Region::outside_partitions("lab-1").unwrap());
        first.name = Some("orders \"é\"\n".into());
    }
    List::new(entries)
}

fn url(url: &str) -> SourceKind {
    SourceKind::Url { url: url.to_owned(), headers: vec![("authorization".to_owned(), "hunter2".to_owned())] }
}

fn kept(folder: &Path, kind: &SourceKind) -> LastGood {
    LastGood::new(folder, kind, &"us-east-1".parse().unwrap())
}

fn file(folder: &Path) -> LastGood {
    kept(folder, &SourceKind::File { path: "/ids".into() })
}

#[test]
fn what_was_stored_is_loaded_with_its_age() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("not/there/yet");
    for count in [0, 3] {
        file(&state_dir).store(&list(count)).unwrap();
        let (loaded, said) = file(&state_dir).load().unwrap();
        assert_eq!(loaded, list(count));
        assert!(said.elapsed().unwrap() < Duration::from_secs(60));
    }
    assert_eq!(fs::read_dir(&state_dir).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn the_age_is_that_of_the_last_confirmation() {
    let folder = tempfile::tempdir().unwrap();
    let kept = file(folder.path());
    assert!(kept.confirm().is_err(), "nothing is kept");
    kept.store(&list(1)).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::open(&kept.path).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(kept.load().unwrap().1, long_ago);
    kept.confirm().unwrap();
    assert!(kept.load().unwrap().1.elapsed().unwrap() < Duration::from_secs(60));
    File::open(&kept.path).unwrap().set_modified(SystemTime::now() + Duration::from_secs(9_000)).unwrap();
    assert!(kept.load().unwrap().1 <= SystemTime::now(), "never in the future");
}

#[test]
fn neither_name_nor_content_tell_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let kept = kept(folder.path(), &url(SECRET));
    kept.store(&list(1)).unwrap();
    let content = fs::read_to_string(&kept.path).unwrap();
    assert!(!content.contains("hunter2") && !kept.path.to_string_lossy().contains("hunter2"), "{content}");
    assert!(content.contains("\"label\":\"url https://lists.example/ids\""), "{content}");
}

#[test]
fn each_source_has_a_file_of_its_own() {
    let folder = Path::new("/state");
    let api_gateway = |region: Option<&str>, endpoint_url: Option<&str>| SourceKind::ApiGateway {
        region: region.map(|region| region.parse().unwrap()),
        endpoint_url: endpoint_url.map(str::to_owned),
    };
    let kinds = [
        SourceKind::File { path: "/ids".into() },
        SourceKind::File { path: "/ids2".into() },
        url("https://lists.example/ids?a"),
        url("https://lists.example/ids?b"),
        api_gateway(None, None),
        api_gateway(Some("eu-west-1"), None),
        api_gateway(None, Some("http://127.0.0.1:5000")),
    ];
    let mut names: Vec<_> = kinds.iter().map(|kind| kept(folder, kind).path).collect();
    assert_eq!(kept(folder, &api_gateway(Some("us-east-1"), None)).path, names[4], "the host's own region by name");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 7);
    let name = kept(folder, &kinds[0]).path;
    // printf 'file\n/ids' | sha256sum
    assert_eq!(name, Path::new("/state/file-caf12834827e36aa.json"));
}

#[test]
fn a_file_cut_off_anywhere_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let kept = file(folder.path());
    kept.store(&list(50)).unwrap();
    let whole = fs::read(&kept.path).unwrap();
    for end in (0..whole.len()).step_by(10) {
        fs::write(&kept.path, &whole[..end]).unwrap();
        assert!(kept.load().is_none(), "{end} of {}", whole.len());
    }
    fs::write(&kept.path, &whole).unwrap();
    assert!(kept.load().is_some());
}

#[test]
fn what_is_corrupt_of_another_version_or_source_or_too_long_is_none_for_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let kept = file(folder.path());
    kept.store(&list(2)).unwrap();
    let whole = fs::read_to_string(&kept.path).unwrap();
    for (from, to, reason) in [
        ("\"version\":1", "\"version\":2", "its version is 2, and 1 is read here"),
        ("\"version\":1", "\"version\":1,\"more\":1", "unknown field"),
        ("\"file-", "\"url-", "it is the list of another source"),
        ("id1", "ID1", "it holds what is no id"),
        ("vpce-0", "vpce-x", "it holds what is no id"),
        ("1700000000", "18446744073709551615", "it holds what is no id"),
    ] {
        let changed = whole.replacen(from, to, 1);
        assert_ne!(changed, whole, "{from}");
        let error = kept.list(changed.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{error}");
        fs::write(&kept.path, changed).unwrap();
        assert!(kept.load().is_none(), "{to}");
    }
    File::create(&kept.path).unwrap().set_len(MAX_BYTES as u64 + 1).unwrap();
    assert!(kept.load().is_none());
}

#[test]
fn a_directory_in_its_place_is_none_and_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let kept = file(folder.path());
    fs::create_dir(&kept.path).unwrap();
    assert!(kept.load().is_none());
    assert!(kept.store(&list(1)).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of the attempt");
}

#[test]
fn a_state_dir_that_cannot_be_is_an_error_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let kept = file(&in_the_way.join("state"));
    assert!(kept.load().is_none());
    assert!(kept.store(&list(1)).is_err());
}

#[test]
fn of_two_writers_one_wins_and_no_reader_sees_half_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let kept = file(folder.path());
    kept.store(&list(1)).unwrap();
    thread::scope(|scope| {
        for count in [200, 300] {
            let kept = &kept;
            scope.spawn(move || (0..20).for_each(|_| kept.store(&list(count)).unwrap()));
        }
        for _ in 0..50 {
            let (loaded, _) = kept.load().unwrap();
            assert!([1, 200, 300].contains(&loaded.len()), "{}", loaded.len());
        }
    });
    assert!([200, 300].contains(&kept.load().unwrap().0.len()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
