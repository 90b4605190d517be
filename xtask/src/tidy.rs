//! The house rules as a check: what no compiler and no linter knows.

mod dependencies;
mod edges;
mod files;
mod fuzz;
mod layout;
mod length;
mod links;
mod policy;
mod spdx;
mod words;

use std::{fmt, path::PathBuf};

use crate::{
    error::{Error, Result},
    workspace::Workspace,
};

/// One thing that is not as the house wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: PathBuf,
    line: usize,
    what: String,
    todo: String,
    /// Worth a look, but no reason to refuse.
    warning: bool,
}

impl Finding {
    /// Something that must be put right.
    fn new(
        path: impl Into<PathBuf>,
        line: usize,
        what: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), line, what: what.into(), todo: todo.into(), warning: false }
    }

    /// The same as a question.
    fn warning(mut self) -> Self {
        self.warning = true;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.warning { "warning: " } else { "" };
        write!(f, "{}:{}: {word}{}: {}", self.path.display(), self.line, self.what, self.todo)
    }
}

/// Checks everything and prints all findings at once.
///
/// # Errors
///
/// Fails when there is a finding that is not a mere warning, or when something
/// that is to be checked cannot be read.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let sources = workspace.sources()?;
    let mut findings = Vec::new();
    layout::check(&sources, &mut findings);
    edges::check(workspace, &mut findings);
    files::check(workspace, &sources, &mut findings)?;
    links::check(workspace, &sources, &mut findings)?;
    fuzz::check(workspace, &mut findings)?;
    let policy = policy::Policy::load(workspace)?;
    let allowed_duplicates = dependencies::check(workspace, &policy, &mut findings)?;

    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let count = findings.iter().filter(|finding| !finding.warning).count();
    println!(
        "tidy: {} files, {count} finding(s), {} warning(s), {allowed_duplicates} allowed duplicate version(s)",
        sources.len(),
        findings.len() - count,
    );
    if count == 0 { Ok(()) } else { Err(Error::Findings { task: "tidy", count }) }
}
