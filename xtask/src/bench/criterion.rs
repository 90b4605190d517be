//! Criterion benchmarks, and their results as one line of JSON.

use std::{fs, path::Path, process::Command, thread, time::SystemTime};

use serde_json::{Map, Value, json};

use super::PACKAGE;
use crate::{
    error::{Error, Result},
    process,
    workspace::{Workspace, files_below},
};

/// Runs one benchmark or all; with `as_json`, the last line printed is
/// `{"bench","conditions","cases":{CASE:{"ours":{"min","median","max"},"unit"}}}`.
///
/// # Errors
///
/// Fails when no benchmark has that name, it does not run, or it leaves no results.
pub(crate) fn run(workspace: &Workspace, name: Option<&str>, as_json: bool) -> Result<()> {
    let known = workspace.targets(PACKAGE, "bench");
    let mut command = workspace.cargo();
    command.args(["bench", "--locked", "-p", PACKAGE]);
    match name {
        Some(name) if known.iter().any(|bench| bench == name) => {
            command.args(["--bench", name]);
        }
        Some(name) => {
            return Err(Error::Message(format!(
                "no benchmark is called `{name}`: choose from {}",
                known.join(", ")
            )));
        }
        None => {
            command.arg("--benches");
        }
    }
    let started = SystemTime::now();
    process::run(&mut command)?;
    if as_json {
        let cases = cases(&workspace.target.join("criterion"), started)?;
        if cases.is_empty() {
            return Err(Error::Message(format!(
                "criterion left no results in {}",
                workspace.target.join("criterion").display()
            )));
        }
        let report = json!({
            "bench": name.unwrap_or("all"),
            "conditions": conditions()?,
            "cases": cases,
        });
        println!("{report}");
    }
    Ok(())
}

/// What criterion measured since `started`, by case.
fn cases(folder: &Path, started: SystemTime) -> Result<Map<String, Value>> {
    let mut cases = Map::new();
    if !folder.exists() {
        return Ok(cases);
    }
    for path in files_below(folder)? {
        if !path.ends_with("new/estimates.json") {
            continue;
        }
        let written = fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .map_err(Error::io("read", &path))?;
        // Results of earlier runs stay on disk; they are not this run's.
        if written < started {
            continue;
        }
        let benchmark = read(&path.with_file_name("benchmark.json"))?;
        let id = benchmark
            .get("full_id")
            .and_then(Value::as_str)
            .ok_or_else(|| Error::Message(format!("{} names no `full_id`", path.display())))?;
        let sample = read(&path.with_file_name("sample.json"))?;
        let median = read(&path)?
            .pointer("/median/point_estimate")
            .and_then(Value::as_f64)
            .ok_or_else(|| Error::Message(format!("{} has no median", path.display())))?;
        let (min, max) = extremes(&sample)
            .ok_or_else(|| Error::Message(format!("{} has no samples", path.display())))?;
        let ours = json!({ "min": min, "median": median, "max": max });
        let mut case = json!({ "ours": ours, "unit": "ns" });
        // What one iteration moves, so that readers can compute a rate.
        if let Some(throughput) = benchmark.get("throughput").filter(|value| !value.is_null()) {
            case["throughput"] = throughput.clone();
        }
        cases.insert(id.to_owned(), case);
    }
    Ok(cases)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text)
        .map_err(|source| Error::Json { what: path.display().to_string(), source })
}

/// The fastest and the slowest sample, in nanoseconds per iteration.
fn extremes(sample: &Value) -> Option<(f64, f64)> {
    let times = sample.get("times")?.as_array()?;
    let iterations = sample.get("iters")?.as_array()?;
    let per_iteration = times.iter().zip(iterations).filter_map(|(time, count)| {
        let count = count.as_f64().filter(|count| *count > 0.0)?;
        Some(time.as_f64()? / count)
    });
    per_iteration.fold(None, |range, value| {
        Some(
            range.map_or((value, value), |(min, max): (f64, f64)| (min.min(value), max.max(value))),
        )
    })
}

/// Where and when the figures were taken.
fn conditions() -> Result<Value> {
    Ok(json!({
        "cpu": cpu_model(),
        "cores": thread::available_parallelism().map_or(0, usize::from),
        "kernel": process::capture(Command::new("uname").arg("-sr"))?.trim(),
        "rustc": process::capture(Command::new("rustc").arg("--version"))?.trim(),
        "date": process::capture(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?.trim(),
    }))
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let from_linux = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'))
        .map(|(_, model)| model.trim().to_owned());
    from_linux
        .or_else(|| {
            let mut sysctl = Command::new("sysctl");
            process::capture(sysctl.args(["-n", "machdep.cpu.brand_string"]))
                .ok()
                .map(|model| model.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use serde_json::json;

    use super::{cases, extremes};

    #[test]
    fn extremes_are_per_iteration() {
        let sample = json!({ "iters": [1.0, 2.0, 4.0], "times": [10.0, 10.0, 80.0] });
        assert_eq!(extremes(&sample), Some((5.0, 20.0)));
        assert_eq!(extremes(&json!({ "iters": [], "times": [] })), None);
    }

    #[test]
    fn cases_come_from_this_run_only() {
        let folder = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        let new = folder.join("claim/64/new");
        fs::create_dir_all(&new).unwrap();
        let write = |name: &str, value: serde_json::Value| {
            fs::write(new.join(name), value.to_string()).unwrap();
        };
        write("benchmark.json", json!({ "full_id": "claim/64", "throughput": { "Elements": 64 } }));
        write("sample.json", json!({ "iters": [2.0, 2.0], "times": [8.0, 4.0] }));
        write("estimates.json", json!({ "median": { "point_estimate": 3.0 } }));
        let found = cases(&folder, SystemTime::UNIX_EPOCH).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        let stale = cases(&folder, later).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            serde_json::Value::Object(found),
            json!({ "claim/64": {
                "ours": { "min": 2.0, "median": 3.0, "max": 4.0 },
                "unit": "ns",
                "throughput": { "Elements": 64 },
            }})
        );
        assert!(stale.is_empty());
    }
}
