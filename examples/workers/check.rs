//! The result against that of one process with pyarrow.

use std::path::Path;
use std::process::Stdio;

use sheaf_retry::Code;
use sheaf_terminal::Failure;
use tokio::process::Command;

use super::{Arguments, Job};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/workers/check.py");

/// Rows of both, which are the same.
pub(crate) async fn run(job: &Job, arguments: &Arguments, out: &Path) -> Result<u64, Failure> {
    let Arguments { python, data, .. } = arguments;
    let mut command = Command::new(python);
    command.args([SCRIPT, job.name]).arg(data).arg(out).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| {
        let text = format!("cannot start {}", python.display());
        let advice =
            "`cargo xtask services python` makes it; --python names another one with pyarrow";
        Failure::new(Code::NotFound, text).because(error).help(advice)
    })?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().parse() {
        Ok(rows) if output.status.success() => Ok(rows),
        _ => {
            let why = String::from_utf8_lossy(&output.stderr);
            let text = format!("the result is not that of pyarrow: {}", why.trim());
            Err(Failure::new(Code::MalformedData, text))
        }
    }
}
