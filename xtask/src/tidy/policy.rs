//! The dependency policy as `deny.toml` states it, so that there is only one.

use std::fs;

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    workspace::Workspace,
};

/// Where the policy stands.
pub(super) const FILE: &str = "deny.toml";

/// The parts of cargo-deny's configuration that are checked here as well.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) advisories: Advisories,
    pub(super) licenses: Licences,
    pub(super) bans: Bans,
    /// The text, to find the line of an entry.
    #[serde(skip)]
    text: String,
}

/// Known problems that we live with.
#[derive(Debug, Deserialize)]
pub(super) struct Advisories {
    pub(super) ignore: Vec<Ignored>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct Ignored {
    pub(super) id: String,
    #[serde(default)]
    pub(super) reason: String,
}

/// Allowed licences.
#[derive(Debug, Deserialize)]
pub(super) struct Licences {
    pub(super) allow: Vec<String>,
    #[serde(default)]
    pub(super) exceptions: Vec<Exception>,
}

/// Licences allowed for one crate only.
#[derive(Debug, Deserialize)]
pub(super) struct Exception {
    #[serde(rename = "crate")]
    pub(super) package: String,
    pub(super) allow: Vec<String>,
}

/// Crates that must not be there, and duplicates that may.
#[derive(Debug, Deserialize)]
pub(super) struct Bans {
    pub(super) deny: Vec<Entry>,
    pub(super) skip: Vec<Entry>,
}

/// `name` or `name@version`, with a reason.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "crate")]
    pub(super) package: String,
    #[serde(default)]
    pub(super) reason: String,
    /// Crates that may bring it all the same.
    #[serde(default)]
    pub(super) wrappers: Vec<String>,
}

impl Entry {
    /// Whether the entry means this package; `@1.2` means 1.2.x.
    pub(super) fn matches(&self, name: &str, version: &str) -> bool {
        match self.package.split_once('@') {
            None => self.package == name,
            Some((wanted, prefix)) => {
                wanted == name
                    && version
                        .strip_prefix(prefix)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
        }
    }
}

impl Policy {
    /// Reads the policy.
    ///
    /// # Errors
    ///
    /// Fails when the file is missing or has another form.
    pub(super) fn load(workspace: &Workspace) -> Result<Self> {
        let path = workspace.path(FILE);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Self::parse(text)
    }

    /// Understands the text of the file.
    pub(super) fn parse(text: String) -> Result<Self> {
        let mut policy: Self = toml::from_str(&text)
            .map_err(|error| Error::Message(format!("cannot understand {FILE}: {error}")))?;
        policy.text = text;
        Ok(policy)
    }

    /// The line that names an entry.
    pub(super) fn line_of(&self, name: &str) -> usize {
        let quoted = format!("\"{name}\"");
        self.text.lines().position(|line| line.contains(&quoted)).map_or(1, |index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn a_version_means_whole_parts() {
        let entry = |package: &str| Entry {
            package: package.into(),
            reason: String::new(),
            wrappers: Vec::new(),
        };
        assert!(entry("rand@0.8").matches("rand", "0.8.8"));
        assert!(!entry("rand@0.8").matches("rand", "0.80.1"));
        assert!(!entry("rand@0.8").matches("rand_core", "0.8.8"));
        assert!(entry("openssl-sys").matches("openssl-sys", "0.9.1"));
    }
}
