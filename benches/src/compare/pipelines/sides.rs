//! Each way to run the stages.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sheaf_testkit::{Process, ProcessCommand};

use crate::compare::Setup;
use crate::error::{Error, Result};
use crate::load::stage::CYCLE;
use crate::process::{number, python};

/// The filter keeps rows whose value is less.
const KEEP_BELOW: i64 = 5;
/// Batches that may be under way on each stream of ours.
const CREDITS: u32 = 256;
/// dora's queues: as long as a run.
const QUEUE: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(240);

/// What the source makes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) batches: u64,
    pub(super) rows: u64,
    /// Between one batch and the next.
    pub(super) pace_us: u64,
}

impl Work {
    /// Whether each batch is one row, with the time at which it was made.
    fn is_timed(self) -> bool {
        self.pace_us > 0 && self.rows == 1
    }

    /// Rows that the filter keeps.
    pub(super) fn expected_rows(self) -> f64 {
        let (cycle, below) = (CYCLE.cast_unsigned(), KEEP_BELOW.cast_unsigned());
        let kept = self.rows / cycle * below + (self.rows % cycle).min(below);
        (kept * self.batches) as f64
    }
}

/// What came to the sink.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) rows: f64,
    pub(super) seconds: f64,
    pub(super) start_ms: f64,
    pub(super) waits_us: Vec<f64>,
}

