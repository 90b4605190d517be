//! `sheafctl` as people and programs run it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[allow(dead_code, reason = "the tests of the drivers use more of it")]
#[path = "../../../../crates/drivers/tests/containers/api.rs"]
mod api;
mod chaos;
mod cluster;
mod console;
mod containers;
mod durable;
mod encrypted;
#[path = "../../../../crates/drivers/tests/containers/engine.rs"]
mod engine;
mod examples;
mod flows;
mod live;
mod passes;
mod pipelines;
mod printed;
mod python;
mod reload;
mod rendered;
mod servers;
mod soak;
mod tap;
mod top;
#[cfg(feature = "otlp")]
mod traces;
mod unit_tests;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn sheafctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sheafctl"))
        .args(arguments)
        .output()
        .expect("it was built for this test")
}

fn sheafctl_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sheafctl"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("it was built for this test")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal ended it")
}

fn data(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it writes UTF-8")
}

fn notes(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it writes UTF-8")
}

fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelines");
    root.join(name).display().to_string()
}

/// A file of its own for a test, with this text.
fn written(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the folder is for tests");
    path.display().to_string()
}

const WRONG: &str = "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {name: x}\n\
sources: [{id: a, command: [./a]}]\nsinks: [{id: b, kind: stdout, input: [a]}]\n";

#[test]
fn good_files_are_counted_and_end_with_zero() {
    let (linear, fan_in) = (example("linear.yaml"), example("fan-in.yaml"));
    let output = sheafctl(&["validate", &linear, &fan_in]);
    assert_eq!(code(&output), 0);
    let expected = format!(
        "{linear}: 3 components, 2 edges, 1 test\n{fan_in}: 5 components, 4 edges, 1 test\n"
    );
    assert_eq!((data(&output), notes(&output)), (expected, String::new()));
}

#[test]
fn what_is_wrong_goes_to_standard_error_and_the_exit_code_says_so() {
    let file = written("wrong.yaml", WRONG);
    let output = sheafctl(&["validate", &file]);
    assert_eq!((code(&output), data(&output)), (2, String::new()));
    let notes = notes(&output);
    assert!(notes.contains("wrong.yaml:5:31\n"), "{notes}");
    assert!(notes.contains("did you mean `inputs`?"), "{notes}");
    assert!(notes.contains("error: found 2 errors and 1 warning\nhelp: "), "{notes}");
}

#[test]
fn programs_get_one_document_and_the_same_exit_code() {
    let file = written("wrong-too.yaml", WRONG);
    let output = sheafctl(&["validate", "--json", &example("linear.yaml"), &file]);
    assert_eq!(code(&output), 2);
    let answer: serde_json::Value = serde_json::from_str(&data(&output)).unwrap();
    assert_eq!((answer["errors"].as_u64(), answer["warnings"].as_u64()), (Some(2), Some(1)));
    assert_eq!(answer["files"][0]["diagnostics"], serde_json::json!([]));
    assert_eq!(answer["files"][1]["diagnostics"][1]["line"], 5);
    let failure: serde_json::Value = serde_json::from_str(&notes(&output)).unwrap();
    assert_eq!(failure["error"]["code"], "invalid_argument");
}

