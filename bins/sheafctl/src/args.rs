//! What several commands take.

mod console;
mod durable;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sheaf_drivers::IMAGE;

pub(crate) use durable::DurableArgs;

pub(crate) use console::ConsoleArgs;

/// Where a control plane serves, and is asked, if nothing else is said.
pub(crate) const ADDRESS: &str = "127.0.0.1:8080";

/// The folder of everything that is kept, if nothing else is said.
pub(crate) const DATA_DIR: &str = ".sheaf";

/// Where a Docker engine listens, if nothing else is said.
const DOCKER_HOST: &str = "unix:///var/run/docker.sock";

/// A control plane in this process.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlaneArgs {
    /// Where to serve the control plane; port 0 takes a free one
    #[arg(long, env = "SHEAF_CONTROL_ADDR", default_value = ADDRESS, value_name = "HOST:PORT")]
    pub(crate) control_addr: String,
    #[command(flatten)]
    pub(crate) console: ConsoleArgs,
    /// Serve beyond this machine without encryption; whoever starts pipelines still has to show
    /// the token of this control plane, and components those of their places
    #[arg(long, env = "SHEAF_INSECURE")]
    pub(crate) insecure: bool,
    /// What runs the components
    #[arg(long, env = "SHEAF_DRIVER", value_enum, default_value_t = DriverName::Process)]
    pub(crate) driver: DriverName,
    /// Where runs are remembered: `memory`, or a file; by default a file in --data-dir
    #[arg(long, env = "SHEAF_STATE", value_name = "memory|PATH")]
    pub(crate) state: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) platform: PlatformArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
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

/// Encryption of everything that goes between the control plane and components.
#[derive(Clone, Debug, Args)]
pub(crate) struct TlsArgs {
    /// Encrypt everything, and have each end show who it is: with certificates that are made for
    /// it, in a folder that only its owner may read
    #[arg(long, env = "SHEAF_TLS")]
    pub(crate) tls: bool,
    /// The certificate of an authority that signs them, in PEM, in place of one that is made for
    /// it; turns TLS on
    #[arg(long, env = "SHEAF_TLS_AUTHORITY", value_name = "FILE", requires = "tls_authority_key")]
    pub(crate) tls_authority: Option<PathBuf>,
    /// The private key of that authority, in PEM
    #[arg(long, env = "SHEAF_TLS_AUTHORITY_KEY", value_name = "FILE", requires = "tls_authority")]
    pub(crate) tls_authority_key: Option<PathBuf>,
}

impl TlsArgs {
    pub(crate) fn is_wanted(&self) -> bool {
        self.tls || self.tls_authority.is_some()
    }
}

/// Where containers and pods run.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct PlatformArgs {
    /// The image of built-in components, on Docker and Kubernetes; by default that of this
    /// version, which `cargo xtask image` makes
    #[arg(long, env = "SHEAF_IMAGE", default_value = IMAGE, value_name = "NAME")]
    pub(crate) image: String,
    /// The host under which containers and pods reach this control plane; on Docker, by default,
    /// this machine as their network has it
    #[arg(long, env = "SHEAF_ADVERTISE_HOST", value_name = "HOST")]
    pub(crate) advertise_host: Option<String>,
    /// The Docker engine: unix:///PATH or tcp://HOST:PORT
    #[arg(long, env = "DOCKER_HOST", default_value = DOCKER_HOST, value_name = "ADDRESS")]
    pub(crate) docker_host: String,
    /// The folder that built-in components find as their working directory in containers, so
    /// that relative paths mean what they mean here; `none` gives each a volume instead. By
    /// default this directory, and `none` for an engine that is not on this machine
    #[arg(long, env = "SHEAF_DOCKER_FOLDER", value_name = "PATH|none")]
    pub(crate) docker_folder: Option<PathBuf>,
    /// The namespace of Kubernetes
    #[arg(long, env = "SHEAF_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
    /// The kubeconfig; by default as kubectl finds it, or the cluster that this runs in
    #[arg(long, env = "SHEAF_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, in place of its current one
    #[arg(long, env = "SHEAF_KUBE_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The class of the volumes of Kubernetes; by default that of the cluster
    #[arg(long, env = "SHEAF_STORAGE_CLASS", value_name = "NAME")]
    pub(crate) storage_class: Option<String>,
}

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

/// A control plane elsewhere.
#[derive(Clone, Debug, Args)]
pub(crate) struct AskArgs {
    /// The control plane to ask
    #[arg(
        long,
        short,
        env = "SHEAF_CONTROL",
        default_value = ADDRESS,
        value_name = "HOST:PORT",
        global = true
    )]
    pub(crate) server: String,
    /// Call it under TLS, with the certificates of this folder; with grpc+tls://HOST:PORT by
    /// default those in --data-dir
    #[arg(long, env = "SHEAF_TLS_DIR", value_name = "PATH")]
    pub(crate) tls_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What runs components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
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
