//! What commands that ask a control plane are told.

use std::path::PathBuf;

use clap::Args;

use crate::args::AskArgs;

#[derive(Clone, Debug, Args)]
pub(crate) struct StartArgs {
    /// The file of the pipeline; `-` is standard input
    pub(super) file: PathBuf,
    /// Begin at the beginning, whatever an earlier run that was broken off has left
    #[arg(long)]
    pub(super) fresh: bool,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ReloadArgs {
    /// The file, as it is now; `-` is standard input
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StopArgs {
    /// The pipeline, where not only one runs
    pub(super) pipeline: Option<String>,
    /// Do not wait for what is on its way
    #[arg(long)]
    pub(super) now: bool,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RestartArgs {
    /// A component, or one of its instances such as `orders.1`
    pub(super) component: String,
    /// The pipeline, where not only one runs
    #[arg(long, short)]
    pub(super) pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PsArgs {
    /// Those that do not run as well
    #[arg(long, short)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// One pipeline; all that run by default
    pub(super) pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}
