//! The `sheaf-component` binary: parse, build, run.

mod alone;
mod cli;
mod feed;
mod help;
mod host;
mod list;
mod place;
mod signals;
mod trial;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};
use mimalloc::MiMalloc;
use sheaf_dataflow::exit_code;
use sheaf_pipeline::spec::Role;
use sheaf_retry::{Code, SystemClock};
use sheaf_telemetry::{LogOptions, TraceOptions, init_logs, init_traces};
use sheaf_terminal::{Console, Failure};

/// Columns are built and dropped all the time, by threads that did not make them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A command as those of `sheafctl` are, and no component.
    let of_tests = match &cli.command {
        Command::Test(args) => Some(args.json()),
        _ => None,
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_quiet() => ExitCode::SUCCESS,
        Err(failure) => {
            let text = if of_tests == Some(true) { failure.to_json() } else { failure.to_text() };
            // Nobody is left to be told where even that cannot be written.
            drop(std::io::stderr().write_all(text.as_bytes()));
            ExitCode::from(match of_tests {
                Some(_) => failure.exit_code(),
                None => exit_code(failure.code()),
            })
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let filter = match &cli.command {
        // What it has to say of components is in what it prints.
        Command::Test(_) if !cli.verbose => cli.log.or_else(|| Some("warn".to_owned())),
        _ => cli.log,
    };
    let options = LogOptions { verbose: cli.verbose, filter, ..LogOptions::default() };
    init_logs(&options).map_err(|error| Failure::from_error(&error))?;
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
            Failure::new(Code::Io, "the threads of this process cannot be started").because(error)
        })
    };
    match cli.command {
        Command::Run { assignment } => {
            let options = TraceOptions::from_environment("sheaf-component");
            let traces = init_traces(&options, &SystemClock::shared())
                .map_err(|error| Failure::from_error(&error))?;
            let runtime = runtime()?;
            let result = runtime.block_on(place::run(&assignment, traces.tracer()));
            // What a source waits for on another thread is not to hold up the end.
            runtime.shutdown_background();
            result
        }
        Command::Test(args) => trial::run(&args, &runtime()?, &mut Console::stdio()),
        Command::List { json } => list::run(json, &mut Console::stdio()),
        Command::Source(alone) => runtime()?.block_on(alone::run(Role::Source, alone)),
        Command::Processor(alone) => runtime()?.block_on(alone::run(Role::Processor, alone)),
        Command::Sink(alone) => runtime()?.block_on(alone::run(Role::Sink, alone)),
    }
}
