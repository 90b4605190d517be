//! Where secrets are in a cluster.

use std::collections::BTreeSet;

use sheaf_pipeline::spec::{Component, Reference, SecretKey, Text};

use super::names;
use crate::references;

/// Below this, components find the secrets that their configuration refers to.
pub(crate) const REFERENCES: &str = "/run/sheaf/references";

/// A value that the cluster must be given: it is not in the file, and no driver of the
/// cluster can look where the file says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The secret that is to have it.
    pub secret: String,
    /// Its key there.
    pub key: String,
    /// Where the file says that it is.
    pub reference: Reference,
}

/// The secret with what a cluster must be given for a pipeline.
pub(crate) fn of_pipeline(pipeline: &str) -> String {
    names::of_pipeline(pipeline, "references")
}

/// The entry of a secret that a reference means, in a cluster: of `secret`, where the file does
/// not say of which.
pub(crate) fn entry(secret: &str, reference: &Reference) -> SecretKey {
    let key = match reference {
        Reference::KubernetesSecret(entry) => return entry.clone(),
        Reference::Env(variable) => variable.clone(),
        Reference::File(path) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let name: String = name.chars().filter(|c| plain(*c)).take(40).collect();
            format!("file-{}-{name}", names::hash(path))
        }
        Reference::Command(command) => format!("command-{}", names::hash(&command.join("\0"))),
    };
    SecretKey { name: secret.to_owned(), key }
}

/// The secrets of one component.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Entries that its configuration refers to, to be mounted as files.
    pub(crate) mounted: BTreeSet<(String, String)>,
    /// Values that the cluster must be given.
    pub(crate) wanted: Vec<Wanted>,
}

impl Secrets {
    /// Looks through a component, and gives it with the places of the cluster for its
    /// references: in `secret`, but for those that name another one.
    pub(crate) fn of(secret: &str, component: &Component) -> (Self, Component) {
        let mut secrets = Secrets::default();
        for text in component.environment.values() {
            if let Text::Reference(reference) = text {
                secrets.want(secret, reference);
            }
        }
        let config = references::exchanged(component, |reference| {
            let SecretKey { name, key } = secrets.want(secret, reference);
            let path = format!("{REFERENCES}/{name}/{key}");
            secrets.mounted.insert((name, key));
            Ok::<_, std::convert::Infallible>(Reference::File(path))
        });
        let Ok(config) = config;
        (secrets, Component { config, ..component.clone() })
    }

    fn want(&mut self, secret: &str, reference: &Reference) -> SecretKey {
        let entry = entry(secret, reference);
        if !matches!(reference, Reference::KubernetesSecret(_)) {
            let (secret, key) = (entry.name.clone(), entry.key.clone());
            self.wanted.push(Wanted { secret, key, reference: reference.clone() });
        }
        entry
    }
}
