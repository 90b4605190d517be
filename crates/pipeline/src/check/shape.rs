//! Holds a document against the JSON Schema, and reports every difference.
//!
//! Only the keywords that our schema has are known here; a test of the schema
//! holds another reader of JSON Schema against this one.

mod form;
mod object;
mod scalar;
mod union;

use serde_json::Value;

use crate::diagnostics::{Diagnostic, Rule, Span};
use crate::spec::{Node, NodeValue, json_schema};

/// Reports what is not of the form that the schema asks for.
pub(super) fn check(node: &Node, found: &mut Vec<Diagnostic>) {
    let root = json_schema();
    let mut checker = Checker { root, found };
    if let NodeValue::Null = node.value {
        let problem = Diagnostic::error(Rule::WrongType, node.span, "the file says nothing");
        checker.found.push(problem.help("`sheafctl init` writes a first pipeline"));
        return;
    }
    checker.value(root, node, &Place::field("pipeline", node.pointer()));
}

/// What is looked at: a field with the place of its name, for messages.
struct Place<'a> {
    name: &'a str,
    span: Span,
    /// Whether it is an item of the list of that name.
    item: bool,
}

impl<'a> Place<'a> {
    fn field(name: &'a str, span: Span) -> Self {
        Place { name, span, item: false }
    }

    /// For messages: `name`, or an item of it.
    fn shown(&self) -> String {
        match self.item {
            true => format!("an item of `{}`", self.name),
            false => format!("`{}`", self.name),
        }
    }
}

struct Checker<'a> {
    root: &'a Value,
    found: &'a mut Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, schema: &'a Value, node: &Node, place: &Place<'_>) {
        if let NodeValue::Null = node.value
            && self.expects(schema)
        {
            let message = format!("{} has no value", place.shown());
            let problem = Diagnostic::error(Rule::WrongType, place.span, message);
            self.found.push(problem.help("give it a value, or remove the line"));
            return;
        }
        if schema.get("x-secret").is_some()
            && let NodeValue::Text(text) = &node.value
        {
            // The pass over secrets reports it as such, unless there is nothing in it.
            if text.is_empty() {
                self.wrong_type(node, place, "a reference to a secret");
            }
            return;
        }
        let schema = self.target(schema);
        if let Some(branches) = union::branches(schema) {
            return self.union(schema, branches, node, place);
        }
        if !self.is_of_type(schema, node) {
            let types = types(schema).collect::<Vec<_>>();
            self.wrong_type(node, place, &words(&types));
            return;
        }
        match &node.value {
            NodeValue::Map(entries) => self.object(schema, node, entries, place),
            NodeValue::List(items) => self.list(schema, node, items, place),
            NodeValue::Text(text) => self.text(schema, node, text, place),
            NodeValue::Integer(_) | NodeValue::Number(_) => self.number(schema, node, place),
            NodeValue::Null | NodeValue::Bool(_) => {}
        }
    }

    /// Whether a schema asks for anything at all.
    fn expects(&self, schema: &'a Value) -> bool {
        let schema = self.target(schema);
        types(schema).next().is_some() || union::branches(schema).is_some()
    }

    /// What a reference leads to.
    fn target(&self, mut schema: &'a Value) -> &'a Value {
        while let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            match self.root.pointer(path.trim_start_matches('#')) {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    fn list(&mut self, schema: &'a Value, node: &Node, items: &[Node], place: &Place<'_>) {
        if let Some(words) = schema.get("x-empty").and_then(Value::as_str)
            && items.is_empty()
        {
            let problem = Diagnostic::error(Rule::NoInputs, node.span, words);
            self.found.push(problem.help("name the components that it reads"));
            return;
        }
        self.count(schema, ["minItems", "maxItems"], items.len(), "item", node, place);
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], |a| a);
        let further = schema.get("items").filter(|items| items.is_object());
        for (index, item) in items.iter().enumerate() {
            let Some(schema) = first.get(index).or(further) else { continue };
            self.value(schema, item, &Place { name: place.name, span: item.pointer(), item: true });
        }
    }

    /// Whether a length is within the two keywords.
    fn count(
        &mut self,
        schema: &Value,
        [least, most]: [&str; 2],
        count: usize,
        unit: &str,
        node: &Node,
        place: &Place<'_>,
    ) {
        let limit = |key| schema.get(key).and_then(Value::as_u64);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let range = match (limit(least), limit(most)) {
            (Some(least), Some(most)) if least == most => format!("exactly {}", units(least, unit)),
            (Some(least), _) if count < least => format!("at least {}", units(least, unit)),
            (_, Some(most)) if count > most => format!("at most {}", units(most, unit)),
            _ => return,
        };
        if limit(least).is_some_and(|least| count < least)
            || limit(most).is_some_and(|most| count > most)
        {
            let message = format!("{} has {}", place.shown(), units(count, unit));
            let span = if node.entries().is_empty() { node.span } else { place.span };
            let problem = Diagnostic::error(Rule::OutOfRange, span, message);
            self.found.push(problem.label(format!("{range} expected")));
        }
    }

    fn is_of_type(&self, schema: &Value, node: &Node) -> bool {
        let mut all = types(schema).peekable();
        all.peek().is_none() || all.any(|name| fits(name, node))
    }

    fn wrong_type(&mut self, node: &Node, place: &Place<'_>, expected: &str) {
        let what = node.what();
        let message = format!("{} is {what}, not {expected}", place.shown());
        let span = match node.value {
            NodeValue::List(_) | NodeValue::Map(_) => place.span,
            _ => node.span,
        };
        let mut problem = Diagnostic::error(Rule::WrongType, span, message);
        problem = problem.label(format!("{expected} expected"));
        let plain =
            matches!(node.value, NodeValue::Bool(_) | NodeValue::Integer(_) | NodeValue::Number(_));
        if plain && expected.contains("a text") {
            problem = problem.help("write it in quotes");
        } else if node.text().is_some() && expected.contains("a list") {
            problem = problem.help("write it in brackets: [ … ]");
        }
        self.found.push(problem);
    }
}

/// The types that a schema names.
fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let one = schema.get("type").and_then(Value::as_str);
    let many = schema.get("type").and_then(Value::as_array);
    one.into_iter().chain(many.into_iter().flatten().filter_map(Value::as_str))
}

fn fits(name: &str, node: &Node) -> bool {
    match &node.value {
        NodeValue::Null => name == "null",
        NodeValue::Bool(_) => name == "boolean",
        NodeValue::Integer(_) => matches!(name, "integer" | "number"),
        NodeValue::Number(number) => {
            name == "number" || (name == "integer" && number.fract() == 0.0 && number.abs() < 9e15)
        }
        NodeValue::Text(_) => name == "string",
        NodeValue::List(_) => name == "array",
        NodeValue::Map(_) => name == "object",
    }
}

/// The types in words: `a text or an integer`.
fn words(types: &[&str]) -> String {
    let words: Vec<&str> = types
        .iter()
        .map(|name| match *name {
            "string" => "a text",
            "integer" => "an integer",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "a list",
            "object" => "a mapping",
            other => other,
        })
        .collect();
    any_of(&words)
}

/// `a`, `a or b`, `a, b or c`.
fn any_of<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn units(count: u64, unit: &str) -> String {
    let plural = match (count, unit) {
        (1, _) => unit.to_owned(),
        (_, "entry") => "entries".to_owned(),
        _ => format!("{unit}s"),
    };
    format!("{count} {plural}")
}
