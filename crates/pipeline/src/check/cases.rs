//! Unit tests in the file: do they fit the pipeline?

use std::collections::{HashMap, HashSet};

use super::outline::Outline;
use crate::diagnostics::{Diagnostic, Rule, closest};
use crate::spec::{Entry, Node, NodeValue, Role};

/// Checks the tests of the file.
pub(super) fn check(outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
    let tests = outline.root.get("tests").map_or(&[][..], Node::items);
    let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
    if !tests.is_empty() {
        for (reader, part) in outline.parts.iter().enumerate() {
            for source in part.links.iter().filter_map(|link| link.source) {
                readers.entry(source).or_default().push(reader);
            }
        }
    }
    let mut names = HashMap::new();
    for test in tests {
        if let Some(name) = test.get("name")
            && let Some(text) = name.text()
            && let Some(first) = names.insert(text, name.span)
        {
            let message = format!("two tests are called `{text}`");
            let problem = Diagnostic::error(Rule::Test, name.span, message);
            found.push(problem.relate(first, "the first one"));
        }
        let inputs = inputs(outline, test, found);
        outputs(outline, test, &inputs, &readers, found);
    }
}

/// The components that a test speaks for.
fn inputs(outline: &Outline<'_>, test: &Node, found: &mut Vec<Diagnostic>) -> Vec<usize> {
    let mut known = Vec::new();
    for entry in test.get("inputs").map_or(&[][..], Node::entries) {
        rows(entry, found);
        match outline.by_id.get(entry.key.as_str()) {
            Some(index) if outline.parts[*index].role == Role::Sink => {
                let message = format!("`{}` is a sink, and sends nothing", entry.key);
                let problem = Diagnostic::error(Rule::Test, entry.key_span, message);
                found.push(problem.help("name the component that it reads"));
            }
            Some(index) => known.push(*index),
            None => unknown(outline, entry, |role| role != Role::Sink, found),
        }
    }
    known
}

fn outputs(
    outline: &Outline<'_>,
    test: &Node,
    inputs: &[usize],
    readers: &HashMap<usize, Vec<usize>>,
    found: &mut Vec<Diagnostic>,
) {
    let reached = after(inputs, readers);
    for entry in test.get("outputs").map_or(&[][..], Node::entries) {
        rows(entry, found);
        let Some(index) = outline.by_id.get(entry.key.as_str()) else {
            unknown(outline, entry, |role| role != Role::Source, found);
            continue;
        };
        let given = test.at(&["inputs"]).and_then(|inputs| inputs.entry(&entry.key));
        if let Some(given) = given {
            let message = format!("`{}` is given its rows, and cannot be looked at", entry.key);
            let problem = Diagnostic::error(Rule::Test, entry.key_span, message);
            found.push(problem.relate(given.key_span, "given here"));
        } else if !reached.contains(index) && !inputs.is_empty() {
            let message = format!("no row of the test comes to `{}`", entry.key);
            let problem = Diagnostic::error(Rule::Test, entry.key_span, message);
            let names: Vec<&str> = inputs.iter().map(|index| outline.parts[*index].id).collect();
            found.push(problem.note(format!("the rows begin at {}", names.join(", "))));
        }
    }
}

/// Everything that rows of these components come to.
fn after(starts: &[usize], readers: &HashMap<usize, Vec<usize>>) -> HashSet<usize> {
    let mut reached = HashSet::new();
    let mut stack: Vec<usize> = starts.to_vec();
    while let Some(at) = stack.pop() {
        for next in readers.get(&at).into_iter().flatten() {
            if reached.insert(*next) {
                stack.push(*next);
            }
        }
    }
    reached
}

fn unknown(
    outline: &Outline<'_>,
    entry: &Entry,
    fits: impl Fn(Role) -> bool,
    found: &mut Vec<Diagnostic>,
) {
    let message = format!("there is no component `{}`", entry.key);
    let problem = Diagnostic::error(Rule::Test, entry.key_span, message);
    let names = outline.parts.iter().filter(|part| fits(part.role)).map(|part| part.id);
    found.push(match closest(&entry.key, names) {
        Some(like) => problem.help(format!("did you mean `{like}`?")),
        None => problem,
    });
}

/// Rows hold plain values; all rows of a component have the same columns.
fn rows(entry: &Entry, found: &mut Vec<Diagnostic>) {
    for row in entry.value.items() {
        for value in row.entries() {
            if matches!(value.value.value, NodeValue::Map(_) | NodeValue::List(_)) {
                let what = value.value.what();
                let message = format!("`{}` is {what}", value.key);
                let problem = Diagnostic::error(Rule::Test, value.key_span, message);
                found.push(problem.label("a text, a number, true, false or null expected"));
            }
        }
    }
    let Some(first) = entry.value.items().first().filter(|row| !row.entries().is_empty()) else {
        return;
    };
    for row in &entry.value.items()[1..] {
        let lacks = first.entries().iter().find(|one| row.entry(&one.key).is_none());
        let more = row.entries().iter().find(|one| first.entry(&one.key).is_none());
        let (span, text) = match (more, lacks) {
            (Some(more), _) => (more.key_span, format!("the first row has no `{}`", more.key)),
            (None, Some(lacks)) => (row.pointer(), format!("the row has no `{}`", lacks.key)),
            (None, None) => continue,
        };
        let problem = Diagnostic::error(Rule::Test, span, text);
        found.push(problem.help("write `null` where there is no value"));
    }
}
