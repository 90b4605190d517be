//! What several commands take.

mod console;
mod data;
mod durable;
mod platform;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

use std::path::PathBuf;

use clap::Args;

pub(crate) use console::ConsoleArgs;
pub(crate) use data::DataArgs;
pub(crate) use durable::{DurableArgs, StoreArgs};
pub(crate) use platform::{DriverName, PlatformArgs};
pub(crate) use tls::TlsArgs;

/// Where a control plane serves, and is asked, if nothing else is said.
pub(crate) const ADDRESS: &str = "127.0.0.1:8080";

/// The folder of everything that is kept, if nothing else is said.
pub(crate) const DATA_DIR: &str = ".sheaf";

/// What runs components.
#[derive(Clone, Debug, Args)]
pub(crate) struct ComponentArgs {
    /// The program that runs built-in components; by default sheaf-component, beside this
    /// program or in PATH
    #[arg(long, env = "SHEAF_COMPONENT_PROGRAM", value_name = "PATH")]
    pub(crate) component_program: Option<PathBuf>,
}

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
    #[command(flatten)]
    pub(crate) component: ComponentArgs,
    #[command(flatten)]
    pub(crate) durable: DurableArgs,
    /// What is logged: `debug` has each batch, `warn` hardly anything; or a filter such as
    /// `sheaf_drivers=debug,warn`
    #[arg(long, env = "SHEAF_LOG", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// Where a control plane is.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
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
}

/// A control plane elsewhere.
#[derive(Clone, Debug, Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    pub(crate) at: ServerArgs,
    /// The answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}
