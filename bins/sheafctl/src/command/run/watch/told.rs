//! What is told of a file that is watched.

use sheaf_drivers::runner::{self, Reloaded};
use sheaf_pipeline::diagnostics::Report;
use sheaf_terminal::{Console, Failure};

use super::super::super::file;
use crate::progress::Progress;

/// What came of looking at the file.
pub(in super::super) enum Told {
    /// What is wrong with it, or what it may not have meant.
    Report(Report),
    /// It cannot be read now.
    Unread(Failure),
    /// It is of another pipeline.
    Renamed(String),
    /// What became of the run.
    Reloaded(Box<Result<Reloaded, runner::Error>>),
}

/// Tells people.
pub(in super::super) fn tell(
    told: Told,
    pipeline: &str,
    progress: &Progress,
    console: &mut Console,
) {
    match told {
        Told::Report(report) => {
            file::show(&report, console);
            if report.errors() > 0 {
                let text =
                    format!("{} cannot be used: {pipeline} goes on as it was", report.file());
                console.note(&text);
            }
        }
        Told::Unread(failure) => {
            console.note(failure.to_text().trim_end());
            console.note(&format!("{pipeline} goes on as it was"));
        }
        Told::Renamed(name) => console.note(&format!(
            "the file is of a pipeline {name} now: {pipeline} goes on as it was, since a pipeline \
             that runs keeps its name"
        )),
        Told::Reloaded(result) => match *result {
            Ok(reloaded) => {
                let text = format!("the file was taken up: generation {}", reloaded.generation);
                progress.note(console, &text);
            }
            Err(error) => console.note(&format!("error: {error}")),
        },
    }
}
