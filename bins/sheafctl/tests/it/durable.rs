//! Durable edges with the real programs, whatever is killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_testkit::{Process, TempDir, wait_until};

use super::pipelines::{TIME, is_there, signal};
use super::{code, data, notes, sheafctl_in};

const LONG: Duration = Duration::from_secs(120);
const ROWS: u64 = 6_000;
const NAME: &str = "sure";
const ALL: [&str; 5] = ["events", "even", "even.1", "files", "_store"];

/// Whether the other programs are beside `sheafctl`.
#[allow(clippy::disallowed_methods, reason = "tests are told by it what has to be there")]
pub(crate) fn are_built() -> bool {
    let own = Path::new(env!("CARGO_BIN_EXE_sheafctl"));
    let missing: Vec<&str> = ["sheaf", "sheaf-component"]
        .into_iter()
        .filter(|name| !own.with_file_name(name).is_file())
        .collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(" and ");
    let text = format!("no {missing} beside sheafctl: cargo build -p sheaf-cli -p sheaf-component");
    let is_required = std::env::var(sheaf_testkit::REQUIRE_SERVERS).is_ok_and(|set| set == "1");
    assert!(!is_required, "{text}");
    eprintln!("SKIP {text}");
    false
}

struct World {
    folder: TempDir,
}

impl World {
    fn new(rows_per_second: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let restart = "restart: {backoff: 20ms, maxBackoff: 100ms, maxRestarts: 100}";
        let text = format!(
            "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: {NAME}}}\n\
             delivery: exactly-once\ndurable: true\n\
             sources:\n  - id: events\n    kind: generate\n    {restart}\n    config:\n      \
             rows: {ROWS}\n      rowsPerSecond: {rows_per_second}\n      batchRows: 50\n      \
             columns: [{{name: id, values: sequence}}]\n\
             processors:\n  - {{id: even, kind: filter, replicas: 2, inputs: [events], \
             config: {{where: id >= 0}}, {restart}}}\n\
             sinks:\n  - {{id: files, kind: file, inputs: [even], \
             config: {{path: out, format: csv}}, {restart}}}\n"
        );
        std::fs::write(folder.path().join("sure.yaml"), text).unwrap();
        World { folder }
    }

    fn start(&self, arguments: &[&str]) -> (Process, String) {
        let mut process = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args(arguments)
            .current_dir(self.folder.path())
            .spawn()
            .unwrap();
        let address = process.wait_ready(TIME).unwrap().addr("control").unwrap().to_string();
        (process, address)
    }

    fn pipeline(&self) -> PathBuf {
        self.folder.path().join(".sheaf/pipelines").join(NAME)
    }

    fn pid(&self, instance: &str) -> Option<i32> {
        let path = self.pipeline().join("instances").join(instance).join("launch.json");
        let record: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        i32::try_from(record["component"]["pid"].as_i64()?).ok()
    }

    /// Kills an instance that runs, as soon as one does.
    fn kill(&self, instance: &str) {
        let killed = || match self.pid(instance).filter(|pid| is_there(*pid)) {
            Some(pid) => {
                signal(pid, Signal::KILL);
                true
            }
            None => false,
        };
        wait_until(TIME, "a process to be killed", killed).unwrap();
    }

    /// All numbers that are in files.
    fn written(&self) -> Vec<u64> {
        let Ok(files) = std::fs::read_dir(self.folder.path().join("out")) else {
            return Vec::new();
        };
        let paths = files.flatten().map(|file| file.path());
        let parts = paths.filter(|path| path.extension().is_some_and(|end| end == "csv"));
        let texts = parts.map(|path| std::fs::read_to_string(path).unwrap());
        texts
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    fn wait_for_rows(&self, count: usize) {
        wait_until(TIME, "rows to be written", || self.written().len() >= count).unwrap();
    }

    fn ask(&self, arguments: &[&str], server: &str) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--json", "--server", server]);
        let output = sheafctl_in(self.folder.path(), &all);
        serde_json::from_str(&data(&output)).unwrap_or_else(|_| panic!("{}", notes(&output)))
    }

    fn every_row_is_there_once(&self) {
        let mut rows = self.written();
        rows.sort_unstable();
        assert_eq!(rows.len() as u64, ROWS);
        assert_eq!(rows, (0..ROWS).collect::<Vec<_>>());
    }
}

impl Drop for World {
    /// What outlives its server is not to outlive its test.
    fn drop(&mut self) {
        let left = ALL.iter().filter_map(|name| self.pid(name));
        left.filter(|pid| is_there(*pid)).for_each(|pid| signal(pid, Signal::KILL));
    }
}

