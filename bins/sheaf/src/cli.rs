//! The command line.

use clap::{Parser, Subcommand};
use sheaf_node::args::ServeArgs;
use sheaf_node::client::{BatchesCommand, GetArgs, PutArgs, QueueCommand, ServerArgs};
use sheaf_node::demo::DemoArgs;
use sheaf_terminal::exit_code_help;

use crate::help::{BATCHES_EXAMPLES, EXAMPLES, GET_EXAMPLES, PUT_EXAMPLES, SERVE_EXAMPLES};

/// Durable pipelines of Apache Arrow record batches.
///
/// Without a command, `sheaf` serves: `sheaf --mode=all` is `sheaf serve --mode=all`.
#[derive(Debug, Parser)]
#[command(
    name = "sheaf",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit_code_help()),
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server, or workers for one
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// See it work: real data, several workers, one of them killed half-way
    Demo(DemoArgs),
    /// Store files as batches
    #[command(after_help = PUT_EXAMPLES)]
    Put {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        args: PutArgs,
    },
    /// Fetch the rows of a batch
    #[command(after_help = GET_EXAMPLES)]
    Get {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        args: GetArgs,
    },
    /// Look at batches and change their fate
    #[command(after_help = BATCHES_EXAMPLES)]
    Batches {
        #[command(flatten)]
        server: ServerArgs,
        #[command(subcommand)]
        command: BatchesCommand,
    },
    /// Pause, resume or drain a queue
    Queue {
        #[command(flatten)]
        server: ServerArgs,
        #[command(subcommand)]
        command: QueueCommand,
    },
}

impl Command {
    /// Whether a program reads what the command writes.
    pub(crate) fn json(&self) -> bool {
        match self {
            Command::Serve(_) => false,
            Command::Demo(args) => args.json,
            Command::Put { server, .. }
            | Command::Get { server, .. }
            | Command::Batches { server, .. }
            | Command::Queue { server, .. } => server.json,
        }
    }
}
