//! The report for people: what was found, then what to do.

use sheaf_terminal::{Console, Failure, Table};

use super::check::{Report, Verdict};

/// Writes both tables.
pub(super) fn show(report: &Report, console: &mut Console) -> Result<(), Failure> {
    let mut found = Table::new(["check", "verdict", "found"]);
    for check in &report.checks {
        found.row([check.name.as_str(), word(check.verdict), check.found.as_str()]);
    }
    console.table(&found)?;
    let mut todo = Table::new(["verdict", "check", "what to do"]);
    // Problems before warnings.
    for verdict in [Verdict::Problem, Verdict::Warning] {
        for check in report.checks.iter().filter(|check| check.verdict == verdict) {
            todo.row([word(verdict), check.name.as_str(), check.action.as_str()]);
        }
    }
    if !todo.is_empty() {
        console.data("\n")?;
        console.table(&todo)?;
    }
    Ok(())
}

/// In a column of small letters those in capitals are found at once.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Skipped => "skipped",
        Verdict::Warning => "WARNING",
        Verdict::Problem => "PROBLEM",
    }
}
