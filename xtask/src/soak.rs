//! The long forms of tests: the same code with other sizes.
//!
//! A test whose name begins with `soak_` reads `SHEAF_SOAK` (through the
//! testkit): short without it, long with `SHEAF_SOAK=1`. So each of them runs in
//! CI in its short form, and there is no list that can go stale: the names are
//! read from the sources. Fuzzing is another long form; see [`fuzz`].

use std::{fs, path::PathBuf};

use crate::{
    error::{Error, Result},
    fuzz, process, services, test,
    workspace::Workspace,
};

/// A test with a long form.
#[derive(Debug, PartialEq, Eq)]
struct Soak {
    /// Without the prefix.
    name: String,
    /// The first line of its documentation, if it has one.
    about: String,
    path: PathBuf,
}

/// Runs the long forms whose name contains `filter`, or lists them; without a
/// filter, fuzzing as well, `minutes` for each target.
///
/// # Errors
///
/// Fails when no name matches, a service is missing, a test fails or fuzzing
/// finds something.
pub(crate) fn run(
    workspace: &Workspace,
    filter: Option<&str>,
    minutes: fuzz::Minutes,
    list: bool,
) -> Result<()> {
    let mut soaks = Vec::new();
    for path in workspace.sources()? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let full = workspace.path(&path);
            let text = fs::read_to_string(&full).map_err(Error::io("read", &full))?;
            find(&text, &path, &mut soaks);
        }
    }
    soaks.retain(|soak| filter.is_none_or(|filter| soak.name.contains(filter)));
    if list {
        for soak in &soaks {
            println!("{:<24} {} ({})", soak.name, soak.about, soak.path.display());
        }
        if filter.is_none_or(|filter| fuzz::NAME.contains(filter)) {
            println!("{:<24} {} (fuzz)", fuzz::NAME, fuzz::ABOUT);
        }
        return Ok(());
    }
    if soaks.is_empty() {
        return Err(Error::Message(format!(
            "no soak test matches `{}`: `cargo xtask soak --list` shows all",
            filter.unwrap_or("")
        )));
    }
    services::run(workspace, &[])?;
    let mut failed = 0;
    for soak in &soaks {
        let package = workspace.package_at(&soak.path).ok_or_else(|| {
            Error::Message(format!("{} belongs to no package", soak.path.display()))
        })?;
        let mut command = workspace.cargo();
        command
            .args(["test", "--release", "--locked", "--all-features", "-p", &package, "--tests"])
            // Some run programs that are examples of their package.
            .arg("--examples")
            .args(["--", "--nocapture", "--test-threads=1"])
            .arg(format!("soak_{}", soak.name))
            .env("SHEAF_SOAK", "1");
        test::with_services(workspace, &mut command);
        let outcome = process::run(&mut command);
        println!("{} {}", if outcome.is_ok() { "ok  " } else { "FAIL" }, soak.name);
        failed += usize::from(outcome.is_err());
    }
    if failed > 0 {
        return Err(Error::Findings { task: "soak", count: failed });
    }
    if filter.is_none() { fuzz::run(workspace, None, minutes) } else { Ok(()) }
}

/// Adds the soak tests of one source file.
fn find(text: &str, path: &std::path::Path, soaks: &mut Vec<Soak>) {
    let mut about = String::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn soak_");
        if let Some(rest) = function.filter(|_| is_test) {
            let name = rest.split(['(', '<']).next().unwrap_or(rest).to_owned();
            soaks.push(Soak { name, about: std::mem::take(&mut about), path: path.into() });
        } else if let Some(comment) = line.strip_prefix("/// ") {
            if about.is_empty() {
                comment.clone_into(&mut about);
            }
        } else if line.starts_with("#[") {
            is_test |= line.contains("test");
            continue;
        } else if !line.starts_with("///") {
            about.clear();
        }
        is_test = false;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Soak, find};

    #[test]
    fn tests_are_found_with_what_they_are_about() {
        let text = "/// Other.\nfn soak_helper() {}\n\n/// Kills it.\n/// Often.\n#[test]\n\
                    fn soak_kill() {}\n#[tokio::test]\nasync fn soak_churn() {}\n";
        let mut soaks = Vec::new();
        find(text, Path::new("a.rs"), &mut soaks);
        let soak = |name: &str, about: &str| Soak {
            name: name.into(),
            about: about.into(),
            path: "a.rs".into(),
        };
        assert_eq!(soaks, [soak("kill", "Kills it."), soak("churn", "")]);
    }
}
