//! What comes in from outside: licences, sources, duplicates, crates that must not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Finding,
    policy::{Entry, FILE, Policy},
    spdx,
};
use crate::{error::Result, workspace::Workspace};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Of these the tree has one version: their types meet at our borders.
const ONE_VERSION: [&str; 7] = ["tonic", "prost", "hyper", "rustls", "tokio", "parquet", "bytes"];

/// A package as far as the policy cares.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// Absent for our own.
    source: Option<String>,
    /// The packages that depend on it themselves.
    brought_by: BTreeSet<String>,
}

/// Checks every package that the workspace brings in; gives the number of
/// duplicates that the policy allows.
///
/// # Errors
///
/// Fails when cargo cannot say what these packages are.
pub(super) fn check(
    workspace: &Workspace,
    policy: &Policy,
    findings: &mut Vec<Finding>,
) -> Result<usize> {
    let packages = packages(&workspace.dependencies()?);
    for package in &packages {
        check_licence(package, policy, findings);
        check_source(package, findings);
        check_bans(package, policy, findings);
    }
    check_reasons(policy, findings);
    Ok(check_duplicates(&packages, policy, findings))
}

fn check_bans(package: &Package, policy: &Policy, findings: &mut Vec<Finding>) {
    let is_banned = |entry: &&Entry| {
        entry.matches(&package.name, &package.version)
            && !package.brought_by.iter().all(|by| entry.wrappers.contains(by))
    };
    for entry in policy.bans.deny.iter().filter(is_banned) {
        let what = format!("{} {} is in the tree", package.name, package.version);
        let todo = format!(
            "{}; `cargo tree --workspace --all-features -i {}` shows who brings it",
            entry.reason, package.name
        );
        findings.push(Finding::new("Cargo.lock", 1, what, todo));
    }
}

fn packages(metadata: &Value) -> Vec<Package> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let used: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let all = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let names: BTreeMap<&str, &str> = all
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let mut dependents: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().map_or(&[][..], Vec::as_slice) {
        let by = node["id"].as_str().and_then(|id| names.get(id));
        for on in node["dependencies"].as_array().map_or(&[][..], Vec::as_slice) {
            if let (Some(by), Some(on)) = (by, on.as_str()) {
                dependents.entry(on).or_default().insert((*by).to_owned());
            }
        }
    }
    all.iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id)))
        .filter_map(|package| {
            Some(Package {
                name: text(&package["name"])?,
                version: text(&package["version"])?,
                licence: text(&package["license"]),
                source: text(&package["source"]),
                brought_by: dependents.remove(package["id"].as_str()?).unwrap_or_default(),
            })
        })
        .collect()
}

fn check_licence(package: &Package, policy: &Policy, findings: &mut Vec<Finding>) {
    let exception = policy.licenses.exceptions.iter().find(|entry| entry.package == package.name);
    let allowed = |licence: &str| {
        let in_general = policy.licenses.allow.iter().any(|allowed| allowed == licence);
        in_general
            || exception.is_some_and(|entry| entry.allow.iter().any(|allowed| allowed == licence))
    };
    let verdict = match &package.licence {
        Some(expression) => {
            spdx::evaluate(expression, &allowed).map(|ok| (ok, expression.as_str()))
        }
        None => Ok((false, "none stated")),
    };
    let licence = match verdict {
        Ok((true, _)) => return,
        Ok((false, licence)) => licence.to_owned(),
        Err(problem) => problem,
    };
    findings.push(Finding::new(
        "Cargo.lock",
        1,
        format!("{} {} has licence: {licence}", package.name, package.version),
        format!("do without it, or state an exception with its reason in {FILE}"),
    ));
}

fn check_source(package: &Package, findings: &mut Vec<Finding>) {
    if let Some(source) = package.source.as_deref().filter(|source| *source != CRATES_IO) {
        findings.push(Finding::new(
            "Cargo.lock",
            1,
            format!("{} {} comes from {source}", package.name, package.version),
            "use a release on crates.io",
        ));
    }
}

fn check_reasons(policy: &Policy, findings: &mut Vec<Finding>) {
    let ignored = policy.advisories.ignore.iter().map(|entry| (&entry.id, &entry.reason));
    let bans = policy.bans.deny.iter().chain(&policy.bans.skip);
    for (name, reason) in ignored.chain(bans.map(|entry| (&entry.package, &entry.reason))) {
        if reason.trim().is_empty() {
            let what = format!("entry `{name}` has no reason");
            findings.push(Finding::new(FILE, policy.line_of(name), what, "say why it is there"));
        }
    }
}

