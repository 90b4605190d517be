//! The top level holds what the architecture lists, and nothing else.

use std::{collections::BTreeSet, path::PathBuf};

use super::Finding;

/// Must be there.
const REQUIRED: [&str; 19] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "NOTICE",
    "README.md",
    "benches",
    "bins",
    "clippy.toml",
    "crates",
    "deny.toml",
    "examples",
    "fuzz",
    "proto",
    "rustfmt.toml",
    "typos.toml",
    "xtask",
];

/// May be there; so may folders that begin with a dot.
const ALLOWED: [&str; 1] = ["rust-toolchain.toml"];

/// Compares the first part of every path with the lists.
pub(super) fn check(sources: &[PathBuf], findings: &mut Vec<Finding>) {
    let entries: BTreeSet<String> = sources
        .iter()
        .filter_map(|path| path.iter().next())
        .map(|first| first.to_string_lossy().into_owned())
        .collect();
    for entry in &entries {
        let known = REQUIRED.contains(&entry.as_str()) || ALLOWED.contains(&entry.as_str());
        if !known && !entry.starts_with('.') {
            findings.push(Finding::new(
                entry,
                1,
                "not a top-level entry of this project",
                "move it into one of the folders that ARCHITECTURE.md lists",
            ));
        }
    }
    for required in REQUIRED {
        if !entries.contains(required) {
            findings.push(Finding::new(required, 1, "missing", "add it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{REQUIRED, check};

    #[test]
    fn strangers_and_gaps_are_found() {
        let mut sources: Vec<std::path::PathBuf> = REQUIRED.map(Into::into).to_vec();
        sources.push(".ci/run".into());
        sources.push("crates/store/src/lib.rs".into());
        let mut findings = Vec::new();
        check(&sources, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");

        sources.push("scripts/build.sh".into());
        sources.retain(|path| !path.starts_with("NOTICE"));
        check(&sources, &mut findings);
        let paths: Vec<_> = findings.iter().map(|f| f.path.display().to_string()).collect();
        assert_eq!(paths, ["scripts", "NOTICE"]);
    }
}
