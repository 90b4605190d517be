//! The test suite: everything that can be run without a human.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use crate::{
    error::{Error, Result},
    process, services,
    workspace::Workspace,
};

const RETRY: &str = "sheaf-retry";
const EXAMPLES: &str = "sheaf-examples";
/// Its tests are those of traces; the feature of one program is that of all.
const CONTROL: &str = "sheafctl";
const BACKOFF_EXAMPLE: &str = "retry_backoff";

/// How many tests passed and failed, over all suites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds one line of output, if it is a suite's result.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let numbers = result.split_once(". ").map_or("", |(_, rest)| rest);
        for part in numbers.split("; ") {
            match part.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse::<u64>().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Provisions the services and runs every test; with `arguments`, only `cargo
/// test` with those in place of `--workspace`.
///
/// # Errors
///
/// Fails when a service cannot be provisioned, the tests do not compile or one
/// of them fails; all suites run nevertheless.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    services::run(workspace, &[])?;
    let mut tally = Tally::default();
    let mut first_error = None;
    for mut command in commands(workspace, arguments) {
        with_services(workspace, &mut command);
        if let Err(error) = stream(&mut command, &mut tally) {
            first_error.get_or_insert(error);
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    first_error.map_or(Ok(()), Err)
}

/// Tells tests where the real servers are and that they must not do without.
pub(crate) fn with_services(workspace: &Workspace, command: &mut Command) {
    command
        .env("SHEAF_SERVICES_DIR", workspace.services())
        .env("SHEAF_TEST_PYTHON", services::python_path(workspace))
        .env("SHEAF_REQUIRE_SERVERS", "1");
}

fn commands(workspace: &Workspace, arguments: &[String]) -> Vec<Command> {
    let mut suite = workspace.cargo();
    suite.args(["test", "--locked", "--no-fail-fast"]);
    if !arguments.is_empty() {
        suite.args(arguments);
        return vec![suite];
    }
    // Backoff interop is off by default, because the crate it adapts is
    // unmaintained, and traces are, because of what they bring; both only add,
    // so that one build with them serves all suites.
    suite.args(["--workspace", "--features"]);
    suite.arg(format!("{RETRY}/backoff,{EXAMPLES}/backoff,{CONTROL}/otlp"));

    // Built by the suite. It is run here because no default feature has it.
    let mut example = Command::new(workspace.target.join("debug/examples").join(BACKOFF_EXAMPLE));
    example.current_dir(&workspace.root);
    vec![suite, example]
}

/// Runs a command, passes its output through and counts results in it.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<()> {
    eprintln!("$ {}", process::line(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| process::start_error(command, source))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(Error::io("read the output of", "cargo"))?;
            let text = String::from_utf8_lossy(&line);
            println!("{text}");
            tally.count(&text);
        }
    }
    std::io::stdout().flush().map_err(Error::io("write to", "standard output"))?;
    let status = child.wait().map_err(Error::io("wait for", "cargo"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: process::line(command), status, output: String::new() })
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_of_suites_are_summed_and_other_lines_are_not() {
        let mut tally = Tally::default();
        tally.count("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        tally.count("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; finished");
        tally.count("test store::put ... ok");
        tally.count("note: test result: ok. 100 passed; 0 failed");
        assert_eq!(tally, Tally { passed: 15, failed: 2 });
    }
}
