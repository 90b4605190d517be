//! The folder of everything that is kept.

use std::path::PathBuf;

use clap::Args;

use super::DATA_DIR;

/// The folder of everything that is kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    /// The folder for logs, state and tokens
    #[arg(
        long,
        env = "SHEAF_DATA_DIR",
        default_value = DATA_DIR,
        value_name = "PATH",
        global = true
    )]
    pub(crate) data_dir: PathBuf,
}

impl DataArgs {
    /// The folder with one for each pipeline.
    pub(crate) fn pipelines(&self) -> PathBuf {
        self.data_dir.join("pipelines")
    }

    /// The token for starting and stopping.
    pub(crate) fn token(&self) -> PathBuf {
        self.data_dir.join("control-token")
    }

    /// Where consoles say that they are.
    pub(crate) fn consoles(&self) -> PathBuf {
        self.data_dir.join("consoles")
    }

    /// What a server remembers.
    pub(crate) fn server_state(&self) -> PathBuf {
        self.data_dir.join("control.redb")
    }

    /// What the runs of one pipeline by `sheafctl run` are remembered in.
    pub(crate) fn run_state(&self, pipeline: &str) -> PathBuf {
        self.pipelines().join(pipeline).join("control.redb")
    }
}