impl Told {
    /// What a sink wrote, of a run that began at this time.
    fn read(result: &Path, begun: Duration) -> Result<Self> {
        let text = fs::read_to_string(result).map_err(Error::io("read what the sink counted"))?;
        let counted: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Message(format!("the sink wrote no JSON: {error}")))?;
        let first = number(&counted, "first_ns")?;
        let waits = counted["waits"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(Told {
            rows: number(&counted, "rows")?,
            seconds: (number(&counted, "last_ns")? - first) / 1e9,
            start_ms: first / 1e6 - begun.as_secs_f64() * 1e3,
            waits_us: waits.iter().filter_map(Value::as_f64).map(|wait| wait / 1e3).collect(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    Dora,
    Pipe,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::Dora => "dora",
            Side::Pipe => "pipe",
        }
    }

    pub(super) fn run(self, setup: &Setup, folder: &Path, work: &Work) -> Result<Told> {
        let result = folder.join("result.json");
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self {
            Side::Ours => ours(setup, folder, &result, work)?,
            Side::Dora => dora(folder, &result, work)?,
            Side::Pipe => pipe(folder, &result, work)?,
        }
        let told = Told::read(&result, begun)?;
        if self != Side::Dora && told.rows != work.expected_rows() {
            let (name, rows, expected) = (self.name(), told.rows, work.expected_rows());
            return Err(Error::Message(format!("{name}: {rows} rows came, and not {expected}")));
        }
        Ok(told)
    }

    /// How long it takes to check a file of so many components, in milliseconds; `None` of
    /// who has nothing of the kind.
    pub(super) fn validate(self, setup: &Setup, components: usize) -> Result<Option<f64>> {
        let folder = crate::process::temporary()?;
        let command = match self {
            Side::Ours => {
                let path = folder.path().join("pipeline.yaml");
                write(&path, &chain(components))?;
                Process::command(&setup.sheaf).name("sheafctl").arg("validate").arg(path)
            }
            Side::Dora => {
                let path = folder.path().join("flow.yml");
                write(&path, &dora_chain(folder.path(), components)?)?;
                dora_program()?.arg("validate").arg(path)
            }
            Side::Pipe => return Ok(None),
        };
        let begun = Instant::now();
        finish(command)?;
        Ok(Some(begun.elapsed().as_secs_f64() * 1e3))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}

/// Runs a program to its end.
fn finish(command: ProcessCommand) -> Result<()> {
    let mut process = command.spawn()?;
    let status = process.wait_exit(PATIENCE)?;
    if status.success() {
        return Ok(());
    }
    let output = process.stdout() + &process.stderr();
    let from = output.len().saturating_sub(2_000);
    let tail = output.get(from..).unwrap_or(&output);
    Err(Error::Message(format!("{} ended with {status}\n{tail}", process.pid())))
}

fn ours(setup: &Setup, folder: &Path, result: &Path, work: &Work) -> Result<()> {
    let own = Stages::new(work)?;
    let filter = json!({
        "id": "filter",
        "kind": "filter",
        "inputs": reads(&["source"]),
        "config": { "where": format!("value < {KEEP_BELOW}") },
    });
    let sources = vec![own.source("source")];
    let sinks = vec![own.sink("sink", &["filter"], result)];
    run_ours(setup, folder, sources, vec![filter], sinks)
}

/// Our sources and sinks with nothing between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One of each.
    Direct,
    /// One source, and so many sinks.
    FanOut(usize),
    /// So many sources, and one sink.
    FanIn(usize),
}

impl Shape {
    /// What each sink was given.
    pub(super) fn run(self, setup: &Setup, folder: &Path, work: &Work) -> Result<Vec<Told>> {
        let (sources, sinks) = match self {
            Shape::Direct => (1, 1),
            Shape::FanOut(sinks) => (1, sinks),
            Shape::FanIn(sources) => (sources, 1),
        };
        let own = Stages::new(work)?;
        let names: Vec<String> = (0..sources).map(|n| format!("source{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let results: Vec<_> = (0..sinks).map(|n| folder.join(format!("result{n}.json"))).collect();
        let all = results.iter().enumerate();
        let all = all.map(|(n, result)| own.sink(&format!("sink{n}"), &names, result));
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let all_sources = names.iter().map(|name| own.source(name)).collect();
        run_ours(setup, folder, all_sources, Vec::new(), all.collect())?;
        let told = results.iter().map(|result| Told::read(result, begun));
        let told = told.collect::<Result<Vec<_>>>()?;
        let expected = (work.rows * work.batches * sources as u64) as f64;
        match told.iter().find(|told| told.rows != expected) {
            Some(told) => Err(Error::Message(format!(
                "{self:?}: {} rows came to a sink, and not {expected}",
                told.rows
            ))),
            None => Ok(told),
        }
    }
}

/// The ends of our pipelines: this program.
struct Stages {
    program: String,
    work: Work,
}

impl Stages {
    fn new(work: &Work) -> Result<Self> {
        let program = std::env::current_exe().map_err(Error::io("find this program"))?;
        Ok(Stages { program: program.to_string_lossy().into_owned(), work: *work })
    }

    fn source(&self, id: &str) -> Value {
        let Work { batches, rows, pace_us } = self.work;
        let numbers = [batches, rows, pace_us].map(|number| number.to_string());
        let mut command = vec![self.program.as_str(), "load", "stage-source"];
        command.extend(numbers.iter().map(String::as_str));
        json!({ "id": id, "command": command })
    }

    fn sink(&self, id: &str, from: &[&str], result: &Path) -> Value {
        let result = result.to_string_lossy();
        let mut command = vec![self.program.as_str(), "load", "stage-sink", &*result];
        command.extend((self.work.is_timed()).then_some("--paced"));
        json!({ "id": id, "command": command, "inputs": reads(from) })
    }
}

fn reads(from: &[&str]) -> Value {
    from.iter().map(|from| json!({ "from": from, "credits": CREDITS })).collect()
}

fn run_ours(
    setup: &Setup,
    folder: &Path,
    sources: Vec<Value>,
    processors: Vec<Value>,
    sinks: Vec<Value>,
) -> Result<()> {
    // JSON is YAML.
    let pipeline = json!({
        "apiVersion": "sheaf.dev/v1",
        "kind": "Pipeline",
        "metadata": { "name": "stages" },
        "sources": sources,
        "processors": processors,
        "sinks": sinks,
    });
    let path = folder.join("pipeline.yaml");
    write(&path, &pipeline.to_string())?;
    finish(
        Process::command(&setup.sheaf)
            .name("sheafctl")
            .arg("run")
            .arg(path)
            .args(["--control-addr", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data")),
    )
}

fn chain(components: usize) -> String {
    let filters = (1..components - 1).map(|index| {
        json!({
            "id": format!("f{index}"),
            "kind": "filter",
            "inputs": [if index == 1 { "source".to_owned() } else { format!("f{}", index - 1) }],
            "config": { "where": format!("value < {index} and at is not null") },
        })
    });
    let columns = json!([{ "name": "value", "values": "sequence" }]);
    json!({
        "apiVersion": "sheaf.dev/v1",
        "kind": "Pipeline",
        "metadata": { "name": "long" },
        "sources": [{ "id": "source", "kind": "generate", "config": { "columns": columns } }],
        "processors": filters.collect::<Vec<_>>(),
        "sinks": [{ "id": "sink", "kind": "stdout", "inputs": [format!("f{}", components - 2)] }],
    })
    .to_string()
}

fn dora_program() -> Result<ProcessCommand> {
    let program = sheaf_testkit::services_dir().join("peers/dora/python/bin/dora");
    if !program.is_file() {
        let text = format!("dora is not installed at {}", program.display());
        return Err(Error::Message(format!("{text}: `cargo xtask bench` does that")));
    }
    // What it tells of each message would be most of its work.
    Ok(Process::command(program).name("dora").env("RUST_LOG", "error"))
}

/// A node of dora that runs a stage.
fn node(id: &str, work: &Work, result: &Path, from: Option<&str>) -> Result<Value> {
    let folder = sheaf_testkit::workspace_root().join("benches/peers/dora");
    let python = sheaf_testkit::services_dir().join("peers/dora/python/bin/python");
    let Work { batches, rows, pace_us } = work;
    let (script, result) = (folder.join("node.py"), result.display());
    let mut node = json!({
        "id": id,
        "path": python,
        "args": format!("{} {id} {batches} {rows} {pace_us} {result}", script.display()),
        "outputs": ["rows"],
    });
    if let Some(from) = from {
        let source = format!("{from}/rows");
        node["inputs"] = json!({
            "rows": { "source": source, "queue_size": QUEUE, "queue_policy": "backpressure" },
        });
    }
    Ok(node)
}

fn dora(folder: &Path, result: &Path, work: &Work) -> Result<()> {
    let nodes = [("source", None), ("filter", Some("source")), ("sink", Some("filter"))];
    let nodes = nodes.map(|(id, from)| node(id, work, result, from));
    let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
    let path = folder.join("flow.yml");
    write(&path, &json!({ "nodes": nodes }).to_string())?;
    finish(dora_program()?.arg("run").arg(path).current_dir(folder))
}

fn dora_chain(folder: &Path, components: usize) -> Result<String> {
    let work = Work { batches: 1, rows: 1, pace_us: 0 };
    let nodes = (0..components).map(|index| {
        let from = (index > 0).then(|| format!("n{}", index - 1));
        node(&format!("n{index}"), &work, folder, from.as_deref())
    });
    Ok(json!({ "nodes": nodes.collect::<Result<Vec<_>>>()? }).to_string())
}

/// Three processes and two pipes of the system between them.
fn pipe(folder: &Path, result: &Path, work: &Work) -> Result<()> {
    // The command says where the Python of this peer is, and the testkit's processes have
    // no pipes.
    drop(python("dora", "pipe.py")?);
    let program = sheaf_testkit::services_dir().join("peers/dora/python/bin/python");
    let script = sheaf_testkit::workspace_root().join("benches/peers/dora/pipe.py");
    let numbers = [work.batches, work.rows, work.pace_us].map(|number| number.to_string());
    let mut stages = Vec::new();
    let mut from = Stdio::null();
    for role in ["source", "filter", "sink"] {
        let is_last = role == "sink";
        let mut stage = Command::new(&program);
        stage.arg(&script).arg(role).args(&numbers).arg(result).current_dir(folder).stdin(from);
        let mut child = stage
            .stdout(if is_last { Stdio::null() } else { Stdio::piped() })
            .spawn()
            .map_err(Error::io("start a stage of the pipe"))?;
        from = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        stages.push((role, child));
    }
    for (role, mut child) in stages {
        let status = child.wait().map_err(Error::io("wait for a stage of the pipe"))?;
        if !status.success() {
            return Err(Error::Message(format!(
                "the stage {role} of the pipe ended with {status}"
            )));
        }
    }
    Ok(())
}
