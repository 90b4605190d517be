//! Mappings: unknown fields, missing ones, and what a kind asks for.

use serde_json::{Map, Value};

use super::{Checker, Place, any_of};
use crate::diagnostics::{Diagnostic, Rule, Span, closest};
use crate::spec::{Entry, Node, forms};

/// What other tools call a field.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("env", "environment"),
    ("envs", "environment"),
    ("type", "kind"),
    ("name", "id"),
    ("depends_on", "inputs"),
    ("dependsOn", "inputs"),
    ("upstream", "inputs"),
    ("args", "command"),
    ("id", "from"),
    ("source", "from"),
    ("partition", "partitioning"),
    ("instances", "replicas"),
    ("parallelism", "replicas"),
    ("filter", "where"),
];

impl<'a> Checker<'a> {
    pub(super) fn object(
        &mut self,
        schema: &'a Value,
        node: &Node,
        entries: &[Entry],
        place: &Place<'_>,
    ) {
        self.count(schema, ["minProperties", "maxProperties"], entries.len(), "entry", node, place);
        let known = schema.get("properties").and_then(Value::as_object);
        for entry in entries {
            self.name(schema, entry);
            let at = Place::field(&entry.key, entry.key_span);
            match known.and_then(|known| known.get(&entry.key)) {
                Some(field) if field.get("not").is_some() => self.forbidden(field, &at),
                Some(field) => self.value(field, &entry.value, &at),
                None => match schema.get("additionalProperties") {
                    Some(Value::Bool(false)) => self.unknown(known, entry, entries),
                    Some(further) => self.value(further, &entry.value, &at),
                    None => {}
                },
            }
        }
        self.required(schema, node, entries, place);
        for rule in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.rule(rule, node, entries, place);
        }
    }

    fn forbidden(&mut self, field: &Value, place: &Place<'_>) {
        let why = field.get("description").and_then(Value::as_str).unwrap_or_default();
        let message = format!("`{}` cannot stand here: {why}", place.name);
        let problem = Diagnostic::error(Rule::UnknownField, place.span, message);
        self.found.push(problem.help("remove it"));
    }

    fn name(&mut self, schema: &Value, entry: &Entry) {
        let pattern = schema.get("propertyNames").and_then(|names| names.get("pattern"));
        let Some(form) = pattern.and_then(Value::as_str).and_then(forms::form) else { return };
        if !(form.accepts)(&entry.key) {
            let message = format!("`{}` is not a name", entry.key);
            let problem = Diagnostic::error(Rule::InvalidValue, entry.key_span, message);
            self.found.push(problem.label(format!("expected {}", form.words)));
        }
    }

    fn unknown(&mut self, known: Option<&Map<String, Value>>, entry: &Entry, entries: &[Entry]) {
        let free = |name: &&str| entries.iter().all(|entry| entry.key != **name);
        let fields = known.into_iter().flatten().filter(|(_, field)| field.get("not").is_none());
        let fields: Vec<&str> = fields.map(|(name, _)| name.as_str()).collect();
        let other =
            OTHER_NAMES.iter().find(|(name, field)| *name == entry.key && fields.contains(field));
        let like = other.map(|(_, field)| *field).filter(free);
        let like = like.or_else(|| closest(&entry.key, fields.iter().copied().filter(free)));
        let message = format!("unknown field `{}`", entry.key);
        let mut problem = Diagnostic::error(Rule::UnknownField, entry.key_span, message);
        if let Some(like) = like {
            problem = problem.help(format!("did you mean `{like}`?"));
        } else if entry.key == "spec" && fields.contains(&"sources") {
            problem = problem.help("sources, processors and sinks stand at the top of the file");
        } else if fields.is_empty() {
            problem = problem.help("remove it: nothing is expected here");
        } else {
            problem = problem.help(format!("the fields here are {}", quoted(&fields)));
        }
        self.found.push(problem);
    }

    fn required(&mut self, schema: &Value, node: &Node, entries: &[Entry], place: &Place<'_>) {
        let needed = schema.get("required").and_then(Value::as_array);
        let missing = needed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| entries.iter().all(|entry| entry.key != **name));
        for name in missing {
            let field = schema.get("properties").and_then(|fields| fields.get(name));
            let text = |key| field.and_then(|field| field.get(key)).and_then(Value::as_str);
            let span = self.owner(schema, node, entries, place);
            if let Some(words) = text("x-empty") {
                let problem = Diagnostic::error(Rule::NoInputs, span, words);
                self.found.push(problem.help("add `inputs` with the components that it reads"));
                continue;
            }
            let message = match schema.get("x-component").and_then(Value::as_str) {
                Some(role) => format!("a {role} lacks its `{name}`"),
                None => format!("{} lacks its `{name}`", place.shown()),
            };
            let mut problem = Diagnostic::error(Rule::MissingField, span, message);
            if let Some(what) = text("description") {
                problem = problem.note(format!("`{name}`: {}", first_sentence(what)));
            }
            self.found.push(problem);
        }
    }

    /// Where to point when something is missing: at a component's identifier,
    /// else at the field that holds the mapping.
    fn owner(&self, schema: &Value, node: &Node, entries: &[Entry], place: &Place<'_>) -> Span {
        let component = schema.get("x-component").is_some();
        let id = entries.iter().find(|entry| component && entry.key == "id");
        match (id, component || entries.is_empty()) {
            (Some(id), _) => id.value.span,
            (None, true) => node.pointer(),
            (None, false) => place.span,
        }
    }

    /// `if` the kind is so, `then` the configuration is so.
    fn rule(&mut self, rule: &'a Value, node: &Node, entries: &[Entry], place: &Place<'_>) {
        let condition = rule.pointer("/if/properties").and_then(Value::as_object);
        let applies = condition.is_some_and(|fields| {
            fields.iter().all(|(name, field)| {
                let value = node.get(name).and_then(Node::text);
                value.is_some() && value == field.get("const").and_then(Value::as_str)
            })
        });
        let Some(then) = rule.get("then").filter(|_| applies) else { return };
        let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
        for (name, field) in then.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            match entries.iter().find(|entry| entry.key == *name) {
                Some(entry) => {
                    let at = Place::field(name, entry.key_span);
                    // A null has been reported by what all components have in common.
                    if !matches!(entry.value.value, crate::spec::NodeValue::Map(_)) {
                        continue;
                    }
                    self.value(field, &entry.value, &at);
                }
                None if then.get("required").is_some() => {
                    let target = self.target(field);
                    let needed = target.get("required").and_then(Value::as_array);
                    let needed: Vec<&str> =
                        needed.into_iter().flatten().filter_map(Value::as_str).collect();
                    let message = format!("`{kind}` lacks its `{name}`");
                    let span = node.get("id").map_or(place.span, |id| id.span);
                    let problem = Diagnostic::error(Rule::MissingField, span, message);
                    self.found.push(problem.help(format!("it needs {}", and(&needed))));
                }
                None => {}
            }
        }
    }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn and(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    any_of(&names).replacen(" or ", " and ", 1)
}

fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.len());
    let sentence = text[..end].trim_end_matches('.');
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
