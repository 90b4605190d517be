//! Project automation: `cargo xtask <TASK>`.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]
#![allow(
    clippy::disallowed_methods,
    reason = "a binary: the environment and the clock are its own"
)]

mod bench;
mod codegen;
mod error;
mod fuzz;
mod image;
mod process;
mod sanitize;
mod screenshots;
mod services;
mod soak;
mod test;
mod tidy;
mod verify;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{error::Result, workspace::Workspace};

/// Project automation.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Provision the servers and the Python that tests use (below the target directory).
    Services {
        /// Which ones; all when none is named. A name that is not known lists them.
        names: Vec<String>,
    },
    /// Fetch the flights and the weather that examples read (below the target directory).
    Data,
    /// Provision the services and run the whole suite.
    Test {
        /// For `cargo test`, in place of `--workspace`; its own go after a further `--`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Check the house rules: edges, layout, licences, lengths, words, links.
    Tidy,
    /// Build a container image of our programs and their libraries, from nothing else.
    Image(image::Options),
    /// Make the pictures of the web console that the README shows.
    Screenshots,
    /// Generate the committed Protocol Buffers code.
    Codegen {
        /// Write nothing; fail when a committed file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Everything that CI checks, one line a step.
    Verify,
    /// Run the long forms of tests, and libFuzzer.
    Soak {
        /// Only those whose name contains this; `fuzz` is libFuzzer.
        name: Option<String>,
        /// Only this fuzz target.
        target: Option<String>,
        /// How long each fuzz target runs.
        #[arg(long, default_value = "10", allow_negative_numbers = true)]
        minutes: fuzz::Minutes,
        /// Show the names only.
        #[arg(long)]
        list: bool,
    },
    /// Run the tests around `unsafe` under AddressSanitizer and valgrind.
    Sanitize {
        /// Only one of them.
        #[arg(value_enum)]
        only: Option<sanitize::Checker>,
    },
    /// Run a comparison with peers (coordinator, exchange, flight, valkey), or criterion benches.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let workspace = Workspace::load()?;
    match cli.task {
        Task::Services { names } => services::run(&workspace, &names),
        Task::Data => services::data(&workspace),
        Task::Test { arguments } => test::run(&workspace, &arguments),
        Task::Tidy => tidy::run(&workspace),
        Task::Codegen { check } => codegen::run(&workspace, check),
        Task::Screenshots => screenshots::run(&workspace),
        Task::Image(options) => image::run(&workspace, &options),
        Task::Verify => verify::run(&workspace),
        Task::Soak { name, target, minutes, list: false }
            if name.as_deref() == Some(fuzz::NAME) =>
        {
            fuzz::run(&workspace, target.as_deref(), minutes)
        }
        Task::Soak { target: Some(target), .. } => {
            Err(error::Error::Message(format!("only `soak fuzz` has targets, what is {target:?}?")))
        }
        Task::Soak { name, minutes, list, .. } => {
            soak::run(&workspace, name.as_deref(), minutes, list)
        }
        Task::Sanitize { only } => sanitize::run(&workspace, only),
        Task::Bench(options) => bench::run(&workspace, &options),
    }
}
