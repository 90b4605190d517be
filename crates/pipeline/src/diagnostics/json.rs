//! Problems for editors and CI.

use serde_json::{Value, json};

use super::{Report, Span};

impl Report {
    /// All problems as one JSON value:
    /// `{"file","errors","warnings","left_out","diagnostics":[{"severity","rule",
    /// "message","line","column","end_line","end_column","label"?,"related":[…],
    /// "notes":[…],"help"?}]}`. Lines and columns start at 1, columns count
    /// characters, and the end is exclusive.
    pub fn to_json(&self) -> Value {
        let diagnostics: Vec<Value> = self
            .diagnostics
            .iter()
            .map(|one| {
                let mut value = self.place(one.span);
                value["severity"] = json!(one.severity);
                value["rule"] = json!(one.rule.as_str());
                value["message"] = json!(one.message);
                let related: Vec<Value> = one
                    .related
                    .iter()
                    .map(|(span, label)| {
                        let mut place = self.place(*span);
                        place["label"] = json!(label);
                        place
                    })
                    .collect();
                value["related"] = json!(related);
                value["notes"] = json!(one.notes);
                if let Some(label) = &one.label {
                    value["label"] = json!(label);
                }
                if let Some(help) = &one.help {
                    value["help"] = json!(help);
                }
                value
            })
            .collect();
        json!({
            "file": self.file,
            "errors": self.errors(),
            "warnings": self.warnings(),
            "left_out": self.left_out,
            "diagnostics": diagnostics,
        })
    }

    fn place(&self, span: Span) -> Value {
        let covered = self.text.get(span.start..span.end).unwrap_or_default();
        let mut end = (span.line, span.column);
        for character in covered.chars() {
            end = match character {
                '\n' => (end.0 + 1, 1),
                _ => (end.0, end.1 + 1),
            };
        }
        json!({
            "line": span.line,
            "column": span.column,
            "end_line": end.0,
            "end_column": end.1,
        })
    }
}
