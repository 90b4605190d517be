//! The command line.

use clap::{Parser, Subcommand};
use sheaf_node::args::ServeArgs;
use sheaf_node::client::{
    BackupArgs, BatchesCommand, CoordinatorCommand, GetArgs, PutArgs, QueueCommand, RaftCommand,
    RestoreArgs, ServerArgs,
};
use sheaf_node::demo::DemoArgs;
use sheaf_node::doctor::DoctorArgs;
use sheaf_terminal::exit_code_help;

use crate::help::{
    BACKUP_EXAMPLES, BATCHES_EXAMPLES, DOCTOR_EXAMPLES, EXAMPLES, GET_EXAMPLES, PUT_EXAMPLES,
    RAFT_EXAMPLES, SERVE_EXAMPLES,
};

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
    /// Check configuration, disk, certificates, ports, servers and clocks, and say what to do
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
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
    /// Look after the nodes of a replicated coordinator
    #[command(after_help = RAFT_EXAMPLES)]
    Raft {
        #[command(flatten)]
        server: ServerArgs,
        #[command(subcommand)]
        command: RaftCommand,
    },
    /// Move what a coordinator knows to another one
    Coordinator {
        #[command(subcommand)]
        command: CoordinatorCommand,
    },
    /// Copy all that a running server has into a directory
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        args: BackupArgs,
    },
    /// Make a data directory of a backup, or check one
    #[command(after_help = BACKUP_EXAMPLES)]
    Restore(RestoreArgs),
}
