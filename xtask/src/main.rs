//! Project automation: `cargo xtask <TASK>`.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]
#![allow(clippy::disallowed_methods, reason = "a binary: the environment and the clock are its own")]

mod codegen;
mod error;
mod process;
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
    /// Generate the committed Protocol Buffers code.
    Codegen {
        /// Write nothing; fail when a committed file is stale.
        #[arg(long)]
        check: bool,
    },
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
        Task::Codegen { check } => codegen::run(&workspace, check),
    }
}