#[test]
fn every_row_is_there_once_whatever_is_killed_the_control_plane_too() {
    if !are_built() {
        return;
    }
    let world = World::new(1_000);
    let (mut server, address) = world.start(&["server", "--control-addr", "127.0.0.1:0"]);
    world.ask(&["start", "sure.yaml"], &address);
    for victim in ["events", "_store", "even.1", "files", "even"] {
        world.wait_for_rows(world.written().len() + 150);
        world.kill(victim);
    }
    // Nobody starts again what is down when the server dies.
    world.wait_for_rows(world.written().len() + 100);
    let are_up = || ALL.iter().all(|name| world.pid(name).is_some_and(is_there));
    wait_until(TIME, "all processes to run", are_up).unwrap();
    server.kill9().unwrap();
    world.kill("files");
    world.kill("_store");
    let (_server, address) = world.start(&["server", "--control-addr", &address]);
    let is_over = || {
        let answer = world.ask(&["ps", "--all"], &address);
        answer["pipelines"][0]["state"] == "stopped"
    };
    wait_until(LONG, "the end of the run", is_over).unwrap();
    world.every_row_is_there_once();
    let are_gone = || !ALL.iter().any(|name| world.pid(name).is_some_and(is_there));
    wait_until(TIME, "the end of all processes", are_gone).unwrap();
}

#[test]
fn a_run_that_was_killed_goes_on_with_all_that_was_on_its_way() {
    if !are_built() {
        return;
    }
    let world = World::new(2_000);
    for rows in [300, 900] {
        let (mut run, _) = world.start(&["run", "sure.yaml", "--control-addr", "127.0.0.1:0"]);
        world.wait_for_rows(rows);
        run.kill9().unwrap();
        let is_gone = || !world.pid("_store").is_some_and(is_there);
        wait_until(TIME, "the end of all processes", is_gone).unwrap();
    }
    let run = ["run", "sure.yaml", "--control-addr", "127.0.0.1:0", "--quiet"];
    let output = sheafctl_in(world.folder.path(), &run);
    assert_eq!(code(&output), 0, "{}", notes(&output));
    world.every_row_is_there_once();
}

#[test]
fn batches_that_are_kept_go_over_an_edge_once_more() {
    if !are_built() {
        return;
    }
    let world = World::new(100);
    let (_server, address) = world.start(&["server", "--control-addr", "127.0.0.1:0"]);
    world.ask(&["start", "sure.yaml"], &address);
    world.wait_for_rows(200);
    let lost: Vec<u64> = world.written();
    // What is lost behind a sink that writes exactly once comes back.
    std::fs::remove_dir_all(world.folder.path().join("out")).unwrap();
    std::fs::create_dir_all(world.folder.path().join("out/_tmp")).unwrap();
    std::fs::create_dir_all(world.folder.path().join("out/_commits")).unwrap();
    let replayed = world.ask(&["replay", "even:files", "--from", "10m"], &address);
    assert!(replayed["rows"].as_u64().unwrap() >= 200, "{replayed}");
    let are_back = || {
        let written = world.written();
        lost.iter().all(|row| written.contains(row))
    };
    wait_until(TIME, "the rows to be there again", are_back).unwrap();
    let mut written = world.written();
    let count = written.len();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written.len(), count, "none is there twice");
    for (arguments, part) in [
        (["replay", "even:files", "--from", "sure:even:files:0-0:00:1"], "no completed batch"),
        (["replay", "even:nobody", "--from", "10m"], "events:even, even:files"),
    ] {
        let arguments = [&arguments[..], &["--server", &address]].concat();
        let output = sheafctl_in(world.folder.path(), &arguments);
        assert_ne!(code(&output), 0);
        assert!(notes(&output).contains(part), "{}", notes(&output));
    }
    world.ask(&["stop", "--now"], &address);
}

#[test]
fn a_store_that_is_not_there_is_said_before_anything_starts() {
    let world = World::new(100);
    let run = ["run", "sure.yaml", "--control-addr", "127.0.0.1:0", "--store-program", "/no/such"];
    let output = sheafctl_in(world.folder.path(), &run);
    assert_ne!(code(&output), 0);
    for part in ["edge events:even is durable", "--store-program /no/such"] {
        assert!(notes(&output).contains(part), "{}", notes(&output));
    }
    let mut run = run.to_vec();
    run.truncate(4);
    run.extend(["--durable-store", "grpc://127.0.0.1:1", "--fresh"]);
    let output = sheafctl_in(world.folder.path(), &run);
    assert!(notes(&output).contains("is not of this run"), "{}", notes(&output));
}
