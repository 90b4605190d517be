//! The outcome of a comparison: for people as a table, for programs as JSON.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::stats::Summary;

/// The peer's name of a case that is measured against a fixed figure.
pub(crate) const TARGET: &str = "target";

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One thing measured on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) ours: Summary,
    pub(crate) peer: Summary,
    pub(crate) peer_name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

impl Case {
    /// Ours against a peer that was measured in the same rounds.
    pub(crate) fn against(
        name: impl Into<String>,
        (unit, better): (&'static str, Better),
        ours: &[f64],
        (peer_name, peer): (&str, &[f64]),
    ) -> Result<Self> {
        let name = name.into();
        // Nothing real takes no time or has no rate, and a ratio needs both.
        let summary = |side: &str, values: &[f64]| {
            Summary::of(values).filter(|summary| summary.min > 0.0).ok_or_else(|| {
                Error::Message(format!("case {name}: {side} has no measurements, or one is none"))
            })
        };
        let (ours, peer) = (summary("ours", ours)?, summary(peer_name, peer)?);
        Ok(Case { name, ours, peer, peer_name: peer_name.to_owned(), unit, better })
    }

    /// Ours against a fixed figure.
    pub(crate) fn target(
        name: impl Into<String>,
        unit: (&'static str, Better),
        ours: &[f64],
        target: f64,
    ) -> Result<Self> {
        let case = Case::against(name, unit, ours, (TARGET, &[target]))?;
        Ok(Case { peer: Summary::fixed(target), ..case })
    }

    /// Above 1 where ours is better, by the medians.
    pub(crate) fn ratio(&self) -> f64 {
        let (above, below) = match self.better {
            Better::Higher => (self.ours.median, self.peer.median),
            Better::Lower => (self.peer.median, self.ours.median),
        };
        above / below
    }

    fn json(&self) -> Value {
        let side = |summary: Summary| {
            json!({
                "min": rounded(summary.min),
                "median": rounded(summary.median),
                "max": rounded(summary.max),
            })
        };
        json!({
            "ours": side(self.ours),
            "peer": side(self.peer),
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": rounded(self.ratio()),
        })
    }
}

/// Everything that one run of a comparison found.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) bench: String,
    pub(crate) conditions: Map<String, Value>,
    pub(crate) cases: Vec<Case>,
}

impl Report {
    /// One line.
    pub(crate) fn json(&self) -> String {
        let cases: Map<String, Value> =
            self.cases.iter().map(|case| (case.name.clone(), case.json())).collect();
        json!({ "bench": self.bench, "conditions": self.conditions, "cases": cases }).to_string()
    }

