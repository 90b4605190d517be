//! Components by themselves.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn config(dir: &Path, text: &str) -> String {
    let path = dir.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn component(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sheaf-component"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const NUMBERS: &str = "{columns: [{name: n, values: sequence}], rows: 7, batchRows: 3}";

#[test]
fn a_source_prints_what_it_makes_and_goes_on_from_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (config(dir.path(), NUMBERS), dir.path().join("state"));
    let state = state.to_str().unwrap();
    let run = |rows: &str| {
        let arguments = ["source", "generate", "-c", &config, "--state", state, "--rows", rows];
        let done = component(&[&arguments[..], &["--health", "none"]].concat(), "");
        assert!(done.status.success(), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    assert_eq!(run("4"), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    // Row 3 is of a batch that was cut.
    assert_eq!(run("100"), "{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n{\"n\":6}\n");
    assert_eq!(run("100"), "");
}

#[test]
fn a_sink_takes_lines_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let config = config(dir.path(), &format!("{{path: {}, format: csv}}", out.display()));
    let lines = "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}";
    let done = component(&["sink", "file", "-c", &config, "--health", "none"], lines);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let files = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.is_file()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), "a,b\n1,x\n2,y\n");
}

#[test]
fn a_bad_configuration_ends_with_2_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = config(dir.path(), "{columns: [], rowz: 7}");
    for (arguments, expected) in [
        (vec!["source", "generate", "-c", &wrong], "unknown field `rowz`"),
        (vec!["source", "nothing"], "write one of kafka, file"),
        (vec!["source", "generate", "-c", "/nowhere.yaml"], "--config /nowhere.yaml"),
    ] {
        let done = component(&[&arguments[..], &["--health", "none"]].concat(), "");
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    // A place that may come back is no bad configuration.
    let absent = config(dir.path(), "{path: /nowhere/x.csv}");
    let done = component(&["source", "file", "-c", &absent, "--health", "none"], "");
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
}

#[test]
fn the_list_has_every_kind() {
    let list = text(&component(&["list"], "").stdout);
    for kind in ["generate", "filter", "stdout", "adbc"] {
        assert!(list.contains(kind), "{list}");
    }
}
