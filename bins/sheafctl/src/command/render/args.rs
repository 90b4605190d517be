//! What `sheafctl render` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sheaf_dataflow::DurableAssignment;
use sheaf_drivers::IMAGE;
use sheaf_drivers::kubernetes::Settings;
use sheaf_flight::Target;
use sheaf_pipeline::spec::Size;
use sheaf_retry::{Code, HumanBytes};
use sheaf_terminal::Failure;

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
            durable: self.durable()?,
        })
    }

    /// The store, where one is given, and pods can call it.
    fn durable(&self) -> Result<Option<DurableAssignment>, Failure> {
        let given = &self.store;
        let Some(address) = &given.durable_store else { return Ok(None) };
        let refused =
            |text: String| Failure::new(Code::InvalidArgument, text).of("--durable-store");
        let target: Target = address.parse().map_err(|error: sheaf_flight::Error| {
            Failure::from_error(&error).of("--durable-store").help("write it as grpc://HOST:PORT")
        })?;
        let host = target.host().trim_matches(['[', ']']);
        let is_here = host.parse().is_ok_and(|host: std::net::IpAddr| host.is_loopback());
        if is_here || host.eq_ignore_ascii_case("localhost") || target.path().is_some() {
            let text = format!("{address} would be the pod itself, and not the store");
            return Err(refused(text).help("write the name that pods call it by"));
        }
        if target.is_tls() {
            let text = format!("{address}: components call their store without TLS");
            return Err(refused(text).help("write it as grpc://HOST:PORT"));
        }
        let token = given.token()?;
        if token.is_some() && !given.durable_insecure {
            let text = "the token would go from pods to the store unencrypted";
            return Err(refused(text.to_owned()).help(
                "--durable-insecure allows it, where the network of the cluster is trusted",
            ));
        }
        let retention_ms = u64::try_from(given.durable_retention.as_millis()).unwrap_or(u64::MAX);
        let (store, coordinator) = (address.clone(), address.clone());
        let insecure = given.durable_insecure;
        Ok(Some(DurableAssignment { store, coordinator, token, insecure, retention_ms }))
    }
}
