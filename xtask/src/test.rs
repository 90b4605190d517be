//! The test suite: everything that can be run without a human.

mod alone;

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use alone::Failures;

use crate::{
    error::{Error, Result},
    process, services,
    workspace::Workspace,
};

const RETRY: &str = "sheaf-retry";
const EXAMPLES: &str = "sheaf-examples";
/// Its tests are those of traces; the feature of one program is that of all.
const CONTROL: &str = "sheafctl";
/// How many tests of a program run at once.
const THREADS: &str = "RUST_TEST_THREADS";
/// So many more than there are cores: most of them wait, for a process or for a time to be over.
const WAITING: usize = 2;
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
/// of them fails; all suites run nevertheless. A few that fail among all others
/// are run once more, alone, and told as flaky where they pass.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    services::run(workspace, &[])?;
    let mut tally = Tally::default();
    let (mut first_error, mut flaky) = (None, Vec::new());
    for mut command in commands(workspace, arguments) {
        with_services(workspace, &mut command);
        let mut failures = Failures::default();
        if let Err(error) = stream(&mut command, &mut tally, &mut failures) {
            match pass_alone(workspace, &failures)? {
                true => flaky.extend_from_slice(failures.names()),
                false => drop(first_error.get_or_insert(error)),
            }
        }
    }
    println!("{} passed, {} failed, {} of them flaky", tally.passed, tally.failed, flaky.len());
    flaky.iter().for_each(|name| println!("FLAKY {name}: it failed, and passed alone; mend it"));
    first_error.map_or(Ok(()), Err)
}

/// Whether all that failed, which are few, pass where nothing runs beside them.
fn pass_alone(workspace: &Workspace, failures: &Failures) -> Result<bool> {
    let folder = |package: &str| {
        let named = |one: &&serde_json::Value| one["name"] == package;
        let found = workspace.packages().iter().find(named);
        let manifest = found.and_then(|one| one["manifest_path"].as_str()).map(PathBuf::from);
        manifest.map_or_else(|| workspace.root.clone(), |path| path.with_file_name(""))
    };
    let (mut tally, mut of_these) = (Tally::default(), Failures::default());
    let alone = failures.alone(&workspace.root, folder);
    for mut command in alone {
        with_services(workspace, &mut command);
        let before = tally.passed;
        let passes = stream(&mut command, &mut tally, &mut of_these).is_ok();
        if !passes || tally.passed == before {
            return Ok(false);
        }
    }
    Ok(tally.passed > 0 && tally.passed >= failures.names().len() as u64)
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
    if std::env::var_os(THREADS).is_none() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        suite.env(THREADS, (cores + WAITING).to_string());
    }
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

/// Runs a command, passes its output through, counts results in it and hears what fails.
fn stream(command: &mut Command, tally: &mut Tally, failures: &mut Failures) -> Result<()> {
    eprintln!("$ {}", process::line(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| process::start_error(command, source))?;
    let stderr = child.stderr.take();
    let told = thread::spawn(move || {
        let mut failures = Failures::default();
        let read = stderr.map_or(Ok(()), |stderr| {
            lines(stderr, |line| {
                eprintln!("{line}");
                failures.told(line);
            })
        });
        read.map(|()| failures)
    });
    if let Some(stdout) = child.stdout.take() {
        lines(stdout, |line| {
            println!("{line}");
            tally.count(line);
            failures.said(line);
        })?;
    }
    let told = told.join().map_err(|_| Error::Message("the reader of errors panicked".into()))?;
    failures.and(told?);
    std::io::stdout().flush().map_err(Error::io("write to", "standard output"))?;
    let status = child.wait().map_err(Error::io("wait for", "cargo"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: process::line(command), status, output: String::new() })
}

fn lines(from: impl Read, mut take: impl FnMut(&str)) -> Result<()> {
    for line in BufReader::new(from).split(b'\n') {
        let line = line.map_err(Error::io("read the output of", "cargo"))?;
        take(&String::from_utf8_lossy(&line));
    }
    Ok(())
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
