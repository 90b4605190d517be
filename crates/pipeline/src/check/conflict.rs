//! Settings of one component that exclude each other.

use std::collections::HashMap;

use sheaf_retry::HumanDuration;

use super::outline::{Outline, Part};
use crate::diagnostics::{Diagnostic, Rule};
use crate::spec::{Entry, Node, NodeValue, Role};

/// Checks each component by itself.
pub(super) fn check(outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
    for part in &outline.parts {
        orders(part, found);
        replicas(part, found);
        reserved(part, found);
        names(part, found);
        built_in(part, found);
        unordered(part, found);
        calls(part, found);
    }
}

/// A query that is gone on with by a count of rows: only an order makes that the same rows.
fn unordered(part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    let Some(config) = part.config().filter(|_| part.is(Role::Source, "adbc")) else { return };
    let Some(query) = config.get("query") else { return };
    let words = query.text().unwrap_or_default().to_ascii_lowercase();
    let words: Vec<&str> = words.split_whitespace().collect();
    if config.get("cursor").is_some() || words.windows(2).any(|pair| pair == ["order", "by"]) {
        return;
    }
    let message = format!("the rows of `{}` are in no order", part.id);
    let problem = Diagnostic::warning(Rule::Conflict, query.span, message);
    let problem = problem.note(
        "started again, it leaves out as many rows as were read: in another order those are others",
    );
    found.push(
        problem.help("give it a `cursor`, or end the query with ORDER BY and a unique column"),
    );
}

/// Calls that may take longer than the component may be silent.
fn calls(part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    // A source that waits for an answer is not silent.
    if part.role == Role::Source || !matches!(part.kind, Some("exec" | "http")) {
        return;
    }
    let call = part.node.at(&["config", "timeout"]);
    let health = part.node.at(&["health", "timeout"]);
    let Some(span) = call.or(health).map(|node| node.span) else { return };
    let usual: Option<HumanDuration> = "30s".parse().ok();
    let (Some(may_take), Some(silent)) = (duration(call).or(usual), duration(health).or(usual))
    else {
        return;
    };
    if may_take <= silent {
        return;
    }
    let message = format!(
        "one call of `{}` may take {may_take}, and it counts as hung after {silent}",
        part.id
    );
    let problem = Diagnostic::warning(Rule::Conflict, span, message);
    found.push(problem.help(format!(
        "set `timeout` of `config` to {silent} or less, or `timeout` of `health` to more than \
         {may_take}"
    )));
}

fn duration(node: Option<&Node>) -> Option<HumanDuration> {
    node.and_then(Node::text).and_then(|text| text.parse().ok())
}

/// Pairs of durations of which the first is to be the shorter one.
fn orders(part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    let window = ["config", "window", "time"];
    for (path, less, more, usual) in [
        (&["restart"][..], "backoff", "maxBackoff", ["1s", "1m"]),
        (&["health"][..], "interval", "timeout", ["10s", "30s"]),
        (&window[..], "slide", "size", ["", ""]),
    ] {
        let Some(node) = part.node.at(path) else { continue };
        let usual = usual.map(|text| text.parse().ok());
        let left = duration(node.get(less)).or(usual[0]);
        let right = duration(node.get(more)).or(usual[1]);
        let (Some(left), Some(right)) = (left, right) else { continue };
        // A timeout that is as long as the interval takes each beat for a late one.
        if left < right || (left == right && less != "interval") {
            continue;
        }
        let Some(span) = [less, more].iter().find_map(|name| node.get(name)).map(|one| one.span)
        else {
            continue;
        };
        let message = format!("`{less}` is {left}, and `{more}` {right}");
        let problem = Diagnostic::error(Rule::Conflict, span, message);
        let relation =
            if less == "interval" { "has to be less than" } else { "may not be more than" };
        let problem = problem.label(format!("`{less}` {relation} `{more}`"));
        found.push(match less {
            "slide" => problem.note("rows between two windows would be in none"),
            _ => problem,
        });
    }
}

/// Sources of which each instance would read everything.
fn replicas(part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    let alone = matches!(part.kind, Some("file" | "flight" | "http" | "adbc"));
    if part.role != Role::Source || !alone || part.replicas < 2 {
        return;
    }
    let Some(node) = part.node.get("replicas") else { return };
    let kind = part.kind.unwrap_or_default();
    let message = format!("a source of kind `{kind}` cannot have several instances");
    let problem = Diagnostic::error(Rule::Conflict, node.span, message);
    found.push(
        problem
            .label("each would read everything")
            .help("give the processors after it more instances"),
    );
}

fn reserved(part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    for entry in part.node.get("environment").map_or(&[][..], Node::entries) {
        if entry.key.starts_with("SHEAF_") {
            let message = format!("`{}` cannot be set here", entry.key);
            let problem = Diagnostic::error(Rule::Conflict, entry.key_span, message);
            let problem = problem.note("variables that begin with SHEAF_ come from the driver");
            found.push(problem.help("use another name"));
        }
    }
}

