//! `sheafctl validate`

use std::path::PathBuf;

use serde_json::{Value, json};
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
    let mut seen = Seen::default();
    for path in files {
        match file::read(path) {
            Ok((name, text)) => seen.file(&name, &text, as_json, console)?,
            Err(failure) => seen.unread(failure, as_json, console),
        }
    }
    if as_json {
        let Seen { answers, errors, warnings, .. } = &seen;
        console.json(&json!({ "files": answers, "errors": errors, "warnings": warnings }))?;
    }
    seen.end(deny_warnings)
}

/// What the files came to so far.
#[derive(Default)]
struct Seen {
    answers: Vec<Value>,
    errors: usize,
    warnings: usize,
    unread: Option<Failure>,
}

impl Seen {
    fn file(
        &mut self,
        name: &str,
        text: &str,
        as_json: bool,
        console: &mut Console,
    ) -> Result<(), Failure> {
        let result = check(name, text);
        let report = result.as_ref().map_or_else(|report| report, |checked| &checked.warnings);
        self.errors += report.errors();
        self.warnings += report.warnings();
        if as_json {
            self.answers.push(report.to_json());
            return Ok(());
        }
        if !report.is_empty() {
            file::show(report, console);
        }
        let Ok(checked) = &result else { return Ok(()) };
        let plan = Plan::new(&checked.pipeline);
        let components = counted(plan.components.len() as u64, "component");
        let edges = counted(plan.edges.len() as u64, "edge");
        let tests = counted(checked.pipeline.tests.len() as u64, "test");
        console.data(&format!("{name}: {components}, {edges}, {tests}\n"))
    }

    /// The other files are looked at all the same.
    fn unread(&mut self, failure: Failure, as_json: bool, console: &mut Console) {
        if !as_json && self.unread.is_some() {
            console.note(failure.to_text().trim_end());
        }
        self.unread.get_or_insert(failure);
    }

    fn end(self, deny_warnings: bool) -> Result<(), Failure> {
        if let Some(failure) = self.unread {
            return Err(failure);
        }
        if self.errors == 0 && !(deny_warnings && self.warnings > 0) {
            return Ok(());
        }
        let errors = counted(self.errors as u64, "error");
        let found = match self.warnings {
            0 => errors,
            count => format!("{errors} and {}", counted(count as u64, "warning")),
        };
        let failure = Failure::new(Code::InvalidArgument, format!("found {found}"));
        Err(failure.help("correct what is marked above"))
    }
}
