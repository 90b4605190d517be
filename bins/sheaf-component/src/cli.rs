//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::help::{ALONE, EXAMPLES, EXIT_CODES, RUN};
use crate::trial;

/// One built-in component of a Sheaf pipeline.
#[derive(Debug, Parser)]
#[command(
    name = "sheaf-component",
    version,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log what happens to each batch
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Which log lines, such as `sheaf_components=trace,info`; overrides --verbose
    #[arg(long, global = true, env = "SHEAF_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take a place of a pipeline
    #[command(after_help = format!("{RUN}\n\n{EXIT_CODES}"))]
    Run {
        /// What the component is to do and where
        #[arg(long, env = sheaf_dataflow::ASSIGNMENT_VARIABLE, value_name = "FILE")]
        assignment: PathBuf,
    },
    /// Say what is built in
    List {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Run the tests of a pipeline, which `sheafctl test` gives on standard input
    Test(trial::Args),
    /// Run a source alone: what it makes is printed
    #[command(after_help = ALONE)]
    Source(Alone),
    /// Run a processor alone: rows from standard input, what comes of them is printed
    #[command(after_help = ALONE)]
    Processor(Alone),
    /// Run a sink alone: rows from standard input
    #[command(after_help = ALONE)]
    Sink(Alone),
}

/// A component by itself, for debugging.
#[derive(Debug, Args)]
pub(crate) struct Alone {
    /// The kind, as `sheaf-component list` has it
    pub(crate) kind: String,
    /// What it is to do, as YAML or JSON
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A folder that outlives the process: a source goes on from where it was
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,
    /// Rows that a source makes at most
    #[arg(long, value_name = "ROWS")]
    pub(crate) rows: Option<usize>,
    /// How rows are printed
    #[arg(long, short, value_enum, default_value_t = Format::Json)]
    pub(crate) format: Format,
    /// Where to answer `GET /health`, or `none`
    #[arg(long, default_value = "127.0.0.1:8088", value_name = "HOST:PORT")]
    pub(crate) health: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One object a line
    Json,
    /// A table for each batch
    Table,
    /// Comma-separated values
    Csv,
    /// An Arrow IPC stream
    Ipc,
}

impl Format {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Table => "table",
            Format::Csv => "csv",
            Format::Ipc => "ipc",
        }
    }
}