    /// A section of `RESULTS.md`.
    pub(crate) fn markdown(&self) -> String {
        let text = |key: &str| match self.conditions.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let date = text("date");
        let day = date.split('T').next().unwrap_or_default();
        let mut page = format!("## {day}, `cargo xtask bench {}`\n\nConditions:", self.bench);
        for (key, value) in &self.conditions {
            let said = if let Value::Object(inner) = value {
                let pairs = inner.iter().map(|(name, value)| {
                    format!("{name} {}", value.as_str().unwrap_or(&value.to_string()))
                });
                pairs.collect::<Vec<_>>().join(", ")
            } else {
                text(key)
            };
            page.push_str(&format!("\n- {}: {said}", key.replace('_', " ")));
        }
        page.push_str("\n\n| case | ours: min, median, max | peer: min, median, max | ");
        page.push_str("unit | peer | ratio |\n|---|---|---|---|---|---|\n");
        for case in &self.cases {
            let row = [
                format!("`{}`", case.name),
                triple(case.ours),
                if case.peer_name == TARGET { figure(case.peer.median) } else { triple(case.peer) },
                case.unit.to_owned(),
                case.peer_name.clone(),
                format!("{:.2}", case.ratio()),
            ];
            page.push_str(&format!("| {} |\n", row.join(" | ")));
        }
        page
    }
}

/// Puts a section before the newest one of a results file.
pub(crate) fn insert(page: &str, section: &str) -> String {
    match page.find("\n## ") {
        Some(at) => format!("{}{section}{}", &page[..=at], &page[at..]),
        None => format!("{}\n\n{section}", page.trim_end()),
    }
}

fn triple(summary: Summary) -> String {
    let Summary { min, median, max } = summary;
    [min, median, max].map(figure).join(", ")
}

/// Three significant digits, thousands set apart.
fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude < 1_000.0 {
        let digits = match magnitude {
            0.0 => 0,
            m if m < 1.0 => 3,
            m if m < 10.0 => 2,
            m if m < 100.0 => 1,
            _ => 0,
        };
        return format!("{value:.digits$}");
    }
    let plain = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index) % 3 == 0 && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Six significant digits: more is noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{Better, Case, Report, figure, insert};

    const RATE: (&str, Better) = ("jobs/s", Better::Higher);
    const TIME: (&str, Better) = ("ms", Better::Lower);

    #[test]
    fn a_ratio_above_one_means_that_ours_is_better() {
        let rate = Case::against("a", RATE, &[300.0], ("peer", &[100.0])).unwrap();
        assert_eq!(rate.ratio(), 3.0);
        let time = Case::against("b", TIME, &[2.0, 2.0], ("peer", &[8.0])).unwrap();
        assert_eq!(time.ratio(), 4.0);
        let missed = Case::target("c", TIME, &[10.0], 5.0).unwrap();
        assert_eq!((missed.ratio(), missed.peer_name.as_str()), (0.5, "target"));
    }

    #[test]
    fn a_side_without_figures_is_an_error_that_names_it() {
        let error = Case::against("x", RATE, &[1.0], ("taskiq", &[])).unwrap_err().to_string();
        assert!(error.contains("case x: taskiq"), "{error}");
        assert!(Case::target("x", RATE, &[f64::INFINITY], 1.0).is_err());
        assert!(Case::target("x", TIME, &[0.0, 1.0], 1.0).is_err());
    }

    fn report() -> Report {
        let mut conditions = Map::new();
        conditions.insert("date".into(), json!("2026-01-02T03:04:05Z"));
        conditions.insert("versions".into(), json!({ "pyarrow": "26.0.1" }));
        let cases = vec![
            Case::against("fast", RATE, &[30_000.0, 10_000.0], ("peer", &[100.0])).unwrap(),
            Case::target("late", TIME, &[10.0], 5.0).unwrap(),
        ];
        Report { bench: "coordinator".into(), conditions, cases }
    }

    #[test]
    fn the_json_has_exactly_the_agreed_form() {
        let line = report().json();
        assert!(!line.contains('\n'));
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            parsed,
            json!({
                "bench": "coordinator",
                "conditions": {
                    "date": "2026-01-02T03:04:05Z", "versions": { "pyarrow": "26.0.1" },
                },
                "cases": {
                    "fast": {
                        "ours": { "min": 10_000.0, "median": 20_000.0, "max": 30_000.0 },
                        "peer": { "min": 100.0, "median": 100.0, "max": 100.0 },
                        "peer_name": "peer", "unit": "jobs/s", "ratio": 200.0,
                    },
                    "late": {
                        "ours": { "min": 10.0, "median": 10.0, "max": 10.0 },
                        "peer": { "min": 5.0, "median": 5.0, "max": 5.0 },
                        "peer_name": "target", "unit": "ms", "ratio": 0.5,
                    },
                },
            })
        );
    }

    #[test]
    fn the_newest_section_goes_first() {
        let section = report().markdown();
        assert!(section.starts_with("## 2026-01-02, `cargo xtask bench coordinator`\n"));
        let row = "| `fast` | 10,000, 20,000, 30,000 | 100, 100, 100 | jobs/s | peer | 200.00 |\n";
        assert!(section.contains(row), "{section}");
        assert!(section.contains("- versions: pyarrow 26.0.1\n"), "{section}");
        let page = insert("# Results\n\nText.\n\n## old\n\nx\n", "## new\n\ny\n");
        assert_eq!(page, "# Results\n\nText.\n\n## new\n\ny\n\n## old\n\nx\n");
        assert_eq!(insert("# Results\n", "## new\n"), "# Results\n\n## new\n");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.0, 0.4567, 5.678, 56.78, 567.8, 5_678.0, 1_234_567.0].map(figure),
            ["0", "0.457", "5.68", "56.8", "568", "5,678", "1,234,567"]
        );
    }
}
