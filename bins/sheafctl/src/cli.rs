//! The command line.

mod json;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use sheaf_pipeline::graph::Format;
use sheaf_terminal::exit_code_help;

use crate::command::Render;
use crate::command::ask::Ask;
use crate::command::run::RunArgs;
use crate::command::serve::ServeArgs;
use crate::command::{tap, test, top};
use crate::help::{COMPLETIONS, EXAMPLES, GRAPH, INIT, RENDER, RUN, SCHEMA, SERVER, VALIDATE};

/// Pipelines of Apache Arrow record batches.
#[derive(Debug, Parser)]
#[command(
    name = "sheafctl",
    version,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit_code_help()),
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say everything that is wrong with the files of pipelines
    #[command(after_help = VALIDATE)]
    Validate {
        /// Files of pipelines; `-` is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Fail on warnings too
        #[arg(long)]
        deny_warnings: bool,
        /// One JSON document, for editors and CI
        #[arg(long)]
        json: bool,
    },
    /// Draw a pipeline
    #[command(after_help = GRAPH)]
    Graph {
        /// The file of the pipeline; `-` is standard input
        file: PathBuf,
        /// What to draw for: text, dot or svg
        #[arg(long, short, default_value_t)]
        format: Format,
        /// The plan as JSON instead: components, instances, edges, orders
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
    /// Print what a platform is told to run a pipeline
    #[command(after_help = RENDER)]
    Render(Render),
    /// Print the JSON Schema of the files, for editors
    #[command(after_help = SCHEMA)]
    Schema,
    /// Write a first pipeline
    #[command(after_help = INIT)]
    Init {
        /// The file to write; it must not be there yet
        #[arg(default_value = "pipeline.yaml")]
        file: PathBuf,
        /// The name of the pipeline; that of the file by default
        #[arg(long)]
        name: Option<String>,
        /// What was done, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at the rows that go over an edge
    Tap(tap::Args),
    /// Watch components and edges: rates, lag, backpressure, memory
    Top(top::Args),
    /// Run the tests in the file of a pipeline
    Test(test::Args),
    /// Run a pipeline to its end, with a control plane in this process
    #[command(after_help = RUN)]
    Run(Box<RunArgs>),
    /// Run a control plane alone, for pipelines that others start
    #[command(after_help = SERVER)]
    Server(Box<ServeArgs>),
    #[command(flatten)]
    Ask(Ask),
    /// Print what a shell needs to complete commands
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
}
