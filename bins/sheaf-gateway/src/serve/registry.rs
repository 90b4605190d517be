//! The flags of the schema registry.

use std::path::PathBuf;

use sheaf_flight::Secret;
use sheaf_kafka::RegistryOptions;

/// Where the schemas are that messages name.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    /// Schema registry to ask for schemas of Avro and Protobuf, http:// or https://
    #[arg(id = "schema-registry", long, value_name = "URL", value_parser = hidden)]
    url: Option<Secret>,
    /// User and password for it; better given in the environment
    #[arg(
        id = "schema-registry-auth",
        long,
        value_name = "USER:PASSWORD",
        env = "SHEAF_SCHEMA_REGISTRY_AUTH",
        hide_env_values = true,
        value_parser = hidden
    )]
    auth: Option<Secret>,
    /// CA certificates (PEM) to check an https registry by [default: those of the system]
    #[arg(id = "schema-registry-ca", long, value_name = "FILE", requires = "schema-registry")]
    ca: Option<PathBuf>,
}

impl RegistryArgs {
    /// What they come to; what is wrong with them goes to `problems`.
    pub(super) fn resolve(self, problems: &mut Vec<String>) -> Option<RegistryOptions> {
        let RegistryArgs { url, auth, ca } = self;
        // A login alone may be in the environment for others.
        let url = url?;
        let login = match auth.as_ref().map(|auth| auth.expose().split_once(':')) {
            Some(Some((user, password))) => Some((user.to_owned(), Secret::new(password))),
            Some(None) => {
                problems.push("--schema-registry-auth is not of the form USER:PASSWORD".to_owned());
                None
            }
            None => None,
        };
        Some(RegistryOptions { url: url.expose().to_owned(), login, ca })
    }
}

/// Takes every text: what is wrong with one is found later, where no message
/// repeats it.
#[allow(clippy::unnecessary_wraps, reason = "the form that clap wants")]
fn hidden(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
