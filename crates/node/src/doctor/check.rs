//! What one look at one thing has shown.

use serde::Serialize;
use serde_json::{Map, Value};
use sheaf_retry::Code;
use sheaf_terminal::counted;

/// What is thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Fine.
    Ok,
    /// Not looked at, for a reason.
    Skipped,
    /// Works, and may not for long or not as it should.
    Warning,
    /// Does not work.
    Problem,
}

impl Verdict {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Skipped => "skipped",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Which, such as `data_dir.space`; names do not change.
    pub name: String,
    /// What is thought of it.
    pub verdict: Verdict,
    /// What was found, for people.
    pub found: String,
    /// What to do about a problem or a warning.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// The stable code of a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What was found, for programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub figures: Map<String, Value>,
}

impl Check {
    fn new(name: impl Into<String>, verdict: Verdict, found: impl Into<String>) -> Self {
        Check {
            name: name.into(),
            verdict,
            found: found.into(),
            action: String::new(),
            code: None,
            figures: Map::new(),
        }
    }

    /// Fine.
    pub(super) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Check::new(name, Verdict::Ok, found)
    }

    /// Not looked at.
    pub(super) fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Check::new(name, Verdict::Skipped, why)
    }

    /// May not work for long.
    pub(super) fn warning(
        name: impl Into<String>,
        found: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Check { action: action.into(), ..Check::new(name, Verdict::Warning, found) }
    }

    /// Does not work; the advice is that of the code.
    pub(super) fn problem(name: impl Into<String>, code: Code, found: impl Into<String>) -> Self {
        let action = code.advice().to_owned();
        Check { action, code: Some(code), ..Check::new(name, Verdict::Problem, found) }
    }

    /// With other advice.
    #[must_use]
    pub(super) fn advise(mut self, action: impl Into<String>) -> Self {
        self.action = action.into();
        self
    }

    /// With a figure for programs.
    #[must_use]
    pub(super) fn figure(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(name.to_owned(), value.into());
        self
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Of the program that looked.
    pub version: &'static str,
    /// The mode of the configuration, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// The worst of the verdicts: `ok`, `warning` or `problem`.
    pub verdict: Verdict,
    /// How many problems there are.
    pub problems: usize,
    /// How many warnings there are.
    pub warnings: usize,
    /// In the order of what depends on what.
    pub checks: Vec<Check>,
}

impl Report {
    /// Counts what was found.
    pub(super) fn new(mode: Option<&'static str>, checks: Vec<Check>) -> Self {
        let of = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
        let (problems, warnings) = (of(Verdict::Problem), of(Verdict::Warning));
        let verdict = match (problems, warnings) {
            (0, 0) => Verdict::Ok,
            (0, _) => Verdict::Warning,
            _ => Verdict::Problem,
        };
        Report { version: env!("CARGO_PKG_VERSION"), mode, verdict, problems, warnings, checks }
    }

    /// The code of the first problem: what depends on it comes after it.
    pub fn code(&self) -> Option<Code> {
        self.checks.iter().find_map(|check| check.code)
    }

    /// `1 problem, 2 warnings in 20 checks`.
    pub fn summary(&self) -> String {
        let problems = counted(self.problems as u64, "problem");
        let warnings = counted(self.warnings as u64, "warning");
        let checks = counted(self.checks.len() as u64, "check");
        format!("{problems}, {warnings} in {checks}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_counts_and_the_first_problem_names_the_code() {
        let mut checks = vec![Check::ok("a", "fine"), Check::skipped("b", "no need")];
        assert_eq!(Report::new(None, checks.clone()).verdict, Verdict::Ok);
        checks.push(Check::warning("c", "soon", "renew it"));
        assert_eq!(Report::new(None, checks.clone()).verdict, Verdict::Warning);
        checks.push(Check::problem("d", Code::Unavailable, "away"));
        checks.push(Check::problem("e", Code::Io, "broken").figure("count", 1));
        let report = Report::new(Some("all"), checks);
        assert_eq!((report.verdict, report.code()), (Verdict::Problem, Some(Code::Unavailable)));
        assert_eq!(report.summary(), "2 problems, 1 warning in 5 checks");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][2]["action"], "renew it");
        assert_eq!(json["checks"][3]["code"], "unavailable");
        assert_eq!(json["checks"][4]["figures"]["count"], 1);
        assert!(json["checks"][0].get("action").is_none());
    }

    #[test]
    fn a_problem_always_says_what_to_do() {
        for &code in Code::ALL {
            assert!(!Check::problem("x", code, "y").action.is_empty(), "{code}");
        }
    }
}
