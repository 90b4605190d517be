//! What the commands do.

pub(crate) mod ask;
mod client;
mod file;
mod graph;
mod init;
mod render;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod tap;
pub(crate) mod test;
pub(crate) mod top;
mod validate;

use std::process::ExitCode;

use clap::CommandFactory as _;
use sheaf_pipeline::spec::json_schema;
use sheaf_retry::Code;
use sheaf_terminal::{Console, Failure};

use crate::cli::{Cli, Command};

pub(crate) use render::Render;

/// Runs one command; answers what to end with where it did what it was asked.
pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let mut console = Console::stdio();
    match command {
        Command::Validate { files, deny_warnings, json } => {
            validate::run(&files, deny_warnings, json, &mut console)
        }
        Command::Graph { file, format, json } => graph::run(&file, format, json, &mut console),
        Command::Render(render) => render::run(&render, &mut console),
        Command::Schema => schema(&mut console),
        Command::Init { file, name, json } => init::run(&file, name, json, &mut console),
        Command::Tap(args) => tap::run(&args, &mut console),
        Command::Test(args) => return test::run(&args, &mut console),
        Command::Top(args) => top::run(&args, &mut console),
        Command::Run(args) => return on_runtime(run::run(*args, &mut console)),
        Command::Server(args) => on_runtime(serve::run(*args, &mut console)),
        Command::Ask(ask) => on_runtime(ask::run(ask, &mut console)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sheafctl", &mut script);
            console.data(&String::from_utf8_lossy(&script))
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

fn on_runtime<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Code::Io, "the threads of the program cannot be started").because(error)
    })?;
    let result = runtime.block_on(task);
    // Work that nobody waits for any more is not to hold up the end.
    runtime.shutdown_background();
    result
}

fn schema(console: &mut Console) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(json_schema()).map_err(|error| {
        Failure::new(Code::Internal, "the schema cannot be written").because(error)
    })?;
    console.data(&(text + "\n"))
}
