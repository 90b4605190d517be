//! Texts with a language of their own: durations, sizes, expressions.

use std::str::FromStr;

use serde_json::Value;
use sheaf_retry::{HumanBytes, HumanDuration};

use super::scalar::shortened;
use crate::diagnostics::{Diagnostic, Rule, Span};
use crate::spec::units::{CPU_FORMAT, DURATION_FORMAT, SIZE_FORMAT};
use crate::spec::{Cpu, EXPRESSION_FORMAT, Expression, Node};

/// What is wrong with a text of this format.
pub(super) fn problem(
    format: &str,
    schema: &Value,
    node: &Node,
    text: &str,
    name: &str,
) -> Option<Diagnostic> {
    let expected = match format {
        DURATION_FORMAT => match HumanDuration::from_str(text) {
            Ok(value) => return below(value, schema, node, name, text),
            Err(_) => "a number and a unit, such as 250ms, 5s, 1m30s or 1h",
        },
        SIZE_FORMAT => match HumanBytes::from_str(text) {
            Ok(value) => return below(value, schema, node, name, text),
            Err(_) => "a number and a unit, such as 64KB, 100MB or 1.5GiB",
        },
        CPU_FORMAT => match Cpu::from_str(text) {
            Ok(_) => return None,
            Err(_) => "cores, such as 0.5 or 2, or thousandths, such as 500m",
        },
        EXPRESSION_FORMAT => return expression(node, text, name),
        _ => return None,
    };
    let message = format!("`{name}` cannot be `{}`", shortened(text));
    let problem = Diagnostic::error(Rule::InvalidValue, node.span, message);
    Some(problem.label(format!("expected {expected}")))
}

fn below<T: FromStr + PartialOrd>(
    value: T,
    schema: &Value,
    node: &Node,
    name: &str,
    text: &str,
) -> Option<Diagnostic> {
    let least = schema.get("x-minimum").and_then(Value::as_str)?;
    let limit = T::from_str(least).ok()?;
    if value >= limit {
        return None;
    }
    let message = format!("`{name}` is {}", shortened(text));
    let problem = Diagnostic::error(Rule::OutOfRange, node.span, message);
    Some(problem.label(format!("{least} or more expected")))
}

fn expression(node: &Node, text: &str, name: &str) -> Option<Diagnostic> {
    let message = match Expression::from_str(text) {
        Ok(read) if name == "where" && !read.is_condition() => {
            let message = "`where` is a value, not a condition";
            let problem = Diagnostic::error(Rule::Expression, node.span, message);
            return Some(problem.help("compare it with something, such as `amount > 100`"));
        }
        Ok(_) => return None,
        Err(error) => error,
    };
    let whole = format!("`{name}` cannot be read: {}", message.message);
    let inside = inside(node.span, text, &message.range);
    Some(Diagnostic::error(Rule::Expression, inside, whole))
}

/// The part of a scalar, where it stands in the file as it is: on one line,
/// plain or in quotes without escapes.
fn inside(span: Span, text: &str, range: &std::ops::Range<usize>) -> Span {
    let quotes = match (span.end - span.start).checked_sub(text.len()) {
        Some(0) => 0,
        Some(2) => 1,
        _ => return span,
    };
    if text.contains('\n') {
        return span;
    }
    let before = text.get(..range.start).map_or(0, |before| before.chars().count());
    Span {
        start: span.start + quotes + range.start,
        end: span.start + quotes + range.end,
        line: span.line,
        column: span.column + u32::try_from(quotes + before).unwrap_or(0),
    }
}
