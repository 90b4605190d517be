//! `sheafctl test`

use serde_json::Value;

use crate::{code, data, example, notes, sheafctl, written};

const FILE: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: orders}
sources:
  - {id: orders, kind: generate, config: {columns: [{name: id, values: sequence}]}}
processors:
  - {id: large, kind: filter, inputs: [orders], config: {where: amount >= 400}}
sinks:
  - {id: print, kind: stdout, inputs: [large]}
tests:
  - name: large ones are kept
    inputs: {orders: [{id: 1, amount: 399.99}, {id: 2, amount: 400}]}
    outputs: {print: [{id: 2, amount: 400}]}
  - name: small ones too
    inputs: {orders: [{id: 1, amount: 399.99}, {id: 2, amount: 400}]}
    outputs: {large: [{id: 1, amount: 399.99}, {id: 2, amount: 401}]}
";

#[test]
fn the_tests_of_the_examples_pass() {
    for name in ["linear.yaml", "fan-in.yaml", "kafka-to-duckdb.yaml"] {
        let file = example(name);
        let output = sheafctl(&["test", &file]);
        assert_eq!(code(&output), 0, "{}{}", data(&output), notes(&output));
        let summary = format!("{file}: 1 test, 1 passed, 0 failed\n");
        assert!(data(&output).ends_with(&summary), "{}", data(&output));
    }
}

#[test]
fn a_test_that_fails_says_where_and_the_exit_code_is_1() {
    let output = sheafctl(&["test", &written("failing.yaml", FILE)]);
    let expected = "\
ok      large ones are kept
FAILED  small ones too
        large, row 1, column amount: expected 399.99, got 400.0
        large, row 1, column id: expected 1, got 2
        large, row 2 is missing: {\"amount\":401,\"id\":2}
";
    let data = data(&output);
    assert!(
        data.starts_with(expected) && data.ends_with(": 2 tests, 1 passed, 1 failed\n"),
        "{data}"
    );
    assert_eq!((code(&output), notes(&output).lines().next()), (1, Some("error: 1 test failed")));
}

#[test]
fn one_test_is_chosen_by_its_name_and_programs_get_one_document() {
    let file = written("chosen.yaml", FILE);
    let output = sheafctl(&["test", &file, "--filter", "kept", "--json"]);
    let answer: Value = serde_json::from_str(&data(&output)).unwrap();
    assert_eq!((code(&output), &answer["passed"], &answer["failed"]), (0, &1.into(), &0.into()));
    let output = sheafctl(&["test", &file, "--json"]);
    let answer: Value = serde_json::from_str(&data(&output)).unwrap();
    let first = &answer["tests"][1]["differences"][0];
    assert_eq!((code(&output), &first["column"], &first["row"]), (1, &"amount".into(), &1.into()));
    let output = sheafctl(&["test", &file, "--filter", "none such"]);
    let text = notes(&output);
    assert_eq!(code(&output), 3);
    assert!(text.contains("its tests are: large ones are kept; small ones too"), "{text}");
}
