//! What a control plane takes while its pipelines run, and how soon they do.
//!
//! Real programs: `sheafctl`, and `sheaf-component` beside it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use sheaf_testkit::{Process, TempDir};

/// How long pipelines may take to be up.
const START: Duration = Duration::from_secs(180);
/// How often it is looked whether all components are healthy.
const LOOK: Duration = Duration::from_millis(200);
/// How long it runs before it is looked at: what it took to start is not what it takes.
const SETTLE: Duration = Duration::from_secs(20);
/// The system counts CPU in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// What a control plane takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// Components that run.
    pub components: usize,
    /// Its memory in KiB: the most that was seen from 20 s after all components were healthy.
    pub resident_kib: u64,
    /// Its CPU time in hundredths of that of one core.
    pub cpu_percent: f64,
    /// Descriptors that it has open.
    pub descriptors: usize,
}

/// Starts a server and a pipeline of half as many sources as `components` and as many sinks,
/// each source with a row a second, and looks at the server for `time`, 20 s after all are healthy.
///
/// # Errors
/// Where a program cannot be started, does not come up, or ends.
pub fn taken(sheafctl: &Path, components: usize, time: Duration) -> io::Result<Taken> {
    let folder = TempDir::new().map_err(io::Error::other)?;
    let text = wide(components / 2);
    fs::write(folder.path().join("wide.yaml"), text)?;
    let mut server = Process::command(sheafctl)
        .args(["server", "--control-addr", "127.0.0.1:0", "--state", "memory"])
        .env("SHEAF_LOG", "warn")
        .current_dir(folder.path())
        .spawn()
        .map_err(io::Error::other)?;
    let ready = server.wait_ready(START).map_err(io::Error::other)?;
    let address = ready.addr("control").ok_or_else(|| other("no address in the ready line"))?;
    let address = address.to_string();
    let run = |arguments: &[&str]| ask(sheafctl, folder.path(), &address, arguments);
    run(&["start", "wide.yaml"])?;
    let until = Instant::now() + START;
    while run(&["ps", "--json"])?.pointer("/pipelines/0/healthy").and_then(|it| it.as_u64())
        != Some(components as u64)
    {
        if Instant::now() > until {
            return Err(other("the components do not become healthy"));
        }
        std::thread::sleep(LOOK);
    }
    std::thread::sleep(SETTLE);
    let taken = watch(server.pid(), components, time);
    run(&["stop", "wide", "--now"])?;
    taken
}

/// How long it takes from the start of `sheafctl run` until a pipeline of three components says
/// that all of them have registered.
///
/// # Errors
/// As [`taken`].
pub fn start_time(sheafctl: &Path) -> io::Result<Duration> {
    let folder = TempDir::new().map_err(io::Error::other)?;
    let text = format!(
        "{HEAD}sources:\n{}processors:\n  - {{id: f, kind: filter, inputs: [s0], config: {{where: n >= 0}}}}\n\
         sinks:\n  - {{id: out, kind: file, inputs: [f], config: {{path: out, format: ipc}}}}\n",
        source(0)
    );
    fs::write(folder.path().join("three.yaml"), text)?;
    let began = Instant::now();
    let mut run = Process::command(sheafctl)
        .args(["run", "three.yaml", "--control-addr", "127.0.0.1:0"])
        .current_dir(folder.path())
        .spawn()
        .map_err(io::Error::other)?;
    let is_up = |line: &str| line.ends_with("  running").then_some(());
    run.wait_for_stderr_line(START, is_up).map_err(io::Error::other)?;
    let took = began.elapsed();
    run.terminate(START).map_err(io::Error::other)?;
    Ok(took)
}

const HEAD: &str = "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {name: wide}\n";

fn source(number: usize) -> String {
    format!(
        "  - id: s{number}\n    kind: generate\n    config:\n      rowsPerSecond: 1\n      \
         columns: [{{name: n, values: sequence}}]\n"
    )
}

fn wide(width: usize) -> String {
    let sources: String = (0..width).map(source).collect();
    let sink = |number| {
        format!(
            "  - {{id: k{number}, kind: stdout, inputs: [s{number}], config: {{format: json}}}}\n"
        )
    };
    let sinks: String = (0..width).map(sink).collect();
    format!("{HEAD}sources:\n{sources}sinks:\n{sinks}")
}

fn ask(
    sheafctl: &Path,
    folder: &Path,
    address: &str,
    arguments: &[&str],
) -> io::Result<serde_json::Value> {
    let output = std::process::Command::new(sheafctl)
        .args(arguments)
        .args(["--server", address])
        .current_dir(folder)
        .output()?;
    if !output.status.success() {
        return Err(other(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn watch(pid: u32, components: usize, time: Duration) -> io::Result<Taken> {
    let (began, before) = (Instant::now(), cpu(pid)?);
    let mut resident_kib = 0;
    while began.elapsed() < time {
        resident_kib = resident_kib.max(resident(pid)?);
        std::thread::sleep(LOOK.min(time));
    }
    let used = cpu(pid)?.saturating_sub(before);
    let cpu_percent = used.as_secs_f64() * 100.0 / began.elapsed().as_secs_f64();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(Taken { components, resident_kib, cpu_percent, descriptors })
}

fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
    let ticks = fields.and_then(|fields| {
        let of = |at: usize| fields.get(at)?.parse::<u32>().ok();
        of(11)?.checked_add(of(12)?)
    });
    ticks.map(|ticks| TICK * ticks).ok_or_else(|| other("no CPU time of the process"))
}

fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    size.ok_or_else(|| other("no memory of the process"))
}

fn other(text: &str) -> io::Error {
    io::Error::other(text.to_owned())
}
