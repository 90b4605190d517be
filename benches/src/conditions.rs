//! Where and when figures were taken.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Map, Value, json};

/// The machine now; a comparison adds versions and what else matters.
pub(crate) fn here(rounds: u32, quick: bool) -> Map<String, Value> {
    let mut conditions = Map::new();
    let mut add = |key: &str, value: Value| drop(conditions.insert(key.to_owned(), value));
    add("date", output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).into());
    add("cpu", cpu_model().into());
    add("cores", thread::available_parallelism().map_or(0, usize::from).into());
    add("kernel", output("uname", &["-sr"]).into());
    add("load_before", load_average().into());
    add("rounds", rounds.into());
    if quick {
        add("quick", json!("sizes too small for figures that mean something"));
    }
    conditions
}

/// The load average of the last minute: above the number of our own busy
/// processes, something else ran beside the comparison.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(-1.0)
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

/// What a program says, or why it says nothing.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => format!("unknown: {error}"),
    }
}
