//! Processes of a comparison: servers on free ports, loads that end with JSON.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use sheaf_testkit::{Process, ProcessCommand, TempDir};

use crate::error::{Error, Result};

/// How long a server may take to be up.
const START: Duration = Duration::from_secs(60);

/// How long one load may take.
const LOAD: Duration = Duration::from_secs(280);

/// The system counts CPU in hundredths of a second: less than one is not zero.
const TICKS: f64 = 100.0;
pub(crate) const HALF_TICK: f64 = 0.005;

/// Lines of a server's output in an error.
const TAIL: usize = 15;

/// A `sheaf serve` with its data in a folder that goes with it.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    address: String,
    _data: Option<TempDir>,
}

impl Server {
    /// A `sheaf serve` on a free port, without workers.
    pub(crate) fn sheaf(program: &PathBuf, arguments: &[&str]) -> Result<Self> {
        let data = temporary()?;
        let command = Process::command(program)
            .name("sheaf")
            .args(["serve", "--die-with-parent", "--flight-addr", "127.0.0.1:0", "--workers", "0"])
            .arg("--data-dir")
            .arg(data.path())
            .args(arguments);
        Server::start(command, Some(data))
    }

    /// Any server that says where it listens in a ready line.
    pub(crate) fn start(command: ProcessCommand, data: Option<TempDir>) -> Result<Self> {
        let mut process = command.spawn()?;
        let ready = process.wait_ready(START)?;
        let address = ready
            .url("flight")
            .ok_or_else(|| Error::Message("the ready line names no `flight`".into()))?
            .to_owned();
        Ok(Server { process, address, _data: data })
    }

    /// Where it listens: `grpc://HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> String {
        self.process.pid().to_string()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A folder for data, on the disk that is measured.
pub(crate) fn temporary() -> Result<TempDir> {
    TempDir::new().map_err(Error::io("make a temporary folder"))
}

/// This binary again, as one load.
pub(crate) fn load(arguments: &[&str]) -> Result<ProcessCommand> {
    let program = std::env::current_exe().map_err(Error::io("find this program"))?;
    let name = format!("load-{}", arguments.first().unwrap_or(&""));
    Ok(Process::command(program).name(name).arg("load").args(arguments))
}

/// A program of a peer below `benches/peers/PEER`, in its own Python.
pub(crate) fn python(peer: &str, script: &str) -> Result<ProcessCommand> {
    let python = sheaf_testkit::services_dir().join("peers").join(peer).join("python/bin/python");
    if !python.is_file() {
        return Err(Error::Message(format!(
            "the peer {peer} is not installed at {}: `cargo xtask bench` does that",
            python.display()
        )));
    }
    let script = sheaf_testkit::workspace_root().join("benches/peers").join(peer).join(script);
    Ok(Process::command(python).name(peer).arg(script))
}

/// A program of a peer below `benches/peers/PEER` that cargo builds.
pub(crate) fn built(peer: &str, program: &str) -> Result<ProcessCommand> {
    let path = sheaf_testkit::services_dir().join("peers").join(peer);
    let path = path.join("target/release").join(program);
    if !path.is_file() {
        return Err(Error::Message(format!(
            "the peer {peer} is not built at {}: `cargo xtask bench` does that",
            path.display()
        )));
    }
    Ok(Process::command(path).name(peer))
}

/// The version of an installed package of a peer.
pub(crate) fn python_version(peer: &str, package: &str) -> Result<String> {
    let folder = sheaf_testkit::workspace_root().join("benches/peers").join(peer);
    let path = folder.join("requirements.txt");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let prefix = format!("{package}==");
    text.lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .map(str::to_owned)
        .ok_or_else(|| Error::Message(format!("{} does not pin {package}", path.display())))
}

/// The version that follows some text in a list of pins below `benches/peers`.
pub(crate) fn pinned(file: &str, before: &str) -> Result<String> {
    let path = sheaf_testkit::workspace_root().join("benches/peers").join(file);
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let rest = text.split_once(before).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split('"').next())
        .map(str::to_owned)
        .ok_or_else(|| Error::Message(format!("{} has nothing after {before:?}", path.display())))
}

/// Waits for the end of a load; gives the objects that it printed.
///
/// What goes wrong is told with the last output of the load and of `servers`.
pub(crate) fn finish(load: &mut Process, servers: &mut [&mut Process]) -> Result<Vec<Value>> {
    let ended = load.wait_exit(LOAD);
    let problem = match &ended {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("a load ended with {status}\n{}", tail(load))),
        Err(error) => Some(error.to_string()),
    };
    if let Some(problem) = problem {
        return Err(explain(&problem, servers));
    }
    let path = load.stdout_path();
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let objects: Vec<Value> = lines
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Message(format!("a load printed no JSON: {error}\n{text}")))?;
    if objects.is_empty() {
        return Err(explain(&format!("a load printed no result\n{}", tail(load)), servers));
    }
    Ok(objects)
}

/// A problem with the last output of the servers, and whether they still run.
pub(crate) fn explain(problem: &str, servers: &mut [&mut Process]) -> Error {
    let mut message = problem.to_owned();
    for server in servers {
        let state = match server.try_exit() {
            Ok(None) => "runs".to_owned(),
            Ok(Some(status)) => format!("ended with {status}"),
            Err(error) => error.to_string(),
        };
        message.push_str(&format!("\nserver {} {state}\n{}", server.pid(), tail(server)));
    }
    Error::Message(message)
}

fn tail(process: &Process) -> String {
    let mut text = process.stdout() + &process.stderr();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > TAIL {
        text = lines[lines.len() - TAIL..].join("\n");
    }
    text
}

/// A number of an object that a load printed.
pub(crate) fn number(object: &Value, key: &str) -> Result<f64> {
    object
        .get(key)
        .and_then(Value::as_f64)
        .ok_or_else(|| Error::Message(format!("a load printed no number {key}: {object}")))
}

/// CPU that processes used up to now, threads that ended included.
pub(crate) fn cpu_seconds(pids: &[String]) -> Result<f64> {
    let mut ticks = 0_u64;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
        // The name of the program may have spaces; what follows it has none.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let used = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        ticks += used.sum::<u64>();
    }
    Ok(ticks as f64 / TICKS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sheaf_testkit::Process;

    use super::finish;

    fn shell(script: &str) -> Process {
        Process::command("sh").args(["-c", script]).spawn().unwrap()
    }

    #[test]
    fn results_are_the_lines_that_are_objects() {
        let mut load = shell("echo ready; echo '{\"a\":1}'; echo '{\"a\":2}'");
        let objects = finish(&mut load, &mut []).unwrap();
        assert_eq!(objects, [serde_json::json!({"a": 1}), serde_json::json!({"a": 2})]);
    }

    #[test]
    fn a_failure_is_told_with_the_last_words_of_load_and_server() {
        let mut server = shell("echo disk on fire >&2; exit 9");
        server.wait_exit(Duration::from_secs(10)).unwrap();
        let mut load = shell("echo '{\"a\":1}'; echo lost connection >&2; exit 3");
        let error = finish(&mut load, &mut [&mut server]).unwrap_err().to_string();
        for part in ["exit status: 3", "lost connection", "exit status: 9", "disk on fire"] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        let mut silent = shell("true");
        let error = finish(&mut silent, &mut []).unwrap_err().to_string();
        assert!(error.contains("no result"), "{error}");
    }
}
