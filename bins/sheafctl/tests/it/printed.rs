//! What a run shows of itself, and what becomes of it where nobody looks.

use std::time::Duration;

use serde_json::Value;
use sheaf_testkit::{Process, TempDir, wait_until};

use super::pipelines::TIME;
use super::rendered::component_program;
use super::{code, data, notes, sheafctl, sheafctl_in};

const PRINTS: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: prints}
sources:
  - {id: make, kind: generate, config: {ROWS batchRows: 10, columns: [{name: n, values: sequence}]}}
processors:
  - {id: pass, kind: project, inputs: [make], config: {columns: [n]}}
sinks:
  - {id: show, kind: stdout, inputs: [pass], config: {format: json}}
";

#[test]
fn with_quiet_only_rows_are_on_standard_output() {
    component_program();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("p.yaml"), PRINTS.replace("ROWS", "rows: 30,")).unwrap();
    let run = ["run", "p.yaml", "--control-addr", "127.0.0.1:0", "--quiet"];
    let output = sheafctl_in(folder.path(), &run);
    assert_eq!((code(&output), notes(&output)), (0, String::new()));
    let rows: Vec<Value> =
        data(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 30);
}

#[test]
fn a_run_ends_soon_and_well_where_nobody_reads_what_it_prints() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    component_program();
    let folder = TempDir::new().unwrap();
    let text = PRINTS.replace("ROWS", "rows: 100_000_000, rowsPerSecond: 2_000,");
    std::fs::write(folder.path().join("p.yaml"), text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_sheafctl"))
        .args(["run", "p.yaml", "--control-addr", "127.0.0.1:0"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    // As `head -5` does.
    for _ in 0..5 {
        lines.next().unwrap().unwrap();
    }
    drop(lines);
    let ended = || run.try_wait().unwrap().is_some();
    // Drains of 30 s would be three of them.
    wait_until(Duration::from_secs(20), "the end of the run", ended).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", notes(&output));
    assert!(notes(&output).contains("nobody reads standard output any more"), "{}", notes(&output));
    let runs = sheafctl_in(folder.path(), &["runs", "--json"]);
    let runs: Value = serde_json::from_str(&data(&runs)).unwrap();
    assert_eq!(runs["runs"][0]["outcome"], "stopped");
}

#[test]
fn what_went_through_a_run_is_shown_to_the_last_row() {
    component_program();
    let folder = TempDir::new().unwrap();
    let text = PRINTS.replace("ROWS", "rows: 4_000,").replace("stdout", "file");
    let text = text.replace("{format: json}", "{path: out, format: csv}");
    std::fs::write(folder.path().join("p.yaml"), text).unwrap();
    for _ in 0..3 {
        let run = ["run", "p.yaml", "--control-addr", "127.0.0.1:0"];
        let output = sheafctl_in(folder.path(), &run);
        assert_eq!(code(&output), 0, "{}", notes(&output));
        let shown = notes(&output);
        let row = |name: &str| {
            let line = shown.lines().find(|line| line.starts_with(name)).expect("a table");
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("make")[1..], ["source", "-", "4,000", "0"], "{shown}");
        assert_eq!(row("pass")[1..], ["processor", "4,000", "4,000", "0"], "{shown}");
        assert_eq!(row("show")[1..], ["sink", "4,000", "-", "0"], "{shown}");
    }
    let runs = sheafctl_in(folder.path(), &["runs", "--json"]);
    let runs: Value = serde_json::from_str(&data(&runs)).unwrap();
    for run in runs["runs"].as_array().unwrap() {
        assert_eq!((&run["rowsRead"], &run["rowsWritten"]), (&4_000.into(), &4_000.into()));
        assert_eq!((&run["batchesWritten"], &run["restarts"]), (&400.into(), &0.into()));
    }
    assert_eq!(runs["runs"].as_array().unwrap().len(), 3);
}

fn get(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let asked = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_control_plane_has_figures_of_every_component_and_edge() {
    component_program();
    let folder = TempDir::new().unwrap();
    let text = PRINTS.replace("ROWS", "rows: 100_000_000, rowsPerSecond: 2_000,");
    let text = text.replace("stdout", "file").replace("{format: json}", "{path: out, format: csv}");
    std::fs::write(folder.path().join("p.yaml"), text).unwrap();
    let mut run = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
        .args(["run", "p.yaml", "--control-addr", "127.0.0.1:0"])
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let ready = run.wait_ready(TIME).unwrap();
    let address = ready.addr("console").unwrap().to_string();
    let control = ready.addr("control").unwrap().to_string();
    let value = |metrics: &str, name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
    };
    let rows = "sheaf_pipeline_edge_rows_total{pipeline=\"prints\",edge=\"make:pass\"}";
    let flows = || value(&get(&address, "/metrics"), rows).is_some_and(|rows| rows > 0);
    wait_until(TIME, "figures of an edge", flows).unwrap();
    let metrics = get(&address, "/metrics");
    let edge = "{pipeline=\"prints\",edge=\"pass:show\"}";
    for name in ["bytes_total", "dropped_events_total", "lag_events", "waiting_events", "credits"] {
        let name = format!("sheaf_pipeline_edge_{name}{edge}");
        assert!(value(&metrics, &name).is_some(), "{name}: {metrics}");
    }
    let of = |name: &str| {
        let name =
            format!("sheaf_pipeline_component_{name}{{pipeline=\"prints\",instance=\"pass\"}}");
        value(&metrics, &name).unwrap_or_else(|| panic!("no {name}: {metrics}"))
    };
    assert_eq!((of("restarts"), of("healthy")), (0, 1));
    assert!(of("rows_in_total") > 0 && of("memory_bytes") > 0);

    // And what the rows look like.
    let told = || {
        let status = ["status", "--json", "-s", &control];
        let output = sheafctl_in(folder.path(), &status);
        let told: Value = serde_json::from_str(&data(&output)).unwrap();
        let all = told["pipelines"][0]["components"].as_array().unwrap().clone();
        let is_it = |one: &&Value| one["instance"] == "pass";
        let pass = all.iter().find(is_it).unwrap();
        pass["inputs"]["make:pass"] == "n: Int64 not null"
            && pass["outputs"]["pass:show"] == "n: Int64 not null"
    };
    wait_until(TIME, "the schemas", told).unwrap();
}

#[test]
fn advice_is_about_pipelines_and_what_cannot_be_meant_is_refused() {
    let ended = |arguments: &[&str]| {
        let output = sheafctl(arguments);
        assert_eq!(data(&output), "");
        (code(&output), notes(&output))
    };
    let (exit, said) = ended(&["validate", "no-such.yaml"]);
    assert!(exit == 3 && said.contains("help: check the name or the path"), "{exit} {said}");
    let folder = TempDir::new().unwrap();
    let data_dir = folder.path().display().to_string();
    let server = ["server", "--control-addr", "127.0.0.1:0", "--data-dir", &data_dir];
    let (exit, said) = ended(&[&server[..], &["--log-level", "loud"]].concat());
    assert!(exit == 2 && said.contains("\"loud\" is no level"), "{exit} {said}");
    let (exit, said) = ended(&[&server[..], &["--admin-addr", "0.0.0.0:0"]].concat());
    assert!(exit == 5 && said.contains("--admin-addr") && said.contains("--insecure"), "{said}");
    // And where that is meant.
    let mut open = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
        .args([&server[..], &["--admin-addr", "0.0.0.0:0", "--insecure"]].concat())
        .spawn()
        .unwrap();
    open.wait_ready(TIME).unwrap();
}
