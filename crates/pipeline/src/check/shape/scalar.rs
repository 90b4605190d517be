//! Texts and numbers.

use serde_json::Value;

use super::{Checker, Place, form, union};
use crate::diagnostics::{Diagnostic, Rule};
use crate::spec::{Node, NodeValue, forms};

impl<'a> Checker<'a> {
    pub(super) fn text(&mut self, schema: &'a Value, node: &Node, text: &str, place: &Place<'_>) {
        let known: Vec<&str> = union::choices(schema).collect();
        if !known.is_empty() {
            if !known.contains(&text) {
                let noun = schema.get("x-noun").and_then(Value::as_str);
                self.no_such_word(text, &known, noun, node, place);
            }
            return;
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && format.starts_with("sheaf-")
        {
            if let Some(problem) = form::problem(format, schema, node, text, place.name) {
                self.found.push(problem);
            }
            return;
        }
        let found = self.found.len();
        let length = text.chars().count();
        self.count(schema, ["minLength", "maxLength"], length, "character", node, place);
        let pattern = schema.get("pattern").and_then(Value::as_str);
        let Some(form) = pattern.and_then(forms::form) else { return };
        if self.found.len() == found && !(form.accepts)(text) {
            let message = format!("{} cannot be `{}`", place.shown(), shortened(text));
            let problem = Diagnostic::error(Rule::InvalidValue, node.span, message);
            self.found.push(problem.label(format!("expected {}", form.words)));
        }
    }

    pub(super) fn number(&mut self, schema: &Value, node: &Node, place: &Place<'_>) {
        let limit = |key| schema.get(key).and_then(Value::as_f64);
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        #[allow(clippy::cast_precision_loss, reason = "limits are far from where digits end")]
        let (number, shown) = match node.value {
            NodeValue::Integer(integer) => (integer as f64, integer.to_string()),
            NodeValue::Number(number) => (number, number.to_string()),
            _ => return,
        };
        let (least, most) = range_of(format);
        let least = limit("minimum").or(least);
        let most = limit("maximum").or(most);
        let within = least.is_none_or(|least| number >= least)
            && most.is_none_or(|most| number <= most)
            && fits_exactly(format, node);
        if within {
            return;
        }
        let range = match (least, most) {
            (Some(least), Some(most)) if most < 1e15 => format!("from {least} to {most}"),
            (Some(least), _) if number < least => format!("{least} or more"),
            _ => "less".to_owned(),
        };
        let message = format!("{} is {shown}", place.shown());
        let problem = Diagnostic::error(Rule::OutOfRange, node.span, message);
        self.found.push(problem.label(format!("{range} expected")));
    }
}

/// What the types of Rust hold, where the schema names them.
fn range_of(format: &str) -> (Option<f64>, Option<f64>) {
    match format {
        "uint16" => (Some(0.0), Some(f64::from(u16::MAX))),
        "uint32" => (Some(0.0), Some(f64::from(u32::MAX))),
        "uint64" | "sheaf-size" => (Some(0.0), None),
        _ => (None, None),
    }
}

/// Where floats are too coarse to tell.
fn fits_exactly(format: &str, node: &Node) -> bool {
    let NodeValue::Integer(integer) = node.value else { return true };
    match format {
        "uint64" | "sheaf-size" => u64::try_from(integer).is_ok(),
        "int64" => i64::try_from(integer).is_ok(),
        _ => true,
    }
}

/// A text of the file in a message: cut at 60 characters.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.replace('\n', " ")
}
