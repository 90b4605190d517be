//! Where containers and pods run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sheaf_drivers::IMAGE;

/// Where a Docker engine listens, if nothing else is said.
const DOCKER_HOST: &str = "unix:///var/run/docker.sock";

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
