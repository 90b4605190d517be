//! Pipelines of built-in components whose rows are counted at the end, with real processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use sheaf_testkit::{Process, TempDir, wait_for, wait_until};

use super::sheafctl_in;

/// How long a whole pipeline may take on a machine that has others to do.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// The program that runs built-in components.
pub(crate) fn component_program() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_sheafctl")).with_file_name("sheaf-component");
    assert!(path.is_file(), "{} is missing: cargo build -p sheaf-component", path.display());
    path.display().to_string()
}

/// A folder, a server, and pipelines.
pub(crate) struct Flows {
    pub(crate) folder: TempDir,
    pub(crate) server: Option<Process>,
    pub(crate) address: String,
}

impl Flows {
    pub(crate) fn new() -> Self {
        let mut flows = Flows {
            folder: TempDir::new().unwrap(),
            server: None,
            address: "127.0.0.1:0".to_owned(),
        };
        flows.serve();
        flows
    }

    /// Starts a server, at the address that the one before had.
    pub(crate) fn serve(&mut self) {
        let address = self.address.clone();
        let mut server = self.process(&["server", "--control-addr", &address]);
        self.address = server.wait_ready(LONG).unwrap().addr("control").unwrap().to_string();
        self.server = Some(server);
    }

    pub(crate) fn process(&self, arguments: &[&str]) -> Process {
        Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args(arguments)
            .current_dir(self.folder.path())
            .spawn()
            .unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, text: &str) {
        // As editors do it.
        let new = self.path("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path("p.yaml")).unwrap();
    }

    pub(crate) fn try_ask(&self, arguments: &[&str]) -> Output {
        let mut all = arguments.to_vec();
        all.extend(["--json", "--server", &self.address]);
        sheafctl_in(self.folder.path(), &all)
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.try_ask(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}"))
    }

    pub(crate) fn start(&self, text: &str) {
        component_program();
        self.write(text);
        self.ask(&["start", "p.yaml"]);
    }

    pub(crate) fn reload(&self, text: &str) -> Value {
        self.write(text);
        self.ask(&["reload", "p.yaml"])
    }

    /// The last run of the pipeline.
    pub(crate) fn run(&self) -> Value {
        self.ask(&["runs"])["runs"][0].clone()
    }

    /// Until the pipeline has come to its end by itself.
    pub(crate) fn wait_end(&self) {
        let is_over = || self.run()["outcome"] != "running";
        wait_until(LONG, "the end of the pipeline", is_over).unwrap();
        let run = self.run();
        assert_eq!(run["outcome"], "stopped", "{run}");
        assert_eq!(run["reason"], "all components have come to their end", "{run}");
    }

    /// How often each number is in the files of a sink.
    pub(crate) fn written(&self, sink: &str) -> BTreeMap<i64, u32> {
        let mut counts = BTreeMap::new();
        let Ok(files) = std::fs::read_dir(self.path("out").join(sink)) else { return counts };
        for file in files.flatten() {
            if file.path().extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).unwrap();
            for line in text.lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                *counts.entry(row["id"].as_i64().unwrap()).or_default() += 1;
            }
        }
        counts
    }

    /// Until a sink has written so many files.
    pub(crate) fn wait_files(&self, sink: &str, count: usize) {
        let folder = self.path("out").join(sink);
        let has = || std::fs::read_dir(&folder).is_ok_and(|files| files.count() >= count);
        wait_until(LONG, "files of a sink", has).unwrap();
    }

    /// The process of an instance now.
    pub(crate) fn pid(&self, instance: &str) -> i32 {
        let path = self.path(".sheaf/pipelines/p/instances").join(instance).join("launch.json");
        let read = || {
            let record: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            i32::try_from(record["component"]["pid"].as_i64()?).ok()
        };
        wait_for(LONG, "the record of a launch", read).unwrap()
    }

    /// Of an instance, as `status` shows it.
    pub(crate) fn component(&self, instance: &str) -> Value {
        let answer = self.ask(&["status", "p"]);
        let all = answer["pipelines"][0]["components"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["instance"] == instance).unwrap_or(Value::Null)
    }

    pub(crate) fn wait_healthy(&self, instances: &[&str]) {
        let all = || instances.iter().all(|one| self.component(one)["status"] == "healthy");
        wait_until(LONG, "components to be healthy", all).unwrap();
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        // Components outlive a server; a test that failed leaves none.
        sheafctl_in(self.folder.path(), &["stop", "p", "--now", "--server", &self.address]);
    }
}

/// Numbers from 0 on, in batches of 1,000.
pub(crate) fn source(rows: u64, per_second: u64) -> String {
    format!(
        "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: p}}\nsources:\n  \
         - id: numbers\n    kind: generate\n    config:\n      rows: {rows}\n      \
         batchRows: 1_000\n      rowsPerSecond: {per_second}\n      columns:\n        \
         - {{name: id, values: sequence}}\n"
    )
}

/// A sink that writes files, by its name and those that it reads.
pub(crate) fn sink(name: &str, inputs: &str) -> String {
    format!(
        "  - {{id: {name}, kind: file, inputs: [{inputs}], config: {{path: out/{name}, format: json}}}}\n"
    )
}

/// Each of these numbers once, and no other.
pub(crate) fn assert_once(found: &BTreeMap<i64, u32>, expected: impl Iterator<Item = i64>) {
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).take(5).collect();
    assert!(twice.is_empty(), "more than once: {twice:?}");
    let expected: std::collections::BTreeSet<i64> = expected.collect();
    let lost: Vec<_> = expected.iter().filter(|id| !found.contains_key(id)).take(5).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let odd: Vec<_> = found.keys().filter(|id| !expected.contains(id)).take(5).collect();
    assert!(odd.is_empty(), "not expected: {odd:?}");
}
