//! The lock file of the fuzz targets: what is fuzzed is what ships.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde::Deserialize;

use super::Finding;
use crate::{
    error::{Error, Result},
    process,
    workspace::Workspace,
};

const LOCK: &str = "fuzz/Cargo.lock";
const REMEDY: &str =
    "cp Cargo.lock fuzz/Cargo.lock && cargo metadata --manifest-path fuzz/Cargo.toml >/dev/null";

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// Compares it with the manifests, and its versions with those of the workspace.
///
/// # Errors
///
/// Fails when a lock file cannot be read.
pub(super) fn check(workspace: &Workspace, findings: &mut Vec<Finding>) -> Result<()> {
    let mut command = workspace.cargo();
    // One platform: what the others have need not be fetched to compare the lock.
    command.args(["metadata", "--format-version=1", "--locked", "--filter-platform"]);
    command.args(["x86_64-unknown-linux-gnu", "--manifest-path"]);
    command.arg(workspace.path("fuzz/Cargo.toml"));
    if let Err(error) = process::capture(&mut command) {
        findings.push(Finding::new(LOCK, 1, format!("stale, or unreadable: {error}"), REMEDY));
        return Ok(());
    }
    let read = |path: &str| -> Result<String> {
        let path = workspace.path(path);
        fs::read_to_string(&path).map_err(Error::io("read", &path))
    };
    findings.extend(differing(&read("Cargo.lock")?, &read(LOCK)?)?);
    Ok(())
}

/// Packages that the workspace has in other versions.
fn differing(ours: &str, fuzzed: &str) -> Result<Vec<Finding>> {
    let parse = |text: &str| -> Result<Lock> {
        toml::from_str(text)
            .map_err(|error| Error::Message(format!("cannot understand a lock file: {error}")))
    };
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Package { name, version } in parse(ours)?.package {
        versions.entry(name).or_default().insert(version);
    }
    let differs = |package: &Package| {
        versions.get(&package.name).is_some_and(|ours| !ours.contains(&package.version))
    };
    let packages = parse(fuzzed)?.package.into_iter().filter(differs);
    Ok(packages
        .map(|Package { name, version }| {
            let what = format!("{name} {version} is not what the workspace has");
            Finding::new(LOCK, 1, what, REMEDY)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::differing;

    #[test]
    fn other_versions_are_found_and_other_packages_are_not() {
        let lock = |packages: &[(&str, &str)]| -> String {
            let package = |(name, version)| {
                format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n")
            };
            packages.iter().copied().map(package).collect()
        };
        let ours = lock(&[("arrow", "60.1.0"), ("rand", "0.8.0"), ("rand", "0.9.0")]);
        let same = lock(&[("arrow", "60.1.0"), ("rand", "0.9.0"), ("libfuzzer-sys", "0.4.13")]);
        assert!(differing(&ours, &same).unwrap().is_empty());
        let old = lock(&[("arrow", "60.0.0"), ("rand", "0.8.0")]);
        let findings = differing(&ours, &old).unwrap();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().contains("arrow 60.0.0"), "{}", findings[0]);
    }
}