fn check_duplicates(packages: &[Package], policy: &Policy, findings: &mut Vec<Finding>) -> usize {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    versions.retain(|_, found| found.len() > 1);
    let mut allowed = 0;
    for (name, found) in &versions {
        let todo = format!(
            "`cargo tree --workspace --all-features -i {name}@VERSION` shows who brings each"
        );
        if name.starts_with("arrow") || ONE_VERSION.contains(name) {
            let what = format!("{name} is in the tree as {}", found.join(" and "));
            let todo = format!("one version only: {todo}");
            findings.push(Finding::new("Cargo.lock", 1, what, todo));
            continue;
        }
        let skipped =
            |version: &&&str| policy.bans.skip.iter().any(|entry| entry.matches(name, version));
        let skips = found.iter().filter(skipped).count();
        allowed += skips;
        if found.len() - skips > 1 {
            let what = format!("{name} is in the tree as {}", found.join(" and "));
            let todo =
                format!("bring it down to one, or skip the older with a reason in {FILE}: {todo}");
            findings.push(Finding::new("Cargo.lock", 1, what, todo));
        }
    }
    for entry in &policy.bans.skip {
        let needed = versions
            .iter()
            .any(|(name, found)| found.iter().any(|version| entry.matches(name, version)));
        if !needed {
            findings.push(Finding::new(
                FILE,
                policy.line_of(&entry.package),
                format!("`{}` is no longer a duplicate", entry.package),
                "remove the entry",
            ));
        }
    }
    allowed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        CRATES_IO, Package, check_bans, check_duplicates, check_licence, check_reasons,
        check_source,
    };
    use crate::tidy::policy::Policy;

    fn policy() -> Policy {
        Policy::parse(
            r#"
            [advisories]
            ignore = [{ id = "RUSTSEC-1" }]
            [licenses]
            allow = ["MIT"]
            exceptions = [{ crate = "odd", allow = ["CC0-1.0"] }]
            [bans]
            deny = [{ crate = "openssl-sys", reason = "ring only", wrappers = ["rdkafka-sys"] }]
            skip = [
              { crate = "rand@0.8", reason = "of proptest" },
              { crate = "gone@1", reason = "of nobody" },
            ]
            "#
            .into(),
        )
        .unwrap()
    }

    fn package(name: &str, version: &str, licence: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            licence: Some(licence.into()),
            source: Some(CRATES_IO.into()),
            brought_by: BTreeSet::from(["sheaf-kafka".to_owned()]),
        }
    }

    #[test]
    fn a_banned_crate_may_come_with_its_wrapper_only() {
        let mut findings = Vec::new();
        check_bans(&package("openssl-sys", "0.9.1", "MIT"), &policy(), &mut findings);
        assert_eq!(findings.len(), 1);
        let wrapped = |by: &[&str]| Package {
            brought_by: by.iter().map(|by| (*by).to_owned()).collect(),
            ..package("openssl-sys", "0.9.1", "MIT")
        };
        check_bans(&wrapped(&["rdkafka-sys"]), &policy(), &mut findings);
        assert_eq!(findings.len(), 1);
        check_bans(&wrapped(&["rdkafka-sys", "native-tls"]), &policy(), &mut findings);
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn an_exception_holds_for_its_crate_only() {
        let mut findings = Vec::new();
        check_licence(&package("odd", "1.0.0", "CC0-1.0"), &policy(), &mut findings);
        assert!(findings.is_empty());
        check_licence(&package("other", "1.0.0", "CC0-1.0"), &policy(), &mut findings);
        let none = Package { licence: None, ..package("bare", "1.0.0", "") };
        check_licence(&none, &policy(), &mut findings);
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn duplicates_are_refused_unless_skipped_and_skips_must_be_needed() {
        let packages = [
            package("rand", "0.8.8", "MIT"),
            package("rand", "0.10.3", "MIT"),
            package("syn", "2.0.1", "MIT"),
            package("syn", "3.0.1", "MIT"),
            package("arrow-array", "59.0.0", "MIT"),
            package("arrow-array", "60.1.0", "MIT"),
        ];
        let mut findings = Vec::new();
        assert_eq!(check_duplicates(&packages, &policy(), &mut findings), 1);
        let whats: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "arrow-array is in the tree as 59.0.0 and 60.1.0",
                "syn is in the tree as 2.0.1 and 3.0.1",
                "`gone@1` is no longer a duplicate",
            ]
        );
    }

    #[test]
    fn reasons_and_sources_are_asked_for() {
        let mut findings = Vec::new();
        check_reasons(&policy(), &mut findings);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 3);
        let git = Package { source: Some("git+https://x".into()), ..package("a", "1.0.0", "MIT") };
        check_source(&git, &mut findings);
        check_source(&Package { source: None, ..package("b", "1.0.0", "MIT") }, &mut findings);
        assert_eq!(findings.len(), 2);
    }
}
