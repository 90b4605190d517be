//! The `sheafctl` binary: parse, build, run.

mod advice;
mod args;
mod cli;
mod command;
mod help;
mod keeper;
mod logging;
mod pages;
mod plane;
mod progress;
mod remote;
mod secure;
mod signals;
mod stats;
mod sweep;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use cli::Cli;
use command::run;

/// A large file is a great many small texts: the check of one takes a quarter less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pages::use_small();
    if let Some(code) = keeper::serve() {
        return code;
    }
    let cli = Cli::parse();
    let json = cli.command.json();
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            let failure = advice::of_pipelines(failure);
            if !failure.is_quiet() {
                let text = if json { failure.to_json() } else { failure.to_text() };
                // Nobody is left to be told where even that cannot be written.
                drop(std::io::stderr().write_all(text.as_bytes()));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