#[test]
fn warnings_fail_only_where_that_is_asked_for() {
    let text = WRONG.replace("input:", "inputs:");
    let text = text.replace("sources: [", "sources: [{id: spare, command: [./a]}, ");
    let file = written("warned.yaml", &text);
    let output = sheafctl(&["validate", &file]);
    assert_eq!(code(&output), 0);
    assert!(notes(&output).contains("warning[unread]: nobody reads `spare`"));
    assert_eq!(code(&sheafctl(&["validate", "--deny-warnings", &file])), 2);
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_name() {
    let output = sheafctl(&["validate", "no-such.yaml", &example("linear.yaml")]);
    assert_eq!(code(&output), 3);
    assert!(data(&output).contains("linear.yaml: 3 components"), "the others are looked at");
    assert!(notes(&output).starts_with("error: no-such.yaml cannot be read: "));
}

#[test]
fn standard_input_is_read_where_the_file_is_a_dash() {
    let text = WRONG.replace("input:", "inputs:");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sheafctl"));
    let command = command.args(["graph", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(data(&output).starts_with("x\n\na  source a\n└─> b\n"), "{}", data(&output));
}

#[test]
fn a_hundred_megabytes_are_refused_without_being_read() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("huge.yaml");
    // A sparse file: nothing is written.
    std::fs::File::create(&file).unwrap().set_len(100_000_000).unwrap();
    let output = sheafctl(&["validate", &file.display().to_string()]);
    assert_eq!(code(&output), 2);
    assert!(notes(&output).contains("over the limit of 4194304"), "{}", notes(&output));
}

#[test]
fn pictures_and_plans_come_in_every_format() {
    let diamond = example("diamond.yaml");
    let text = data(&sheafctl(&["graph", &diamond]));
    assert!(text.contains("├─> suspicious\n└─> plain  [hash(card)]\n"), "{text}");
    let dot = data(&sheafctl(&["graph", "-f", "dot", &diamond]));
    assert!(dot.starts_with("digraph \"diamond\" {"), "{dot}");
    let svg = data(&sheafctl(&["graph", "--format", "svg", &diamond]));
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    let plan: serde_json::Value =
        serde_json::from_str(&data(&sheafctl(&["graph", "--json", &diamond]))).unwrap();
    assert_eq!(plan["plan"]["edges"][0]["id"], "payments:suspicious");
    assert_eq!(plan["start_order"][0], serde_json::json!(["combined"]));
    let unknown = sheafctl(&["graph", "-f", "png", &diamond]);
    assert_eq!(code(&unknown), 2);
    assert!(notes(&unknown).contains("use text, dot or svg"), "{}", notes(&unknown));
}

#[test]
fn manifests_are_printed_whole_or_without_their_secrets() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = own.join("../../crates/drivers/tests/own-components.yaml").display().to_string();
    let output = sheafctl(&["render", &own, "--namespace", "shop", "--image", "example/c:1"]);
    let (yaml, notes) = (data(&output), notes(&output));
    assert_eq!(code(&output), 0, "{notes}");
    assert_eq!(yaml.matches("\nkind: ").count(), yaml.matches("\n  namespace: shop\n").count());
    assert!(yaml.contains("image: example/c:1\n"), "{yaml}");
    assert!(notes.contains("secret own-components-references of namespace shop"), "{notes}");
    assert!(notes.contains("\n  TICKER_TOKEN: the variable TICKER_TOKEN"), "{notes}");
    let kinds = |secrets: &str| {
        let yaml = data(&sheafctl(&["render", &own, "--secrets", secrets]));
        (yaml.matches("kind: Secret\n").count(), yaml.matches("kind: Service\n").count())
    };
    assert_eq!((kinds("omit"), kinds("only"), kinds("include")), ((0, 5), (5, 0), (5, 5)));
}

#[test]
fn what_a_docker_engine_is_asked_for_is_printed_for_people() {
    let diamond = example("diamond.yaml");
    let output = sheafctl(&["render", "--driver", "docker", "--image", "example/c:1", &diamond]);
    assert_eq!(code(&output), 0, "{}", notes(&output));
    let requests: serde_json::Value = serde_json::from_str(&data(&output)).unwrap();
    let names = requests.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap());
    let names: Vec<&str> = names.collect();
    assert_eq!(names.len(), 6);
    assert!(names.contains(&"sheaf.diamond.plain.2.1"), "{names:?}");
    assert_eq!(requests[0]["container"]["Image"], "example/c:1");
}

#[test]
fn what_cannot_be_rendered_ends_with_two_and_says_why() {
    let file = written("program.yaml", &WRONG.replace("input:", "inputs:"));
    let output = sheafctl(&["render", &file]);
    assert_eq!((code(&output), data(&output)), (2, String::new()));
    assert!(notes(&output).contains("component `a` has no image"), "{}", notes(&output));
    let output = sheafctl(&["render", &example("linear.yaml"), "--namespace", "No"]);
    assert_eq!(code(&output), 2);
    assert!(notes(&output).contains("cannot be a namespace"), "{}", notes(&output));
}

#[test]
fn a_first_pipeline_is_valid_and_is_never_written_over() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("first-one.yaml");
    drop(std::fs::remove_file(&file));
    let file = file.display().to_string();
    let output = sheafctl(&["init", &file]);
    assert_eq!((code(&output), data(&output)), (0, String::new()), "{}", notes(&output));
    assert_eq!(code(&sheafctl(&["validate", "--deny-warnings", &file])), 0);
    let again = sheafctl(&["init", "--json", &file]);
    assert_eq!(code(&again), 4);
    assert!(notes(&again).contains("\"already_exists\""), "{}", notes(&again));
    let bad = sheafctl(&["init", "x.yaml", "--name", "No Name"]);
    assert_eq!(code(&bad), 2);
}

#[test]
fn the_schema_and_the_completions_are_printed_whole() {
    let schema: serde_json::Value = serde_json::from_str(&data(&sheafctl(&["schema"]))).unwrap();
    assert_eq!(schema["title"], "Sheaf pipeline");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = data(&sheafctl(&["completions", shell]));
        assert!(script.contains("validate") && script.contains("sheafctl"), "{shell}");
    }
}

#[test]
fn every_command_has_examples_in_its_help() {
    let all = [
        "validate",
        "graph",
        "render",
        "schema",
        "init",
        "completions",
        "run",
        "server",
        "start",
        "ps",
        "status",
        "logs",
        "stop",
        "restart",
        "reload",
        "chaos",
        "runs",
        "console",
    ];
    for command in all {
        let help = data(&sheafctl(&[command, "--help"]));
        assert!(help.contains("Examples:\n") || help.contains("Examples:\r\n"), "{help}");
    }
    let help = data(&sheafctl(&["--help"]));
    assert!(help.contains("Exit codes:\n    0  success\n"), "{help}");
}