/// Columns that are there twice.
fn names(part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    let list = match part.kind {
        Some("project" | "generate" | "kafka" | "file" | "http") => "columns",
        Some("aggregate") => "aggregates",
        _ => return,
    };
    let mut first = HashMap::new();
    let groups = part.node.at(&["config", "groupBy"]).map_or(&[][..], Node::items);
    let groups = groups.iter().filter(|_| list == "aggregates");
    let items = part.node.at(&["config", list]).map_or(&[][..], Node::items);
    for item in groups.chain(items) {
        let name = item.get("name").unwrap_or(item);
        let Some(text) = name.text() else { continue };
        if let Some(earlier) = first.insert(text, name.span) {
            let message = format!("two columns are called `{text}`");
            let problem = Diagnostic::error(Rule::Conflict, name.span, message);
            found.push(problem.relate(earlier, "the first one"));
        }
    }
}

fn built_in(part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    let Some(config) = part.config() else { return };
    match (part.role, part.kind) {
        (Role::Source | Role::Sink, Some("kafka")) => credentials(config, found),
        (Role::Source, Some("http")) => rows_at(config, found),
        (Role::Source, Some("generate")) => generated(config, found),
        (Role::Processor, Some("aggregate")) => functions(config, found),
        (Role::Sink, Some("file")) => compression(config, found),
        _ => {}
    }
}

fn credentials(config: &Node, found: &mut Vec<Diagnostic>) {
    let Some(security) = config.get("security") else { return };
    let given = ["mechanism", "username", "password"].map(|name| security.entry(name));
    let Some(first) = given.into_iter().flatten().next() else { return };
    for (name, entry) in ["mechanism", "username", "password"].iter().zip(given) {
        if entry.is_none() {
            let message = format!("`{}` is of no use without `{name}`", first.key);
            found.push(Diagnostic::error(Rule::Conflict, first.key_span, message));
        }
    }
}

fn rows_at(config: &Node, found: &mut Vec<Diagnostic>) {
    let format = config.get("format").and_then(Node::text);
    if let Some(entry) = config.entry("rowsAt")
        && format.is_some_and(|format| format != "json")
    {
        let message = "`rowsAt` is for answers of JSON";
        found.push(Diagnostic::error(Rule::Conflict, entry.key_span, message));
    }
}

fn generated(config: &Node, found: &mut Vec<Diagnostic>) {
    for column in config.get("columns").map_or(&[][..], Node::items) {
        let Some(entry) = column.get("values").and_then(|values| values.entries().first()) else {
            continue;
        };
        match (entry.key.as_str(), entry.value.items()) {
            ("integers" | "numbers", [low, high]) => range(entry, low, high, found),
            ("choice", items) => one_type(items, found),
            ("constant", _) => scalar(&entry.value, found),
            _ => {}
        }
    }
}

fn range(entry: &Entry, low: &Node, high: &Node, found: &mut Vec<Diagnostic>) {
    #[allow(clippy::cast_precision_loss, reason = "compared only")]
    let number = |node: &Node| match node.value {
        NodeValue::Integer(integer) => Some(integer as f64),
        NodeValue::Number(number) => Some(number),
        _ => None,
    };
    if let (Some(from), Some(to)) = (number(low), number(high))
        && from > to
    {
        let message = format!("`{}` goes from {from} to {to}", entry.key);
        let problem = Diagnostic::error(Rule::OutOfRange, high.span, message);
        found.push(problem.label(format!("{from} or more expected")));
    }
}

fn one_type(items: &[Node], found: &mut Vec<Diagnostic>) {
    items.iter().for_each(|item| scalar(item, found));
    let Some(first) = items.first() else { return };
    if let Some(other) = items.iter().find(|item| item.what() != first.what()) {
        let message = format!("the values are {} and {}", first.what(), other.what());
        let problem = Diagnostic::error(Rule::WrongType, other.span, message);
        found.push(problem.label("a column has one type"));
    }
}

fn scalar(value: &Node, found: &mut Vec<Diagnostic>) {
    if matches!(value.value, NodeValue::List(_) | NodeValue::Map(_) | NodeValue::Null) {
        let message = format!("a value of a column cannot be {}", value.what());
        let problem = Diagnostic::error(Rule::WrongType, value.pointer(), message);
        found.push(problem.label("a text, a number, true or false expected"));
    }
}

fn functions(config: &Node, found: &mut Vec<Diagnostic>) {
    for aggregate in config.get("aggregates").map_or(&[][..], Node::items) {
        let Some(function) = aggregate.get("function") else { continue };
        let known = matches!(function.text(), Some("sum" | "min" | "max" | "mean"));
        if known && aggregate.get("column").is_none() {
            let word = function.text().unwrap_or_default();
            let message = format!("`{word}` lacks its `column`");
            let problem = Diagnostic::error(Rule::MissingField, function.span, message);
            found.push(problem.help("only `count` does without"));
        }
    }
}

fn compression(config: &Node, found: &mut Vec<Diagnostic>) {
    let format = config.get("format").and_then(Node::text).unwrap_or_default();
    let allowed: &[&str] = match format {
        "parquet" => &["none", "gzip", "snappy", "lz4", "zstd"],
        "csv" | "json" => &["none", "gzip", "zstd"],
        "ipc" => &["none", "lz4", "zstd"],
        _ => return,
    };
    let Some(node) = config.get("compression") else { return };
    let known = matches!(node.text(), Some("none" | "gzip" | "snappy" | "lz4" | "zstd"));
    if let Some(word) = node.text().filter(|word| known && !allowed.contains(word)) {
        let message = format!("`{format}` cannot be compressed with `{word}`");
        let problem = Diagnostic::error(Rule::Conflict, node.span, message);
        found.push(problem.label(format!("one of {} expected", allowed.join(", "))));
    }
}
