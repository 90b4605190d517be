//! The `sheaf` binary: parse, build, run.

mod cli;
mod help;
mod start;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};
use sheaf_terminal::Failure;
use start::{ask, coordinator, demo, doctor, restore, serve};

/// gRPC takes a buffer of up to 1 MiB for every frame that it receives. The
/// system's allocator gives them back each time, and new pages cost more than
/// what is read into them; this one keeps them for a moment.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.command.as_ref().is_some_and(Command::json);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_quiet() {
                let text = if json { failure.to_json() } else { failure.to_text() };
                // Nobody is left to be told where even that cannot be written.
                drop(std::io::stderr().write_all(text.as_bytes()));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => serve(&cli.serve),
        Some(Command::Serve(args)) => serve(&args),
        Some(Command::Doctor(args)) => doctor(args),
        Some(Command::Demo(args)) => demo(args),
        Some(Command::Put { server, args }) => {
            ask(&server, async |session| args.run(session).await)
        }
        Some(Command::Get { server, args }) => {
            ask(&server, async |session| args.run(session).await)
        }
        Some(Command::Batches { server, command }) => {
            ask(&server, async |session| command.run(session).await)
        }
        Some(Command::Queue { server, command }) => {
            ask(&server, async |session| command.run(session).await)
        }
        Some(Command::Raft { server, command }) => {
            ask(&server, async |session| command.run(session).await)
        }
        Some(Command::Coordinator { command }) => coordinator(command),
        Some(Command::Backup { server, args }) => {
            ask(&server, async |session| args.run(session).await)
        }
        Some(Command::Restore(args)) => restore(args),
    }
}

impl Command {
    /// Whether a program reads what the command writes.
    fn json(&self) -> bool {
        match self {
            Command::Serve(_) => false,
            Command::Doctor(args) => args.json,
            Command::Demo(args) => args.json,
            Command::Restore(args) => args.json,
            Command::Coordinator { command } => command.json(),
            Command::Put { server, .. }
            | Command::Get { server, .. }
            | Command::Batches { server, .. }
            | Command::Queue { server, .. }
            | Command::Raft { server, .. }
            | Command::Backup { server, .. } => server.json,
        }
    }
}
