//! What `sheafctl render` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use sheaf_drivers::IMAGE;
use sheaf_drivers::kubernetes::Settings;
use sheaf_pipeline::spec::Size;
use sheaf_retry::HumanBytes;
use sheaf_terminal::Failure;

use super::store::assigned;
use crate::args::StoreArgs;

/// What to render, and for which platform.
#[derive(Debug, Args)]
pub(crate) struct Render {
    /// The file of the pipeline; `-` is standard input
    pub(super) file: PathBuf,
    /// The platform
    #[arg(long, value_enum, default_value_t)]
    pub(super) driver: Platform,
    /// The namespace
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The image of built-in components; by default that of this version
    #[arg(long, visible_alias = "component-image")]
    image: Option<String>,
    /// The image of the control plane; by default that of built-in components
    #[arg(long)]
    control_image: Option<String>,
    /// What a component's volume holds, beside what its spilling edges may
    #[arg(long, value_name = "SIZE", default_value = "1GB")]
    state_size: HumanBytes,
    /// The class of volumes; that of the cluster by default
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
    /// Which pass over the data: sources that have come to their end begin anew in another one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..1 << 53))]
    pass: u64,
    #[command(flatten)]
    store: StoreArgs,
    /// What becomes of secrets
    #[arg(long, value_enum, default_value_t)]
    pub(super) secrets: Secrets,
}

/// A platform that runs containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Platform {
    /// Manifests for a cluster
    #[default]
    Kubernetes,
    /// What a Docker engine is asked for, to be read
    Docker,
}

/// What becomes of secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Secrets {
    /// They are printed with the rest
    #[default]
    Include,
    /// They are left out
    Omit,
    /// Nothing else is printed
    Only,
}

impl Render {
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let image = self.image.clone().unwrap_or_else(|| IMAGE.to_owned());
        Ok(Settings {
            namespace: self.namespace.clone(),
            control_image: self.control_image.clone().unwrap_or_else(|| image.clone()),
            component_image: image,
            state_size_bytes: Size(self.state_size.0).0,
            storage_class: self.storage_class.clone(),
            pass: self.pass,
            durable: assigned(&self.store)?,
        })
    }
}
