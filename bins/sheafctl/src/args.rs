//! What several commands take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sheaf_retry::HumanDuration;

/// Where a control plane serves, and is asked, if nothing else is said.
pub(crate) const ADDRESS: &str = "127.0.0.1:8080";

/// A control plane in this process.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlaneArgs {
    /// Where to serve the control plane; port 0 takes a free one
    #[arg(long, env = "SHEAF_CONTROL_ADDR", default_value = ADDRESS, value_name = "HOST:PORT")]
    pub(crate) control_addr: String,
    /// What runs the components
    #[arg(long, env = "SHEAF_DRIVER", value_enum, default_value_t = DriverName::Process)]
    pub(crate) driver: DriverName,
    /// Where runs are remembered: `memory`, or a file; by default a file in --data-dir
    #[arg(long, env = "SHEAF_STATE", value_name = "memory|PATH")]
    pub(crate) state: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The program that runs built-in components; by default sheaf-component, beside this
    /// program or in PATH
    #[arg(long, env = "SHEAF_COMPONENT_PROGRAM", value_name = "PATH")]
    pub(crate) component_program: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) durable: DurableArgs,
    /// What is logged: `debug` has each batch, `warn` hardly anything; or a filter such as
    /// `sheaf_drivers=debug,warn`
    #[arg(long, env = "SHEAF_LOG", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// Where batches of durable edges wait.
#[derive(Clone, Debug, Args)]
pub(crate) struct DurableArgs {
    /// The store and coordinator for durable edges, where one runs already; by default each run
    /// has a process of its own for them
    #[arg(long, env = "SHEAF_DURABLE_STORE", value_name = "grpc://HOST:PORT")]
    pub(crate) durable_store: Option<String>,
    /// The file with the token for it
    #[arg(long, env = "SHEAF_DURABLE_TOKEN_FILE", value_name = "PATH", requires = "durable_store")]
    pub(crate) durable_token_file: Option<PathBuf>,
    /// Send that token to another machine unencrypted
    #[arg(long, env = "SHEAF_DURABLE_INSECURE", requires = "durable_token_file")]
    pub(crate) durable_insecure: bool,
    /// How long batches of durable edges are kept after they were completed
    #[arg(
        long,
        env = "SHEAF_DURABLE_RETENTION",
        default_value = "1m",
        value_name = "TIME",
        value_parser = retention
    )]
    pub(crate) durable_retention: Duration,
    /// The program of stores and coordinators; by default sheaf, beside this program or in PATH
    #[arg(long, env = "SHEAF_STORE_PROGRAM", value_name = "PATH")]
    pub(crate) store_program: Option<PathBuf>,
}

/// Between the time in which a batch that is put is registered, and a year.
fn retention(text: &str) -> Result<Duration, String> {
    let time: HumanDuration = text.parse().map_err(|error| format!("{error}"))?;
    match time.0 {
        time if time < Duration::from_secs(60) => Err("write 1m or more".to_owned()),
        time if time > Duration::from_secs(366 * 24 * 3600) => Err("write 366d or less".to_owned()),
        time => Ok(time),
    }
}

/// The folder of everything that is kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    /// The folder for logs, state and tokens
    #[arg(long, env = "SHEAF_DATA_DIR", default_value = ".sheaf", value_name = "PATH")]
    pub(crate) data_dir: PathBuf,
}

/// A control plane elsewhere.
#[derive(Clone, Debug, Args)]
pub(crate) struct AskArgs {
    /// The control plane to ask
    #[arg(long, short, env = "SHEAF_CONTROL", default_value = ADDRESS, value_name = "HOST:PORT")]
    pub(crate) server: String,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What runs components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DriverName {
    /// Processes of this machine
    Process,
    /// Containers
    Docker,
    /// Kubernetes
    Kubernetes,
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

    /// What a server remembers.
    pub(crate) fn server_state(&self) -> PathBuf {
        self.data_dir.join("control.redb")
    }

    /// What the runs of one pipeline by `sheafctl run` are remembered in.
    pub(crate) fn run_state(&self, pipeline: &str) -> PathBuf {
        self.pipelines().join(pipeline).join("control.redb")
    }
}
