//! What the commands do.

mod client;
mod file;
mod graph;
mod init;
pub(crate) mod tap;
pub(crate) mod top;
mod validate;

use clap::CommandFactory as _;
use sheaf_pipeline::spec::json_schema;
use sheaf_retry::Code;
use sheaf_terminal::{Console, Failure};

use crate::cli::{Cli, Command};

/// Runs one command.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    let mut console = Console::stdio();
    match command {
        Command::Validate { files, deny_warnings, json } => {
            validate::run(&files, deny_warnings, json, &mut console)
        }
        Command::Graph { file, format, json } => graph::run(&file, format, json, &mut console),
        Command::Schema => schema(&mut console),
        Command::Init { file, name, json } => init::run(&file, name, json, &mut console),
        Command::Tap(args) => tap::run(&args, &mut console),
        Command::Top(args) => top::run(&args, &mut console),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sheafctl", &mut script);
            console.data(&String::from_utf8_lossy(&script))
        }
    }
}

fn schema(console: &mut Console) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(json_schema()).map_err(|error| {
        Failure::new(Code::Internal, "the schema cannot be written").because(error)
    })?;
    console.data(&(text + "\n"))
}
