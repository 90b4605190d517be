//! Running pipelines, with real processes.
//!
//! The components are those of the example `sheafctl-beating`: each does what every
//! component has to do, and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sheaf_testkit::{Process, TempDir, wait_for, wait_until};

use super::sheafctl_in;

pub(crate) const TIME: Duration = Duration::from_secs(30);

/// The program that is a component, which `cargo test` builds beside `sheafctl`.
pub(crate) fn beating() -> String {
    program("sheafctl-beating")
}

/// One of those that `cargo test` builds beside `sheafctl`.
pub(crate) fn program(name: &str) -> String {
    let own = Path::new(env!("CARGO_BIN_EXE_sheafctl"));
    let path = own.with_file_name("examples").join(name);
    assert!(path.is_file(), "{} is missing: cargo build -p sheafctl --examples", path.display());
    path.display().to_string()
}

/// A folder with a pipeline in it, and all that a run leaves.
pub(crate) struct World {
    pub(crate) folder: TempDir,
}

impl World {
    /// `source` and `sink` are further fields of the two components.
    pub(crate) fn new(source: &str, sink: &str) -> Self {
        let (folder, program) = (TempDir::new().unwrap(), beating());
        let health = "health: {interval: 200ms, timeout: 2s}";
        let restart = "restart: {backoff: 50ms, maxBackoff: 100ms, maxRestarts: 3}";
        let restart = |fields: &str| if fields.contains("restart:") { "" } else { restart };
        let text = format!(
            "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: pair}}\n\
             sources:\n  - id: a\n    command: [{program}]\n    {health}\n    {}\n    {source}\n\
             sinks:\n  - id: b\n    inputs: [a]\n    command: [{program}]\n    {health}\n    {}\n    {sink}\n",
            restart(source),
            restart(sink),
        );
        std::fs::write(folder.path().join("pair.yaml"), text).unwrap();
        World { folder }
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args(arguments)
            .current_dir(self.folder.path())
            .spawn()
            .unwrap()
    }

    /// `sheafctl run`, and where it serves.
    pub(crate) fn run(&self) -> (Process, String) {
        let mut process = self.start(&["run", "pair.yaml", "--control-addr", "127.0.0.1:0"]);
        let ready = process.wait_ready(TIME).unwrap();
        let address = ready.addr("control").unwrap().to_string();
        (process, address)
    }

    /// What a command answers as JSON.
    pub(crate) fn ask(&self, arguments: &[&str], server: &str) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--json", "--server", server]);
        let output = sheafctl_in(self.folder.path(), &all);
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// One of the components, as `status` shows it.
    pub(crate) fn component(&self, name: &str, server: &str) -> Value {
        let answer = self.ask(&["status", "pair"], server);
        let all = answer["pipelines"][0]["components"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["instance"] == name).unwrap()
    }

    pub(crate) fn wait_healthy(&self, server: &str) {
        let both =
            || ["a", "b"].iter().all(|name| self.component(name, server)["status"] == "healthy");
        wait_until(TIME, "both components to be healthy", both).unwrap();
    }

    fn instance(&self, name: &str) -> PathBuf {
        self.folder.path().join(".sheaf/pipelines/pair/instances").join(name)
    }

    /// The process of a component now.
    pub(crate) fn pid(&self, name: &str) -> i32 {
        let path = self.instance(name).join("launch.json");
        let read = || {
            let record: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            i32::try_from(record["component"]["pid"].as_i64()?).ok()
        };
        wait_for(TIME, "the record of a launch", read).unwrap()
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.instance(name).join("log")).unwrap_or_default()
    }

    /// All processes that have anything to do with this folder.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let folder = self.folder.path().display().to_string();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| is_there(*pid) && belongs(*pid, &folder)).collect()
    }
}

fn belongs(pid: i32, folder: &str) -> bool {
    let directory = std::fs::read_link(format!("/proc/{pid}/cwd"));
    directory.is_ok_and(|path| path.display().to_string().starts_with(folder))
}

