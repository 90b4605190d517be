//! Pipelines in containers of a real Docker engine, from the command line.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
};
use sheaf_testkit::{Process, TempDir, wait_until};

use super::engine::{self, Engine, libraries};
use super::rendered::component_program;
use super::{code, data, example, notes, sheafctl_in};

/// Containers take their time on a machine that does other things too.
const TIME: Duration = Duration::from_secs(180);
const IMAGE: &str = "sheaf-test-programs:1";
/// Nobody in particular, to whom the folders of tests are given: components run as it.
const USER: u32 = 65_532;

fn engine() -> Option<Arc<Engine>> {
    engine::engine(IMAGE, context)
}

/// As `cargo xtask image` lays it out, with the program of this build.
fn context() -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut put = |path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, path, content)
    };
    let recipe = format!(
        "FROM scratch\nCOPY root/ /\nCOPY --chown={USER} data/ /var/lib/sheaf/\n\
         ENV PATH=/usr/bin\nUSER {USER}\n"
    );
    put("Dockerfile", 0o644, recipe.as_bytes())?;
    put("data/.keep", 0o644, b"")?;
    let program = component_program();
    let folder = tempfile::tempdir()?;
    let stripped = folder.path().join("sheaf-component");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&program).status()?;
    assert!(strip.success(), "{strip}");
    put("root/usr/bin/sheaf-component", 0o755, &std::fs::read(&stripped)?)?;
    let mut needed = libraries(&program.display().to_string());
    needed.sort();
    needed.dedup();
    for path in needed {
        let mode = std::fs::metadata(&path)?.permissions().mode() | 0o555;
        put(&format!("root{}", path.display()), mode, &std::fs::read(&path)?)?;
    }
    archive.into_inner()
}

/// A folder with a pipeline in it.
struct World {
    folder: TempDir,
    engine: Arc<Engine>,
    pipeline: String,
}

impl World {
    fn new(engine: &Arc<Engine>, text: &str) -> Self {
        let (folder, engine) = (TempDir::new().unwrap(), Arc::clone(engine));
        std::fs::write(folder.path().join("pipeline.yaml"), text).unwrap();
        if is_root() {
            std::os::unix::fs::chown(folder.path(), Some(USER), Some(USER)).unwrap();
        }
        let name = text.split("name: ").nth(1).unwrap();
        let name = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
        World { folder, engine, pipeline: name.to_owned() }
    }

    fn of_example(engine: &Arc<Engine>, name: &str) -> Self {
        World::new(engine, &std::fs::read_to_string(example(name)).unwrap())
    }

    fn run(&self, more: &[&str]) -> Process {
        let words = ["run", "pipeline.yaml", "--control-addr", "127.0.0.1:0"];
        let driver =
            ["--driver", "docker", "--image", IMAGE, "--docker-host", &self.engine.address];
        Process::command(env!("CARGO_BIN_EXE_sheafctl"))
            .args([&words[..], &driver, more].concat())
            .current_dir(self.folder.path())
            .spawn()
            .unwrap()
    }

    /// Runs it to its end; answers what it printed but for the line that says where.
    fn run_to_the_end(&self, more: &[&str]) -> String {
        let mut process = self.run(more);
        let status = process.wait_exit(TIME).unwrap();
        assert!(status.success(), "{}", process.stderr());
        assert_eq!(self.left(), Vec::<String>::new(), "{}", process.stderr());
        let printed = process.stdout();
        printed.split_once('\n').map_or("", |(_, rest)| rest).to_owned()
    }

    /// Containers and networks of the pipeline.
    fn left(&self) -> Vec<String> {
        let client = self.engine.client();
        let label = format!("dev.sheaf.pipeline={}", self.pipeline);
        engine::blocking(async move {
            let filters = HashMap::from([("label", vec![label])]);
            let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
            let containers = client.list_containers(Some(options)).await.unwrap();
            let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
            let networks = client.list_networks(Some(options)).await.unwrap();
            let containers = containers.into_iter().flat_map(|one| one.names.unwrap_or_default());
            containers.chain(networks.into_iter().filter_map(|one| one.name)).collect()
        })
    }

