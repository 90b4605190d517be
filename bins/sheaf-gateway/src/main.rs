//! The `sheaf-gateway` binary: parse, build, run.

mod cli;
mod client;
mod serve;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};
use mimalloc::MiMalloc;
use sheaf_retry::{Code, SystemClock};
use sheaf_telemetry::{Sampled, TraceOptions, init_logs, init_traces};
use sheaf_terminal::{Console, Failure};

/// Columns are built and dropped all the time, by threads that did not make them.
#[global_allocator]
static ALLOCATOR: Sampled<MiMalloc> = Sampled::new(MiMalloc);

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_quiet() {
                // Nobody is left to be told where even that cannot be written.
                drop(std::io::stderr().write_all(failure.to_text().as_bytes()));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let clock = SystemClock::shared();
    match cli.command {
        Command::Serve(args) => {
            init_logs(&args.logs()).map_err(|error| Failure::from_error(&error))?;
            let traces = init_traces(&TraceOptions::from_environment("sheaf-gateway"), &clock)
                .map_err(|error| Failure::from_error(&error))?;
            refuse_huge_pages();
            on_runtime(serve::serve(*args, clock, traces.tracer(), Console::stdio()))
        }
        Command::Client(args) => on_runtime(client::run(*args, clock, Console::stdio())),
    }
}

/// Rows come and go in pieces of some 100 KB. A huge page is cleared as a whole
/// for the first of them in it: that took a third of all time here.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages cannot be refused");
    }
}

fn on_runtime(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Code::Io, "the threads of the program cannot be started").because(error)
    })?;
    let result = runtime.block_on(task);
    // Blocking work that nobody waits for any more is not to hold up the end.
    runtime.shutdown_background();
    result
}
