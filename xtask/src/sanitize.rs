//! `cargo xtask sanitize`: the tests around everything `unsafe`, where a wrong
//! access to memory is seen.
//!
//! AddressSanitizer sees what code compiled with it does, and needs a nightly
//! compiler; valgrind sees the system's libraries too, and is some fifty times
//! slower, so that it runs only the tests of mapped memory.

use std::{env, path::PathBuf, process::Command};

use crate::{
    error::{Error, Result},
    fuzz, process, services, test,
    workspace::Workspace,
};

/// Packages with `unsafe` in them, or right above it.
const PACKAGES: [&str; 2] = ["sheaf-flight", "sheaf-store"];

/// Tests whose name contains one of these have to do with mapped memory.
const MAPPED: [(&str, &str, &[&str]); 2] = [
    ("sheaf-flight", "crates/flight", &["paths::", "wire::"]),
    (
        "sheaf-store",
        "crates/store",
        &["shared::", "damage::", "room::pages", "room::with_a_directory"],
    ),
];

/// What valgrind is not to tell, with the reason.
const SUPPRESSIONS: &str = "xtask/src/sanitize/valgrind.supp";

/// A memory checker.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Checker {
    /// AddressSanitizer, with leaks.
    Asan,
    /// valgrind's memcheck.
    Valgrind,
}

/// Runs the tests under one checker, or under both.
///
/// # Errors
///
/// Fails where a checker is not installed, and where one finds something.
pub(crate) fn run(workspace: &Workspace, only: Option<Checker>) -> Result<()> {
    services::run(workspace, &["python".to_owned()])?;
    if only != Some(Checker::Valgrind) {
        asan(workspace)?;
    }
    if only != Some(Checker::Asan) {
        valgrind(workspace)?;
    }
    Ok(())
}

fn asan(workspace: &Workspace) -> Result<()> {
    let host = fuzz::host()?;
    let mut command = fuzz::nightly("cargo");
    command
        .args(["test", "--locked", "--target", &host, "--lib", "--tests"])
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .env("CARGO_TARGET_DIR", workspace.target.join("sanitize"))
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("ASAN_OPTIONS", env::var("ASAN_OPTIONS").unwrap_or_default())
        // They would win over the flags above, or name another compiler.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC")
        .env_remove("CARGO");
    test::with_services(workspace, &mut command);
    process::run(&mut command)
}

fn valgrind(workspace: &Workspace) -> Result<()> {
    process::capture(Command::new("valgrind").arg("--version")).map_err(|error| {
        Error::Message(format!("valgrind is needed: `apt-get install valgrind`\n{error}"))
    })?;
    for (package, folder, tests) in MAPPED {
        for binary in binaries(workspace, package)? {
            let mut command = Command::new("valgrind");
            command
                .args(["--quiet", "--error-exitcode=99", "--num-callers=30"])
                .arg(format!("--suppressions={}", workspace.path(SUPPRESSIONS).display()))
                .arg(&binary)
                .args(["--test-threads=1"])
                .args(tests)
                .current_dir(workspace.path(folder))
                .env("RUST_BACKTRACE", "0");
            test::with_services(workspace, &mut command);
            process::run(&mut command)?;
        }
    }
    Ok(())
}

/// The test binaries of a package.
fn binaries(workspace: &Workspace, package: &str) -> Result<Vec<PathBuf>> {
    let mut command = workspace.cargo();
    command
        .args(["test", "--locked", "--no-run", "--lib", "--tests", "-p", package])
        .args(["--message-format=json"]);
    let messages = process::capture(&mut command)?;
    let found = executables(&messages);
    if found.is_empty() {
        return Err(Error::Message(format!("{package} has no tests")));
    }
    Ok(found)
}

/// What cargo says it has linked.
fn executables(messages: &str) -> Vec<PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    let executable =
        |message: serde_json::Value| Some(PathBuf::from(message.get("executable")?.as_str()?));
    parsed.filter_map(executable).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::executables;

    #[test]
    fn binaries_are_read_from_what_cargo_says() {
        let text = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnoise\n\
                    {\"reason\":\"compiler-artifact\",\"executable\":\"/t/it-1\"}\n";
        assert_eq!(executables(text), [PathBuf::from("/t/it-1")]);
    }
}
