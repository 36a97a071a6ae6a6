//! `sidegate discover --output`: when the file is replaced, and when it stays.

use std::fs::{self, File};
use std::io::Write;

use super::gateway::{account, api, id, page, parameter, private};
use super::program::Program;
use super::server::{Answer, Server};

#[test]
fn lines_are_the_default_and_several_runs_of_one_account_are_the_same() {
    let server = account(private(0..3));
    let program = Program::asking(&server.url()).with_keys();
    let ended = program.run(&["discover"]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.out, format!("{}\n{}\n{}\n", id(0), id(1), id(2)));
    assert_eq!(program.run(&["discover", "--format", "lines"]).out, ended.out);
}

#[test]
fn a_file_gets_what_would_be_printed() {
    let server = account(private(0..3));
    let program = Program::asking(&server.url()).with_keys();
    let file = program.path("ids.json");
    let written = program.run(&["discover", "--format", "json", "--output", file.to_str().unwrap()]);
    assert_eq!((written.code, written.out.as_str()), (Some(0), ""), "{written:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), program.run(&["discover", "--format", "json"]).out);
    let again = program.run(&["discover", "--format", "json", "--output", file.to_str().unwrap()]);
    assert!(again.err.contains("as before"), "{again:?}");
}

#[test]
fn a_read_that_fails_half_way_leaves_the_file() {
    let apis = private(0..600);
    let server = Server::start(move |asked, _| match parameter(asked, "position") {
        None => page(&apis, asked),
        Some(_) => Answer::Nothing,
    });
    let program = Program::asking(&server.url()).with_keys();
    let file = program.file("ids", "a1b2c3d4e5\n");
    let ended = program.run(&["discover", "--output", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "a1b2c3d4e5\n");
}

#[test]
fn an_account_without_private_apis_leaves_a_file_with_ids() {
    let server = account(vec![api(1, "REGIONAL")]);
    let program = Program::asking(&server.url()).with_keys();
    let file = program.file("ids", "a1b2c3d4e5\n");
    let ended = program.run(&["discover", "--output", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("stays as it is"), "{ended:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "a1b2c3d4e5\n");
}

#[test]
fn standard_output_can_be_named_as_a_file() {
    let server = account(private(0..1));
    let ended = Program::asking(&server.url()).with_keys().run(&["discover", "--output", "/dev/stdout"]);
    assert_eq!((ended.code, ended.out), (Some(0), format!("{}\n", id(0))), "{}", ended.err);
}

#[test]
fn a_log_that_standard_output_goes_to_is_written_on_and_not_replaced() {
    let server = account(private(0..1));
    let program = Program::asking(&server.url()).with_keys();
    let log = program.path("log");
    for named in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let mut file = File::create(&log).unwrap();
        writeln!(file, "before").unwrap();
        let ended = program.run_into(file.try_clone().unwrap(), &["discover", "--output", named]);
        assert_eq!(ended.code, Some(0), "{named}: {ended:?}");
        writeln!(file, "after").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), format!("before\n{}\nafter\n", id(0)), "{named}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_is_refused_before_anybody_is_asked() {
    let server = account(private(0..1));
    let program = Program::asking(&server.url()).with_keys();
    let pipe = program.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ended = program.run(&["discover", "--output", pipe.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("pipe: it is a FIFO"), "{ended:?}");
    assert!(server.asked().is_empty());
}

/// Takes the 5 s between the two reads.
#[test]
fn a_file_that_would_lose_most_ids_is_replaced_once_a_second_read_says_so_too() {
    for comes_back in [false, true] {
        let server = Server::start(move |asked, before| {
            page(&private(if comes_back && before > 0 { 0..20 } else { 0..2 }), asked)
        });
        let program = Program::asking(&server.url()).with_keys();
        let all: String = (0..20).map(|number| format!("{}\n", id(number))).collect();
        let file = program.file("ids", &all);
        let ended = program.run(&["discover", "--output", file.to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(server.asked().len(), 2, "{ended:?}");
        let expected = if comes_back { all } else { format!("{}\n{}\n", id(0), id(1)) };
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    }
}

#[test]
fn how_many_there_are_is_said_beside_the_list() {
    for (apis, said) in [
        (private(0..12), "sidegate: 12 private APIs in us-east-1\n"),
        (private(0..1), "sidegate: 1 private API in us-east-1\n"),
        (vec![], "sidegate: no private API in us-east-1 of this account: right account and region?\n"),
    ] {
        let server = account(apis);
        assert_eq!(Program::asking(&server.url()).with_keys().run(&["discover"]).err, said);
    }
}

#[test]
fn lines_of_two_regions_are_refused_and_one_empty_region_is_a_warning() {
    let (full, empty) = (account(private(0..1)), account(Vec::new()));
    let abroad = |server: &Server| {
        let url = server.url();
        format!("[[discovery]]\nkind = \"api-gateway\"\nregion = \"eu-west-1\"\nendpoint_url = \"{url}\"\n")
    };
    let program = |other| Program::asking(&full.url()).with_keys().configured(&abroad(other));
    let refused = program(&full).refused();
    assert!(refused.contains("use --format json"), "{refused}");
    assert_eq!(program(&full).discovered().len(), 2);
    let ended = program(&empty).run(&["discover"]);
    assert_eq!((ended.code, ended.out), (Some(0), format!("{}\n", id(0))));
    assert!(ended.err.contains("warning: lines drop the region"), "{}", ended.err);
}

#[test]
fn a_mount_that_cannot_be_replaced_is_said_with_what_to_mount_instead() {
    let server = account(private(0..1));
    let program = Program::asking(&server.url()).with_keys();
    let file = program.file("ids", "a1b2c3d4e5\n");
    fs::create_dir(program.path("lists")).unwrap();
    for (mount, output, words) in [
        ("mount --bind ids ids", "ids", "ids: cannot be replaced as it is a mount of its own: mount its directory"),
        ("mount -t tmpfs -o ro none lists", "lists/ids", "lists/ids: its directory is read-only: mount it writable"),
    ] {
        let Some(ended) = program.run_with_mounts(mount, &["discover", "--output", output]) else { return };
        assert_eq!((ended.code, ended.err), (Some(1), format!("sidegate: {words}\n")));
        assert_eq!(fs::read_to_string(&file).unwrap(), "a1b2c3d4e5\n");
    }
    // The configuration, the file, the directory, and the home: no temporary file.
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 4);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let server = account(private(0..1));
    let program = Program::asking(&server.url()).with_keys();
    let file = program.path("nowhere/ids");
    let ended = program.run(&["discover", "--output", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("nowhere/ids: its directory is not there: create it"), "{ended:?}");
}

#[test]
fn the_help_is_a_manual() {
    let help = Program::new().run(&["discover", "--help"]).out;
    for promise in ["apigateway:GET", "which region it is in and which endpoints serve it is left out", "symlink"] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(promise), "{promise}: {help}");
    }
}
