//! The JSON Schema, read by another reader than ours.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sheaf_pipeline::check::check;
use sheaf_pipeline::diagnostics::Rule;
use sheaf_pipeline::spec::json_schema;

use crate::examples::examples;

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(json_schema()).expect("a schema")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn the_schema_is_one_of_draft_2020_12() {
    assert_eq!(json_schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::meta::validate(json_schema()).unwrap();
}

#[test]
fn editors_accept_every_example() {
    let validator = validator();
    for (name, text) in examples() {
        let errors: Vec<_> = validator.iter_errors(&yaml(&text)).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

/// What the schema can say, both readers say.
#[test]
fn editors_refuse_what_sheafctl_refuses() {
    let validator = validator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/problems");
    let mut refused = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let Ok(value) = serde_saphyr::from_str::<Value>(&text) else { continue };
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let report = match check("x", &text) {
            Ok(checked) => checked.warnings,
            Err(report) => report,
        };
        let of_schema = report.diagnostics().iter().any(|one| {
            matches!(
                one.rule,
                Rule::UnknownField | Rule::MissingField | Rule::WrongType | Rule::UnknownKind
            )
        });
        assert!(!of_schema || !validator.is_valid(&value), "{}", path.display());
        refused += usize::from(of_schema);
    }
    assert!(refused > 8, "{refused}");
}

/// One field after the other of a good file is made wrong: both readers notice.
#[test]
fn both_readers_agree_on_every_field_that_is_changed() {
    let validator = validator();
    let mut tried = 0;
    for (name, text) in examples() {
        let good = yaml(&text);
        for pointer in pointers(&good, String::new()) {
            for wrong in [json!([[]]), json!({ "zebra": 1 }), json!(true), json!(-7), json!("~ ~")]
            {
                let mut changed = good.clone();
                *changed.pointer_mut(&pointer).unwrap() = wrong.clone();
                let editor = validator.is_valid(&changed);
                let ours = check(&name, &changed.to_string());
                // We may refuse more than a schema can, never less.
                assert!(editor || ours.is_err(), "{name} {pointer} {wrong}");
                let shape = ours.as_ref().err().is_some_and(|report| {
                    report.diagnostics().iter().all(|one| {
                        matches!(
                            one.rule,
                            Rule::UnknownField | Rule::MissingField | Rule::UnknownKind
                        )
                    })
                });
                assert!(!(editor && shape), "{name} {pointer} {wrong} {ours:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
}

fn pointers(value: &Value, at: String) -> Vec<String> {
    let mut all = Vec::new();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                all.extend(pointers(value, format!("{at}/{key}")));
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                all.extend(pointers(value, format!("{at}/{index}")));
            }
        }
        _ => {}
    }
    all.push(at);
    all
}
