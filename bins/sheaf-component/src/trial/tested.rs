//! What became of one test, for people and programs.

use serde::Serialize;
use serde_json::Value;
use sheaf_pipeline::spec::Test;

use super::compare::{Difference, compare};
use super::flow::Seen;
use super::rows;

/// Differences of one test that are shown to people.
const MOST: usize = 20;

/// One test.
#[derive(Debug, Serialize)]
pub(super) struct Tested {
    name: String,
    pub(super) passed: bool,
    /// Why it could not be run to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    differences: Vec<At>,
}

/// A difference and the component whose rows they are.
#[derive(Debug, Serialize)]
struct At {
    component: String,
    #[serde(flatten)]
    difference: Difference,
}

impl Tested {
    /// Compares what came with what the test expects.
    pub(super) fn new(test: &Test, seen: Result<Seen, String>) -> Self {
        let compared = seen.and_then(|seen| differences(test, &seen));
        let name = test.name.clone();
        match compared {
            Ok(differences) => {
                Tested { name, passed: differences.is_empty(), error: None, differences }
            }
            Err(why) => Tested { name, passed: false, error: Some(why), differences: Vec::new() },
        }
    }

    pub(super) fn to_text(&self) -> String {
        let mut text =
            format!("{}  {}\n", if self.passed { "ok    " } else { "FAILED" }, self.name);
        let mut line = |line: &str| text.push_str(&format!("        {line}\n"));
        if let Some(error) = &self.error {
            line(error);
        }
        self.differences.iter().take(MOST).for_each(|one| line(&one.to_text()));
        if self.differences.len() > MOST {
            line(&format!("… {} more: see --json", self.differences.len() - MOST));
        }
        text
    }
}

fn differences(test: &Test, seen: &Seen) -> Result<Vec<At>, String> {
    let mut all = Vec::new();
    for (component, expected) in &test.outputs {
        let came = seen.get(component).map_or(&[][..], Vec::as_slice);
        let came = rows::rows(came).map_err(|error| format!("{component}: {error}"))?;
        let found = compare(expected, &came, test.any_order).into_iter();
        all.extend(found.map(|difference| At { component: component.clone(), difference }));
    }
    Ok(all)
}

impl At {
    fn to_text(&self) -> String {
        let component = &self.component;
        let shown = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "no such column".to_owned(),
        };
        let json = |row| serde_json::to_string(row).unwrap_or_default();
        match &self.difference {
            Difference::Value { row, column, expected, got } => format!(
                "{component}, row {row}, column {column}: expected {}, got {}",
                shown(expected),
                shown(got)
            ),
            Difference::Missing { row, expected } => {
                format!("{component}, row {row} is missing: {}", json(expected))
            }
            Difference::Surplus { row, got } => {
                format!("{component}, row {row} was not expected: {}", json(got))
            }
        }
    }
}
