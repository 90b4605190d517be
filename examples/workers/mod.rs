//! Worker processes that shuffle tables among themselves, and the parent that
//! leads them: what the examples with several processes share.
//!
//! An example says what it does in a [`Job`]. The parent starts this program
//! again as each worker; each has an exchange and a Flight server. It gives them
//! tasks as lines of JSON on their standard input, and reads what became of them
//! from their standard output. Where the input ends, so does the worker: none
//! outlives its parent.

mod arguments;
mod check;
mod child;
mod job;
mod kill;
mod lead;
mod left;
mod protocol;
mod receive;
mod report;
mod send;
mod server;
mod tables;
mod usage;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;
use sheaf_terminal::{Console, Failure};

use arguments::Arguments;
#[allow(unused_imports, reason = "each example uses some of them")]
pub(crate) use job::{Input, Job, Reducer, Route, as_it_is};

/// What goes wrong in a job.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs a job, as the parent or as one of its workers.
pub(crate) fn main(job: &'static Job) -> ExitCode {
    let arguments = Arguments::parse();
    let mut console = Console::stdio();
    match run(job, &arguments, &mut console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console.note(failure.to_text().trim_end());
            ExitCode::from(failure.exit_code())
        }
    }
}

#[tokio::main]
async fn run(
    job: &'static Job,
    arguments: &Arguments,
    console: &mut Console,
) -> Result<(), Failure> {
    if arguments.worker {
        worker::run(job, arguments).await
    } else {
        lead::run(job, arguments, console).await
    }
}
