//! From the text of a file to a pipeline that can run, or to everything that
//! is wrong with it.
//!
//! Two passes over one tree that knows its places: `shape` holds it against
//! the JSON Schema, the others look at what no schema can say. Each goes as
//! far as it can, so that one mistake does not hide another.

mod cases;
mod conflict;
mod graph;
mod outline;
mod policies;
mod ports;
mod secrets;
mod shape;

use crate::diagnostics::{Diagnostic, Report, Rule, Severity};
use crate::spec::{Node, Pipeline, forms};

pub use outline::{MAX_COMPONENTS, MAX_INSTANCES, MAX_STREAMS};

/// A specification that has passed every check.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What it says.
    pub pipeline: Pipeline,
    /// What it may not have meant; no errors among them.
    pub warnings: Report,
}

/// Reads the text of a pipeline's file. `file` is the name to show.
///
/// Pure: files, variables and secrets that the text refers to are not looked at.
/// Takes time and memory in proportion to the text, which may have
/// [`MAX_DOCUMENT_BYTES`](crate::spec::MAX_DOCUMENT_BYTES).
///
/// # Errors
/// [`Report`] with all problems at once, in the order of their places; with one
/// only, where the text is no YAML or over a limit.
pub fn check(file: &str, text: &str) -> Result<Checked, Report> {
    let node = Node::read(text).map_err(|problem| {
        // The line may hold a secret, and nothing is known of its parts.
        let hidden = secrets::without_values(text);
        Report::new(file, &hidden, vec![*problem])
    })?;
    let mut found = Vec::new();
    shape::check(&node, &mut found);
    let outline = outline::Outline::of(&node);
    outline.check(&mut found);
    graph::check(&outline, &mut found);
    policies::check(&outline, &mut found);
    ports::check(&outline, &mut found);
    conflict::check(&outline, &mut found);
    cases::check(&outline, &mut found);
    let hidden = secrets::check(&node, text, &mut found);
    let failed = found.iter().any(|one| one.severity == Severity::Error);
    let report = |found| Report::new(file, &hidden, found);
    if failed {
        return Err(report(found));
    }
    match serde_json::from_value(node.to_json()) {
        Ok(pipeline) => Ok(Checked { pipeline, warnings: report(found) }),
        // The passes above let something through that the types refuse.
        Err(error) => {
            let message = format!("cannot be read: {error}");
            found.push(Diagnostic::error(Rule::InvalidValue, node.pointer(), message));
            Err(report(found))
        }
    }
}

/// The text of a first pipeline of this name, for `sheafctl init`; `None` where
/// the name cannot be one.
pub fn first_pipeline(name: &str) -> Option<String> {
    let text = include_str!("check/first.yaml").replace("name: NAME", &format!("name: {name}"));
    let good = forms::form(forms::IDENTIFIER).is_some_and(|form| (form.accepts)(name));
    (good && check("first.yaml", &text).is_ok()).then_some(text)
}
