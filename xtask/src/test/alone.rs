//! Tests that fail among all others are run once more, alone: hundreds of processes share the
//! machine with them. What passes then is told, and is to be looked at as a failure would be.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// More failures are none of a busy machine.
const MOST: usize = 3;

/// What the output of `cargo test` says of failures.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// The program that runs.
    running: Option<PathBuf>,
    /// The program, and the package that it is of, of each suite with failures.
    suites: Vec<(PathBuf, String)>,
    /// Some failed that cannot be run alone.
    others: bool,
    /// The tests that failed.
    names: Vec<String>,
    /// The next lines are names.
    lists: bool,
}

impl Failures {
    /// A line of the suites.
    pub(super) fn said(&mut self, line: &str) {
        if line == "failures:" {
            self.lists = true;
            return;
        }
        match line.strip_prefix("    ").filter(|name| self.lists && !name.contains(' ')) {
            Some(name) => self.names.push(name.to_owned()),
            None => self.lists = false,
        }
    }

    /// A line of cargo itself.
    pub(super) fn told(&mut self, line: &str) {
        let line = line.trim_start();
        if let Some(rest) = line.strip_prefix("Running ") {
            let program = rest.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            self.running = program.map(PathBuf::from);
        } else if line.starts_with("Doc-tests ") {
            self.running = None;
        } else if let Some(rest) = line.strip_prefix("error: test failed, to rerun pass `-p ") {
            let package = rest.split([' ', '`']).next().unwrap_or_default().to_owned();
            match self.running.take() {
                Some(program) => self.suites.push((program, package)),
                None => self.others = true,
            }
        } else if line.starts_with("error: could not compile") {
            self.others = true;
        }
    }

    /// Both.
    pub(super) fn and(&mut self, told: Failures) {
        self.suites.extend(told.suites);
        self.others |= told.others;
    }

    /// The names of the tests that failed.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Each suite with the tests that failed, and no other; nothing where those are not few.
    pub(super) fn alone(&self, root: &Path, folder: impl Fn(&str) -> PathBuf) -> Vec<Command> {
        if self.others || self.names.len() > MOST || self.names.len() < self.suites.len() {
            return Vec::new();
        }
        let suites = self.suites.iter().map(|(program, package)| {
            let mut command = Command::new(root.join(program));
            command.current_dir(folder(package)).args(["--exact", "--test-threads=1"]);
            command.args(&self.names);
            command
        });
        suites.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(told: &[&str], said: &[&str]) -> Failures {
        let mut failures = Failures::default();
        told.iter().for_each(|line| failures.told(line));
        said.iter().for_each(|line| failures.said(line));
        failures
    }

    const TOLD: [&str; 4] = [
        "     Running tests/it/main.rs (target/debug/deps/it-1)",
        "     Running tests/it/main.rs (/other/it-2)",
        "error: test failed, to rerun pass `-p sheaf-kafka --test it`",
        "   Doc-tests sheaf_kafka",
    ];
    const SAID: [&str; 9] = [
        "test a::one ... FAILED",
        "failures:",
        "",
        "---- a::one stdout ----",
        "    0: core::panicking",
        "failures:",
        "    a::one",
        "",
        "test result: FAILED. 3 passed; 1 failed",
    ];

    #[test]
    fn a_test_that_failed_is_run_by_its_program_in_its_folder() {
        let failures = heard(&TOLD, &SAID);
        assert_eq!(failures.names(), ["a::one"]);
        let alone = failures.alone(Path::new("/root"), |package| Path::new("/at").join(package));
        let words: Vec<_> = alone.iter().flat_map(|one| one.get_args()).collect();
        assert_eq!(words, ["--exact", "--test-threads=1", "a::one"]);
        assert_eq!(alone[0].get_program(), "/other/it-2");
        assert_eq!(alone[0].get_current_dir(), Some(Path::new("/at/sheaf-kafka")));
    }

    #[test]
    fn many_failures_and_others_are_what_they_are() {
        let alone = |failures: Failures| failures.alone(Path::new("/"), |_| PathBuf::new()).len();
        let mut many = heard(&TOLD, &SAID);
        many.names = vec!["a".to_owned(); MOST + 1];
        assert_eq!(alone(many), 0);
        let of_docs = "error: test failed, to rerun pass `-p sheaf-kafka --doc`";
        assert_eq!(alone(heard(&["   Doc-tests sheaf_kafka", of_docs], &SAID)), 0);
        assert_eq!(alone(heard(&["error: could not compile `sheaf-kafka`"], &SAID)), 0);
        // Of one that died nobody says which test it was.
        assert_eq!(alone(heard(&TOLD, &[])), 0);
    }
}
