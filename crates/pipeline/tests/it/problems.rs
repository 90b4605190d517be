//! Everything that can be wrong with a file, as it is shown: `problems/NAME.yaml`
//! gives `problems/NAME.txt`, to the line and column.

use std::fs;
use std::path::{Path, PathBuf};

use sheaf_pipeline::check::check;
use sheaf_pipeline::diagnostics::{MAX_PROBLEMS, Report, Rule, Style};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/problems")
}

fn report(name: &str, text: &str) -> Report {
    match check(name, text) {
        Ok(checked) => checked.warnings,
        Err(report) => report,
    }
}

/// Names and texts of all cases.
fn cases() -> Vec<(String, String)> {
    let files = fs::read_dir(folder())
        .expect("the folder is part of the source")
        .map(|entry| entry.expect("an entry").path());
    let mut cases: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("a text"))
        })
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_problem_is_shown_as_it_is_written_down() {
    let mut different = Vec::new();
    for (name, text) in cases() {
        let shown = report(&name, &text).render(Style::default());
        let expected = folder().join(&name).with_extension("txt");
        if fs::read_to_string(&expected).unwrap_or_default() != shown {
            // To be looked at, and copied if it is right.
            let actual = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name).with_extension("txt");
            fs::write(&actual, &shown).unwrap();
            different.push(format!("{} is not {}:\n{shown}", actual.display(), expected.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_rule_has_a_case() {
    let mut missing: Vec<Rule> = Rule::ALL.to_vec();
    for (name, text) in cases() {
        let report = report(&name, &text);
        missing.retain(|rule| report.diagnostics().iter().all(|one| one.rule != *rule));
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_place_is_within_the_file_and_its_line_fits_its_byte() {
    for (name, text) in cases() {
        for one in report(&name, &text).diagnostics() {
            let before = text.get(..one.span.start).unwrap_or_else(|| panic!("{name}: {one:?}"));
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            let place = (one.span.line as usize, one.span.column as usize);
            assert_eq!(place, (line, column), "{name}: {one:?}");
        }
    }
}

#[test]
fn no_secret_is_shown() {
    let secrets =
        ["hunter2", "swordfish", "pa55", "s3 cr3t", "AKEY123", "TKEY456", "1234", "one", "two"];
    let text = fs::read_to_string(folder().join("secrets.yaml")).unwrap();
    let report = report("secrets.yaml", &text);
    assert_eq!(report.errors(), 10);
    let texts = [report.render(Style::default()), report.to_json().to_string(), report.to_string()];
    for secret in secrets.iter().filter(|secret| secret.len() > 3) {
        assert!(text.contains(secret), "{secret}");
        for shown in &texts {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[test]
fn programs_get_the_same_as_json() {
    let text = "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {name: x, nme: y}\n\
                sources: [{id: a, command: [./a]}]\nsinks: [{id: b, kind: stdout, inputs: [a]}]\n";
    let json = report("x.yaml", text).to_json();
    let expected = serde_json::json!({
        "file": "x.yaml",
        "errors": 1,
        "warnings": 0,
        "left_out": 0,
        "diagnostics": [{
            "severity": "error",
            "rule": "unknown-field",
            "message": "unknown field `nme`",
            "line": 3,
            "column": 21,
            "end_line": 3,
            "end_column": 24,
            "related": [],
            "notes": [],
            "help": "the fields here are `description`, `labels`, `name`",
        }],
    });
    assert_eq!(json, expected);
}

#[test]
fn a_thousand_problems_are_enough() {
    let mut text = "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {name: x}\n".to_owned();
    text += "sources: [{id: a, command: [./a]}]\nsinks: [{id: b, kind: stdout, inputs: [a]}]\n";
    (0..3_000).for_each(|n| text += &format!("zzzzzzzzz{n}: 1\n"));
    let report = report("x.yaml", &text);
    assert_eq!(report.diagnostics().len(), MAX_PROBLEMS);
    assert_eq!(report.to_json()["left_out"], 2_000);
    assert!(report.render(Style::default()).ends_with("… and 2900 more\n\n"));
}
