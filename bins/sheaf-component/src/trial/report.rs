//! What became of all tests of a file.

use serde::Serialize;
use sheaf_retry::Code;
use sheaf_terminal::{Failure, counted};

use super::tested::Tested;

/// All tests of a file.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    file: &'a str,
    tests: Vec<Tested>,
    passed: usize,
    failed: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Report { file, tests: Vec::new(), passed: 0, failed: 0 }
    }

    pub(super) fn add(&mut self, tested: Tested) {
        *(if tested.passed { &mut self.passed } else { &mut self.failed }) += 1;
        self.tests.push(tested);
    }

    pub(super) fn summary(&self) -> String {
        let tests = counted(self.tests.len() as u64, "test");
        format!("{}: {tests}, {} passed, {} failed\n", self.file, self.passed, self.failed)
    }

    /// How the command ends.
    pub(super) fn end(&self) -> Result<(), Failure> {
        if self.failed == 0 {
            return Ok(());
        }
        let failed = counted(self.failed as u64, "test");
        let failure = Failure::new(Code::FailedPrecondition, format!("{failed} failed"));
        Err(failure.help("mend the pipeline, or what the tests expect of it").exits(1))
    }
}
