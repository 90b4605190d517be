//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "Examples:
  sheaf-component run                                      the place that SHEAF_ASSIGNMENT says
  sheaf-component list                                     what is built in
  sheaf-component source generate --config numbers.yaml    rows on standard output
  sheaf-component sink file --config out.yaml < rows.jsonl rows from standard input";

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed; to start it again may help
  2  bad configuration; to start it again is of no use";

const RUN: &str =
    "The file is JSON, and is written by whoever starts the component: its place in the
pipeline, what it is to do, whom it reads and who reads it. On SIGTERM it hands on what it
has, says goodbye and ends with 0.

It answers GET /health, /metrics and /stats where the file says.";

const ALONE: &str = "The file has what stands under `config` in a pipeline, as YAML or JSON:
  columns:
    - {name: id, values: sequence}
  rows: 10

A source prints what it makes; a processor and a sink take JSON lines from standard input,
and a processor prints what comes of them. Nothing else is needed: no control plane, no
other component.";

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
