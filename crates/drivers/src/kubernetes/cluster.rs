//! Which cluster.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::error::causes;
use crate::DriverError;

/// Which cluster, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The kubeconfig; by default what the variable `KUBECONFIG` names, the one in the home
    /// folder, or the cluster that this process runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The context of it; by default the one that it says is current.
    pub context: Option<String>,
}

impl Cluster {
    /// A client of it; nothing is asked yet.
    pub(crate) async fn client(&self) -> Result<Client, DriverError> {
        let failed = |error: &dyn std::error::Error| DriverError {
            what: "cannot find a cluster".to_owned(),
            why: format!("{}: name a kubeconfig with --kubeconfig", causes(error)),
        };
        let Cluster { kubeconfig, context } = self;
        let options =
            KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
        let config = match kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None if context.is_some() => Config::from_kubeconfig(&options).await,
            None => return Client::try_default().await.map_err(|error| failed(&error)),
        };
        let config = config.map_err(|error| failed(&error))?;
        Client::try_from(config).map_err(|error| failed(&error))
    }
}
