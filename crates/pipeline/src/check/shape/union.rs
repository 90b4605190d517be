//! Values of several forms: the one that is meant is found by its type, then
//! by the name of its only field.

use serde_json::Value;

use super::scalar::shortened;
use super::{Checker, Place, any_of, types, words};
use crate::diagnostics::{Diagnostic, Rule, closest};
use crate::spec::{Node, NodeValue, Role};

/// The alternatives of a schema, if it has some.
pub(super) fn branches(schema: &Value) -> Option<&Vec<Value>> {
    let branches = schema.get("anyOf").or_else(|| schema.get("oneOf"));
    branches.and_then(Value::as_array)
}

impl<'a> Checker<'a> {
    pub(super) fn union(
        &mut self,
        schema: &'a Value,
        branches: &'a [Value],
        node: &Node,
        place: &Place<'_>,
    ) {
        let mut leaves = Vec::new();
        self.leaves(branches, &mut leaves);
        let candidates: Vec<&'a Value> =
            leaves.iter().copied().filter(|leaf| self.is_of_type(leaf, node)).collect();
        match (candidates.as_slice(), &node.value) {
            ([], NodeValue::Text(text)) => {
                // Only mappings are left: their names may be what was meant.
                self.not_a_branch(text, &leaves, node, place);
            }
            ([], _) => {
                let mut all: Vec<&str> = Vec::new();
                for name in leaves.iter().flat_map(|leaf| types(leaf)) {
                    if !all.contains(&name) {
                        all.push(name);
                    }
                }
                self.wrong_type(node, place, &words(&all));
            }
            (texts, NodeValue::Text(text))
                if texts.iter().all(|leaf| choices(leaf).next().is_some()) =>
            {
                let known: Vec<&str> = texts.iter().flat_map(|leaf| choices(leaf)).collect();
                if known.contains(&text.as_str()) {
                    return;
                }
                if leaves.iter().any(|leaf| tag(leaf) == Some(text.as_str())) {
                    return self.not_a_branch(text, &leaves, node, place);
                }
                let noun = schema.get("x-noun").and_then(Value::as_str);
                self.no_such_word(text, &known, noun, node, place);
            }
            ([only], _) => self.value(only, node, place),
            (several, NodeValue::Map(_)) => self.tagged(several, node, place),
            ([first, ..], _) => self.value(first, node, place),
        }
    }

    fn leaves(&self, branches: &'a [Value], leaves: &mut Vec<&'a Value>) {
        for branch in branches {
            let branch = self.target(branch);
            match self::branches(branch) {
                Some(inner) => self.leaves(inner, leaves),
                None => leaves.push(branch),
            }
        }
    }

    /// A mapping with one field, which says what it is.
    fn tagged(&mut self, candidates: &[&'a Value], node: &Node, place: &Place<'_>) {
        let tags: Vec<&str> = candidates.iter().filter_map(|leaf| tag(leaf)).collect();
        let present: Vec<_> =
            node.entries().iter().filter(|entry| tags.contains(&entry.key.as_str())).collect();
        if let [first, second, ..] = present.as_slice() {
            let message = format!("`{}` and `{}` exclude each other", first.key, second.key);
            let problem = Diagnostic::error(Rule::Conflict, second.key_span, message);
            self.found.push(problem.relate(first.key_span, "one is enough"));
            return;
        }
        let chosen = present
            .first()
            .and_then(|entry| candidates.iter().find(|leaf| tag(leaf) == Some(entry.key.as_str())));
        if let Some(chosen) = chosen {
            return self.value(chosen, node, place);
        }
        let names: Vec<String> = tags.iter().map(|tag| format!("`{tag}`")).collect();
        let first = node.entries().first();
        let like = first.and_then(|entry| closest(&entry.key, tags.iter().copied()));
        let span = first.map_or(node.span, |entry| entry.key_span);
        let message = match first {
            Some(entry) => format!("unknown field `{}`", entry.key),
            None => format!("{} is an empty mapping", place.shown()),
        };
        let problem = Diagnostic::error(Rule::UnknownField, span, message);
        let problem = problem.label(format!("expected {}", any_of(&names)));
        self.found.push(match like {
            Some(like) => problem.help(format!("did you mean `{like}`?")),
            None => problem,
        });
    }

    fn not_a_branch(&mut self, text: &str, leaves: &[&'a Value], node: &Node, place: &Place<'_>) {
        let tags: Vec<&str> = leaves.iter().filter_map(|leaf| tag(leaf)).collect();
        match tags.contains(&text) {
            true => {
                let message = format!("`{text}` lacks what belongs to it");
                let problem = Diagnostic::error(Rule::WrongType, node.span, message);
                self.found.push(problem.label(format!("write `{text}: …`")));
            }
            false => self.wrong_type(node, place, "a mapping"),
        }
    }

    pub(super) fn no_such_word(
        &mut self,
        text: &str,
        known: &[&str],
        noun: Option<&str>,
        node: &Node,
        place: &Place<'_>,
    ) {
        let rule = match noun {
            Some(noun) if noun.starts_with("kind of ") => Rule::UnknownKind,
            _ => Rule::InvalidValue,
        };
        let message = match noun {
            Some(noun) => format!("there is no {noun} `{}`", shortened(text)),
            None => format!("{} cannot be `{}`", place.shown(), shortened(text)),
        };
        let mut problem = Diagnostic::error(rule, node.span, message);
        problem = problem.label(format!("expected {}", any_of(known)));
        let elsewhere = other_kind(text).filter(|_| rule == Rule::UnknownKind);
        if let Some(help) = elsewhere {
            problem = problem.help(help);
        } else if let Some(like) = closest(text, known.iter().copied()) {
            problem = problem.help(format!("did you mean `{like}`?"));
        }
        self.found.push(problem);
    }
}

/// The words that a schema of texts allows, if it lists them.
pub(super) fn choices(schema: &Value) -> impl Iterator<Item = &str> {
    let one = schema.get("const").and_then(Value::as_str);
    let many = schema.get("enum").and_then(Value::as_array);
    one.into_iter().chain(many.into_iter().flatten().filter_map(Value::as_str))
}

/// What to do about a kind that belongs elsewhere.
fn other_kind(text: &str) -> Option<String> {
    let of_role = Role::ALL.into_iter().find(|role| role.kinds().contains(&text));
    match (of_role, text) {
        (Some(role), _) => Some(format!("`{text}` is a kind of {role}")),
        (_, "duckdb" | "sqlite" | "postgresql" | "postgres") => {
            let driver = if text == "postgres" { "postgresql" } else { text };
            Some(format!("use `adbc` with `database: {{driver: {driver}, uri: …}}`"))
        }
        (_, "parquet" | "csv" | "json" | "ipc" | "s3") => {
            Some("use `file`, whose `path` may be an address such as s3://BUCKET/KEY".to_owned())
        }
        (_, "join" | "lookup") => Some("use `enrich`".to_owned()),
        (_, "map" | "select" | "transform") => Some("use `project` or `sql`".to_owned()),
        (_, "console" | "print" | "log") => Some("use `stdout`".to_owned()),
        (_, "webhook") => Some("use `http`".to_owned()),
        _ => None,
    }
}

/// The only field of a tagged alternative.
fn tag(schema: &Value) -> Option<&str> {
    match schema.get("required").and_then(Value::as_array)?.as_slice() {
        [Value::String(tag)] => Some(tag),
        _ => None,
    }
}
