//! `sidegate discover --output`: when the file is replaced, and when it stays.

use std::fs;

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
fn a_directory_that_is_not_there_is_named() {
    let server = account(private(0..1));
    let program = Program::asking(&server.url()).with_keys();
    let file = program.path("nowhere/ids");
    let ended = program.run(&["discover", "--output", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("nowhere/ids: "), "{ended:?}");
}

#[test]
fn the_help_is_a_manual() {
    let help = Program::new().run(&["discover", "--help"]).out;
    for promise in ["apigateway:GET", "which region it is in and which endpoints serve it is left out", "symlink"] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(promise), "{promise}: {help}");
    }
}