pub(crate) fn is_there(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

use rustix::process::Signal;

#[test]
fn a_pipeline_whose_components_end_is_over_with_success() {
    let world = World::new("config: {livesMs: 300}", "config: {livesMs: 400}");
    let (mut process, _) = world.run();
    let status = process.wait_exit(TIME).unwrap();
    assert!(status.success(), "{}", process.stderr());
    let notes = process.stderr();
    for part in ["run 1 of pair: 2 instances", "a  registered", "running", "b  done"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert_eq!(world.processes(), [] as [i32; 0]);
    assert!(!world.folder.path().join(".sheaf/pipelines/pair/state").exists());
    // And it is remembered.
    let runs = world.ask(&["runs"], "127.0.0.1:1");
    assert_eq!(runs["runs"][0]["outcome"], "stopped", "{runs}");
    let (mut again, _) = world.run();
    again.wait_exit(TIME).unwrap();
    assert_eq!(world.ask(&["runs", "pair"], "127.0.0.1:1")["runs"][0]["run"], 2);
}

#[test]
fn a_killed_component_is_started_again_and_counted() {
    let world = World::new("", "");
    let (process, server) = world.run();
    world.wait_healthy(&server);
    let first = world.pid("a");
    signal(first, Signal::KILL);
    let again = || {
        let component = world.component("a", &server);
        component["restarts"] == 1 && component["status"] == "healthy"
    };
    wait_until(TIME, "the component to be there again", again).unwrap();
    assert_ne!(world.pid("a"), first);
    let notes = process.stderr();
    assert!(notes.contains("killed by signal 9 (KILL)"), "{notes}");
    assert!(notes.contains("(restart 1 of 3)"), "{notes}");
}

#[test]
fn a_component_that_hangs_is_unhealthy_in_its_time_and_replaced() {
    let world = World::new("", "");
    let (process, server) = world.run();
    world.wait_healthy(&server);
    let first = world.pid("b");
    signal(first, Signal::STOP);
    let again = || {
        let component = world.component("b", &server);
        component["restarts"] == 1 && component["status"] == "healthy"
    };
    wait_until(TIME, "the component to be replaced", again).unwrap();
    assert!(!is_there(first));
    assert!(process.stderr().contains("b  unhealthy: "), "{}", process.stderr());
}

#[test]
fn a_component_that_fails_too_often_fails_the_pipeline_with_the_reason() {
    let world = World::new("config: {exit: 7}", "");
    let (mut process, _) = world.run();
    let status = process.wait_exit(TIME).unwrap();
    assert_eq!(status.code(), Some(1));
    let notes = process.stderr();
    let reason = "error: pair failed: a: exit status 7: fails as it is told to; \
                  it was restarted 3 times within 10m, its limit";
    assert!(notes.contains(reason), "{notes}");
    assert_eq!(world.processes(), [] as [i32; 0]);
    let runs = world.ask(&["runs"], "127.0.0.1:1");
    assert_eq!(runs["runs"][0]["outcome"], "failed", "{runs}");
}

#[test]
fn a_bad_configuration_is_tried_once() {
    let world = World::new("config: {exit: 2}", "");
    let (mut process, _) = world.run();
    assert_eq!(process.wait_exit(TIME).unwrap().code(), Some(1));
    let notes = process.stderr();
    assert!(notes.contains("failed: a: exit status 2: fails as it is told to\n"), "{notes}");
    assert!(!notes.contains("restart 1 of"), "{notes}");
}

#[test]
fn a_command_that_does_not_exist_fails_the_pipeline_and_says_what_to_do() {
    let world = World::new("", "");
    let file = world.folder.path().join("pair.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen(&beating(), "./no-such-program", 1)).unwrap();
    let (mut process, _) = world.run();
    assert_eq!(process.wait_exit(TIME).unwrap().code(), Some(1));
    let expected = "pair failed: a: there is no program ./no-such-program; check `command`";
    assert!(process.stderr().contains(expected), "{}", process.stderr());
    assert_eq!(world.processes(), [] as [i32; 0], "what ran was stopped");
}

#[test]
fn a_killed_run_leaves_no_process() {
    let program = "sleep 1000";
    let world = World::new(&format!("config: {{child: {program}}}"), "");
    let (mut process, server) = world.run();
    world.wait_healthy(&server);
    let child =
        || world.log("a").lines().find_map(|line| line.rsplit_once(" child ")?.1.parse().ok());
    let child: i32 = wait_for(TIME, "the child of the component", child).unwrap();
    assert!(is_there(child) && world.processes().len() >= 6, "{:?}", world.processes());
    process.kill9().unwrap();
    wait_until(TIME, "the end of everything", || world.processes().is_empty()).unwrap();
    assert!(!is_there(child));
    // The next run says how the last one ended, and begins.
    let (_process, server) = world.run();
    world.wait_healthy(&server);
    let runs = world.ask(&["runs"], &server);
    assert_eq!(runs["runs"][1]["outcome"], "failed", "{runs}");
    assert!(runs["runs"][1]["reason"].as_str().unwrap().contains("broken off"), "{runs}");
}

#[test]
fn the_first_signal_drains_from_the_source_on() {
    let world = World::new("config: {drainMs: 300}", "");
    let (mut process, server) = world.run();
    world.wait_healthy(&server);
    let status = process.terminate(TIME).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.stderr());
    let (first, second) = (world.log("a"), world.log("b"));
    let told = |log: &str| -> u64 {
        let line = log.lines().find(|line| line.ends_with("told to end")).expect("it was told");
        line.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(told(&second) >= told(&first) + 300, "{first}\n{second}");
    assert_eq!(world.processes(), [] as [i32; 0]);
}

#[test]
fn the_second_signal_ends_at_once() {
    let world = World::new("config: {ignoresTerm: true}\n    drain: 1h", "");
    let (mut process, server) = world.run();
    world.wait_healthy(&server);
    let own = i32::try_from(process.pid()).unwrap();
    signal(own, Signal::INT);
    process.wait_for_stderr_line(TIME, |line| line.contains("draining").then_some(())).unwrap();
    signal(own, Signal::INT);
    assert_eq!(process.wait_exit(TIME).unwrap().code(), Some(1));
    assert_eq!(world.processes(), [] as [i32; 0]);
    assert!(process.stderr().contains("error: pair was ended before all was written"));
}

#[test]
fn a_pipeline_is_run_once_at_a_time() {
    let world = World::new("", "");
    let (_process, server) = world.run();
    world.wait_healthy(&server);
    let mut second = world.start(&["run", "pair.yaml", "--control-addr", "127.0.0.1:0"]);
    assert!(!second.wait_exit(TIME).unwrap().success());
    let notes = second.stderr();
    assert!(notes.contains("another"), "{notes}");
    assert!(world.component("a", &server)["status"] == "healthy", "the first one goes on");
    let mut third = world.start(&["run", "pair.yaml", "--control-addr", &server]);
    assert_eq!(third.wait_exit(TIME).unwrap().code(), Some(5));
    let notes = third.stderr();
    assert!(notes.contains("give --control-addr another port"), "{notes}");
}
