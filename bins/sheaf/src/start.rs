//! From parsed words to running commands.

use std::collections::BTreeMap;
use std::ffi::OsString;

use sheaf_node::args::ServeArgs;
use sheaf_node::client::{CoordinatorCommand, RestoreArgs, ServerArgs, Session};
use sheaf_node::config::Machine;
use sheaf_node::demo::DemoArgs;
use sheaf_node::doctor::DoctorArgs;
use sheaf_retry::{Code, SystemClock};
use sheaf_telemetry::{TraceOptions, init_logs, init_traces};
use sheaf_terminal::{Console, Failure};

pub(crate) fn serve(args: &ServeArgs) -> Result<(), Failure> {
    let resolved = args.resolve(&environment(), &Machine::this())?;
    init_logs(resolved.config.logs()).map_err(|error| Failure::from_error(&error))?;
    for name in &resolved.ignored {
        tracing::debug!(name, "environment variable is no setting and is ignored");
    }
    if args.die_with_parent() {
        sheaf_node::serve::die_with_parent();
    }
    let clock = SystemClock::shared();
    let traces = init_traces(&TraceOptions::from_environment("sheaf"), &clock)
        .map_err(|error| Failure::from_error(&error))?;
    let serve = sheaf_node::serve::serve;
    on_runtime(serve(resolved.config, clock, traces.tracer(), Console::stdio())).map_err(
        // A start does not ask for batches: what is missing or in the way is a path.
        |failure| match failure.code() {
            Code::NotFound => failure.help("check the path: its parent directory must exist"),
            Code::AlreadyExists => failure.help("name a directory; a file of that name is there"),
            _ => failure,
        },
    )
}

pub(crate) fn doctor(args: DoctorArgs) -> Result<(), Failure> {
    let (environment, machine) = (environment(), Machine::this());
    on_runtime(args.run(&environment, &machine, SystemClock::shared(), Console::stdio()))
}

fn environment() -> BTreeMap<String, String> {
    let texts = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(texts).collect()
}

pub(crate) fn demo(args: DemoArgs) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(Code::Io, "the path of this program is not known").because(error)
    })?;
    let (clock, temporary) = (SystemClock::shared(), std::env::temp_dir());
    on_runtime(args.run(program, temporary, clock, Console::stdio()))
}

pub(crate) fn restore(args: RestoreArgs) -> Result<(), Failure> {
    on_runtime(args.run(Console::stdio()))
}

pub(crate) fn coordinator(command: CoordinatorCommand) -> Result<(), Failure> {
    on_runtime(command.run(SystemClock::shared(), Console::stdio()))
}

/// Runs a command that talks to a server.
pub(crate) fn ask(
    server: &ServerArgs,
    command: impl AsyncFnOnce(&mut Session) -> Result<(), Failure>,
) -> Result<(), Failure> {
    on_runtime(async {
        let mut session = Session::try_new(server, SystemClock::shared(), Console::stdio())?;
        command(&mut session).await
    })
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
