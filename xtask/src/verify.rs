//! Everything that CI asks of a change, one line a step.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    codegen,
    error::{Error, Result},
    process, services, tidy,
    workspace::Workspace,
};

/// Runs every step, cheap ones first and whatever the ones before said.
///
/// Clippy and rustdoc ask for the same features, so that they share the checked
/// dependencies; the tests then build them once in full.
///
/// # Errors
///
/// Fails at the end when any step did.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let steps: [(&str, Step); 8] = [
        ("fmt", |workspace| {
            process::capture(workspace.cargo().args(["fmt", "--all", "--check"]))?;
            // The fuzz targets are a workspace of their own.
            let mut command = workspace.cargo();
            command.args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]);
            process::capture(&mut command).map(drop)
        }),
        ("tidy", tidy::run),
        ("codegen", |workspace| codegen::run(workspace, true)),
        ("typos", typos),
        ("clippy", |workspace| {
            let mut command = workspace.cargo();
            command.args(["clippy", "--workspace", "--all-targets", "--all-features", "--locked"]);
            process::capture(command.args(["--quiet", "--", "-D", "warnings"])).map(drop)
        }),
        ("rustdoc", |workspace| {
            let mut command = workspace.cargo();
            command.args(["doc", "--workspace", "--no-deps", "--all-features", "--locked"]);
            process::capture(command.arg("--quiet").env("RUSTDOCFLAGS", "-D warnings")).map(drop)
        }),
        // All other steps have every feature on.
        ("default", |workspace| {
            let mut command = workspace.cargo();
            command.args(["check", "--locked", "--quiet", "-p", "sheaf-retry"]);
            command.args(["-p", "sheaf-telemetry"]);
            process::capture(&mut command).map(drop)
        }),
        ("test", readme_test_command),
    ];
    let mut lines = Vec::new();
    let mut failed = 0;
    for (name, step) in steps {
        let start = Instant::now();
        let outcome = step(workspace);
        let took = start.elapsed();
        if let Err(error) = &outcome {
            failed += 1;
            println!("{error}");
        }
        let line = summary(name, outcome.is_ok(), took);
        println!("{line}");
        lines.push(line);
    }
    // Again together: the tests' own output lies between the lines above.
    println!("\nverify\n{}", lines.join("\n"));
    if failed == 0 { Ok(()) } else { Err(Error::Findings { task: "verify", count: failed }) }
}

type Step = fn(&Workspace) -> Result<()>;

fn summary(name: &str, passed: bool, took: Duration) -> String {
    let word = if passed { "ok  " } else { "FAIL" };
    format!("{word} {name:<8} {:>7.1} s", took.as_secs_f64())
}

fn typos(workspace: &Workspace) -> Result<()> {
    services::run(workspace, &["typos".into()])?;
    let mut command = Command::new(services::typos_path(workspace));
    process::capture(command.current_dir(&workspace.root).args(["--format", "brief", "."]))
        .map(drop)
}

/// The command that the README gives, as it stands there: it is proven as well.
fn readme_test_command(workspace: &Workspace) -> Result<()> {
    const COMMAND: &str = "cargo xtask test";
    let readme = workspace.path("README.md");
    let text = std::fs::read_to_string(&readme).map_err(Error::io("read", &readme))?;
    if !text.lines().any(|line| line.trim().starts_with(COMMAND)) {
        return Err(Error::Message(format!(
            "README.md:1: no line is `{COMMAND}`: name the test command as it is"
        )));
    }
    process::run(workspace.cargo().args(["xtask", "test"]))
}