    fn rows(&self, path: &str, format: &str) -> Vec<String> {
        rows(self.folder.path(), path, format)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The rows of files, as lines of JSON, in an order of their own.
pub(crate) fn rows(folder: &Path, path: &str, format: &str) -> Vec<String> {
    let config = folder.join("read.json");
    std::fs::write(&config, format!("{{\"path\": \"{path}\", \"format\": \"{format}\"}}")).unwrap();
    let output = Command::new(component_program())
        .args(["source", "file", "--health", "none", "--config", "read.json"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", notes(&output));
    let mut lines: Vec<String> = data(&output).lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The same file with processes of this machine.
fn with_processes(name: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let file = example(name);
    let words = ["run", &file, "--control-addr", "127.0.0.1:0", "--driver", "process"];
    let output = sheafctl_in(folder.path(), &words);
    assert_eq!(code(&output), 0, "{}", notes(&output));
    folder
}

#[test]
fn a_line_and_a_diamond_write_the_same_rows_as_with_processes() {
    let Some(engine) = engine() else { return };
    for (name, path, format, more) in [
        ("linear.yaml", "out/linear", "parquet", &[][..]),
        // Each way has files of its own.
        ("diamond.yaml", "out/diamond/*suspicious*", "ipc", &[]),
        ("diamond.yaml", "out/diamond/*plain*", "ipc", &[]),
        // The same under TLS.
        ("linear.yaml", "out/linear", "parquet", &["--tls"]),
    ] {
        let expected = rows(with_processes(name).path(), path, format);
        let world = World::of_example(&engine, name);
        world.run_to_the_end(more);
        let found = world.rows(path, format);
        assert!(found.len() > 2_000, "{name}: {}", found.len());
        assert_eq!(found.len(), expected.len(), "{name}");
        assert!(found == expected, "{name}: other rows");
        // They were written by nobody in particular, as the folder belongs to it.
        let owner = std::fs::metadata(world.folder.path().join("out")).unwrap().uid();
        assert_eq!(owner, std::fs::metadata(world.folder.path()).unwrap().uid());
        assert!(owner != 0 || !is_root());
    }
}

#[test]
fn each_sink_of_a_fan_out_gets_every_row() {
    let Some(engine) = engine() else { return };
    let world = World::of_example(&engine, "fan-out.yaml");
    world.run_to_the_end(&[]);
    for format in ["parquet", "csv", "json"] {
        let found = world.rows(&format!("out/fan-out/{format}"), format);
        assert_eq!(found.len(), 50_000, "{format}");
    }
}

#[test]
fn what_a_sink_prints_in_a_container_is_printed_here() {
    let Some(engine) = engine() else { return };
    let printed = World::of_example(&engine, "fan-in.yaml").run_to_the_end(&[]);
    for part in ["north", "30000", "south", "20000"] {
        assert!(printed.contains(part), "{printed}");
    }
}

const SLOW: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: slow}
sources:
  - {id: make, kind: generate, config: {rows: ROWS, rowsPerSecond: 2000, batchRows: 100,
     columns: [{name: n, values: sequence}]}, restart: {backoff: 50ms}}
processors:
  - {id: pass, kind: project, inputs: [make], config: {columns: [n]}, restart: {backoff: 50ms}}
sinks:
  - {id: keep, kind: file, inputs: [pass], config: {path: out, format: csv},
     restart: {backoff: 50ms}}
";

fn slow(name: &str, rows: u64) -> String {
    SLOW.replace("name: slow", &format!("name: {name}")).replace("ROWS", &rows.to_string())
}

fn wait_running(process: &mut Process) {
    let is_up = |line: &str| line.ends_with("  running").then_some(());
    process.wait_for_stderr_line(TIME, is_up).unwrap();
}

#[test]
fn a_killed_run_leaves_no_container_and_no_network() {
    let Some(engine) = engine() else { return };
    let world = World::new(&engine, &slow("killed", 100_000_000));
    let mut process = world.run(&[]);
    wait_running(&mut process);
    assert_eq!(world.left().len(), 4, "{:?}", world.left());
    process.kill9().unwrap();
    wait_until(TIME, "the end of everything", || world.left().is_empty()).unwrap();
    // And the next one begins.
    let mut again = world.run(&["--fresh"]);
    wait_running(&mut again);
    assert_eq!(again.terminate(TIME).unwrap().code(), Some(0), "{}", again.stderr());
    assert_eq!(world.left(), Vec::<String>::new());
}

#[test]
fn a_killed_container_is_started_again_and_no_row_is_lost() {
    let Some(engine) = engine() else { return };
    let world = World::new(&engine, &slow("again", 10_000));
    let mut process = world.run(&[]);
    wait_running(&mut process);
    let client = engine.client();
    engine::blocking(async move {
        let options = KillContainerOptionsBuilder::new().signal("KILL").build();
        client.kill_container("sheaf.again.pass.1", Some(options)).await.unwrap();
    });
    let status = process.wait_exit(TIME).unwrap();
    let said = process.stderr();
    assert!(status.success() && said.contains("killed by signal 9 (KILL)"), "{said}");
    let mut found = world.rows("out", "csv");
    found.dedup();
    assert_eq!(found.len(), 10_000, "{said}");
}

#[test]
fn over_durable_edges_every_row_of_killed_containers_is_there_once() {
    let Some(engine) = engine() else { return };
    let text =
        slow("sure", 10_000).replace("sources:", "delivery: exactly-once\ndurable: true\nsources:");
    let world = World::new(&engine, &text);
    let mut process = world.run(&[]);
    wait_running(&mut process);
    let out = world.folder.path().join("out");
    let some = || std::fs::read_dir(&out).is_ok_and(|files| files.count() > 5);
    wait_until(TIME, "some files", some).unwrap();
    for container in ["sheaf.sure.pass.1", "sheaf.sure.keep.1"] {
        let client = engine.client();
        engine::blocking(async move {
            let options = KillContainerOptionsBuilder::new().signal("KILL").build();
            client.kill_container(container, Some(options)).await.unwrap();
        });
    }
    let status = process.wait_exit(TIME).unwrap();
    assert!(status.success(), "{}", process.stderr());
    let found = world.rows("out", "csv");
    let mut distinct = found.clone();
    distinct.dedup();
    assert_eq!((found.len(), distinct.len()), (10_000, 10_000), "{}", process.stderr());
    assert_eq!(world.left(), Vec::<String>::new());
}

#[test]
fn containers_are_killed_and_stand_still_on_purpose() {
    let Some(engine) = engine() else { return };
    let world = World::new(&engine, &slow("harm", 100_000_000));
    let mut process = world.run(&[]);
    let ready = process.wait_ready(TIME).unwrap().addr("control").unwrap().to_string();
    wait_running(&mut process);
    for harm in [
        &["kill", "pass"][..],
        &["pause", "keep", "--for", "700ms"],
        &["slow", "make", "--delay", "100ms", "--for", "1s"],
    ] {
        let words = [&["chaos", "harm"], harm, &["--server", &ready]].concat();
        let output = sheafctl_in(world.folder.path(), &words);
        assert_eq!(code(&output), 0, "{harm:?}: {}{}", data(&output), notes(&output));
    }
    let words = ["chaos", "harm", "slow", "make", "--delay", "2h", "--for", "1s"];
    let output = sheafctl_in(world.folder.path(), &[&words[..], &["--server", &ready]].concat());
    assert_ne!(code(&output), 0, "{}", data(&output));
    assert_eq!(process.terminate(TIME).unwrap().code(), Some(0), "{}", process.stderr());
    assert_eq!(world.left(), Vec::<String>::new());
}

#[test]
fn an_engine_or_image_that_is_not_there_is_told_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("missing.yaml").display().to_string();
    std::fs::write(&file, slow("missing", 10)).unwrap();
    let run = |words: &[&str]| {
        let own = ["run", &file, "--control-addr", "127.0.0.1:0", "--driver", "docker"];
        sheafctl_in(folder.path(), &[&own[..], words].concat())
    };
    let output = run(&["--docker-host", "unix:///no/such.sock"]);
    assert_eq!(code(&output), 7, "{}", notes(&output));
    let said = notes(&output);
    assert!(said.contains("no Docker engine listens at /no/such.sock"), "{said}");
    assert!(said.contains("--docker-host"), "{said}");
    let Some(engine) = engine() else { return };
    let output = run(&["--docker-host", &engine.address, "--image", "no-such-image:1"]);
    assert_eq!(code(&output), 1);
    let said = notes(&output);
    assert!(
        said.contains("no image no-such-image:1") && said.contains("cargo xtask image"),
        "{said}"
    );
}

#[test]
fn a_pipeline_of_the_same_name_of_somebody_else_is_not_touched() {
    let Some(engine) = engine() else { return };
    let text = slow("same", 100_000_000);
    let (first, second) = (World::new(&engine, &text), World::new(&engine, &text));
    let mut process = first.run(&[]);
    wait_running(&mut process);
    let mut refused = second.run(&[]);
    assert_eq!(refused.wait_exit(TIME).unwrap().code(), Some(5), "{}", refused.stderr());
    let said = refused.stderr();
    let owner = first.folder.path().join(".sheaf/pipelines").display().to_string();
    assert!(said.contains("a pipeline of this name") && said.contains(&owner), "{said}");
    assert_eq!(first.left().len(), 4, "all is there");
    assert_eq!(process.terminate(TIME).unwrap().code(), Some(0), "{}", process.stderr());
}

#[test]
fn logs_of_containers_are_shown_while_they_run() {
    let Some(engine) = engine() else { return };
    let world = World::new(&engine, &slow("talks", 100_000_000));
    let mut process = world.run(&["--log-level", "info"]);
    let ready = process.wait_ready(TIME).unwrap().addr("control").unwrap().to_string();
    wait_running(&mut process);
    let are_shown = || {
        let output = sheafctl_in(world.folder.path(), &["logs", "make", "--server", &ready]);
        let said = data(&output);
        said.contains("make | ") && said.contains("registered")
    };
    wait_until(TIME, "the log of a container", are_shown).unwrap();
    assert_eq!(process.terminate(TIME).unwrap().code(), Some(0), "{}", process.stderr());
}
