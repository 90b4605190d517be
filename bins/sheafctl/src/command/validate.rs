//! `sheafctl validate`

use std::path::PathBuf;

use serde_json::json;
use sheaf_pipeline::check::check;
use sheaf_pipeline::plan::Plan;
use sheaf_retry::Code;
use sheaf_terminal::{Console, Failure, counted};

use super::file;

pub(super) fn run(
    files: &[PathBuf],
    deny_warnings: bool,
    as_json: bool,
    console: &mut Console,
) -> Result<(), Failure> {
    let (mut answers, mut errors, mut warnings) = (Vec::new(), 0, 0);
    for path in files {
        let (name, text) = file::read(path)?;
        let result = check(&name, &text);
        let report = result.as_ref().map_or_else(|report| report, |checked| &checked.warnings);
        errors += report.errors();
        warnings += report.warnings();
        if as_json {
            answers.push(report.to_json());
        } else if !report.is_empty() {
            file::show(report, console);
        }
        if let Ok(checked) = &result
            && !as_json
        {
            let plan = Plan::new(&checked.pipeline);
            let components = counted(plan.components.len() as u64, "component");
            let edges = counted(plan.edges.len() as u64, "edge");
            let tests = counted(checked.pipeline.tests.len() as u64, "test");
            console.data(&format!("{name}: {components}, {edges}, {tests}\n"))?;
        }
    }
    if as_json {
        console.json(&json!({ "files": answers, "errors": errors, "warnings": warnings }))?;
    }
    if errors == 0 && !(deny_warnings && warnings > 0) {
        return Ok(());
    }
    let found = match warnings {
        0 => counted(errors as u64, "error"),
        _ => format!(
            "{} and {}",
            counted(errors as u64, "error"),
            counted(warnings as u64, "warning")
        ),
    };
    let failure = Failure::new(Code::InvalidArgument, format!("found {found}"));
    Err(failure.help("correct what is marked above"))
}
