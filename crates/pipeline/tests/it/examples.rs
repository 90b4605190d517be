//! The pipelines in `examples/pipelines`: every one can be used as it is.

use std::fs;
use std::path::Path;

use sheaf_pipeline::check::{check, first_pipeline};
use sheaf_pipeline::diagnostics::Style;
use sheaf_pipeline::graph::{Format, draw};
use sheaf_pipeline::plan::Plan;

/// Names and texts of all examples.
pub(crate) fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/pipelines");
    let files = fs::read_dir(folder)
        .expect("the folder is part of the source")
        .map(|entry| entry.expect("an entry").path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("a text"))
        })
        .collect()
}

#[test]
fn every_example_is_valid_and_can_be_planned_and_drawn() {
    let examples = examples();
    assert!(examples.len() >= 7);
    for (name, text) in examples {
        let checked =
            check(&name, &text).unwrap_or_else(|r| panic!("{}", r.render(Style::default())));
        let warnings = checked.warnings.render(Style::default());
        assert!(checked.warnings.is_empty(), "{warnings}");
        assert_eq!(checked.pipeline.metadata.name, name.trim_end_matches(".yaml"));
        let plan = Plan::new(&checked.pipeline);
        for format in Format::ALL {
            let drawn = draw(&plan, format);
            assert!(plan.components.iter().all(|one| drawn.contains(&one.id)), "{name} {format}");
        }
    }
}

#[test]
fn every_built_in_configuration_of_an_example_has_its_type() {
    let mut kinds = Vec::new();
    for (name, text) in examples() {
        let pipeline = check(&name, &text).unwrap().pipeline;
        for source in &pipeline.sources {
            kinds.extend(source.source().unwrap().map(|config| format!("{config:?}")));
        }
        for processor in &pipeline.processors {
            kinds.extend(processor.processor().unwrap().map(|config| format!("{config:?}")));
        }
        for sink in &pipeline.sinks {
            kinds.extend(sink.sink().unwrap().map(|config| format!("{config:?}")));
        }
    }
    assert!(kinds.iter().any(|kind| kind.starts_with("Kafka(KafkaSource")), "{kinds:?}");
    assert!(kinds.iter().any(|kind| kind.starts_with("Adbc(AdbcSink")), "{kinds:?}");
    assert!(kinds.len() > 15, "{kinds:?}");
}

#[test]
fn what_is_written_reads_the_same_again() {
    for (name, text) in examples() {
        let pipeline = check(&name, &text).unwrap().pipeline;
        // JSON is YAML.
        let written = serde_json::to_string(&pipeline).unwrap();
        let again = check(&name, &written).unwrap_or_else(|report| panic!("{written}\n{report}"));
        assert_eq!(again.pipeline, pipeline, "{name}");
    }
}

#[test]
fn a_first_pipeline_has_the_name_that_was_asked_for() {
    let text = first_pipeline("shop-1").unwrap();
    assert_eq!(check("x", &text).unwrap().pipeline.metadata.name, "shop-1");
    for name in ["", "Shop", "a b", "a: b", "-a", &"x".repeat(64)] {
        assert_eq!(first_pipeline(name), None, "{name}");
    }
}
