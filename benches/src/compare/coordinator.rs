//! The coordinator against targets, and against taskiq on Valkey.
//!
//! A job is nothing: what is measured is the queue. On both sides one process
//! registers jobs, one job in each call and 64 calls at once, and one process
//! works on them, up to 100 at once. Ours is over when every settle is on disk;
//! taskiq when the last job ran, its acknowledgements being on their way.

use std::time::Duration;

use serde_json::{Map, Value};
use sheaf_testkit::{Process, Valkey};

use super::{Comparison, Outcome, Samples, Setup};
use crate::error::{Error, Result};
use crate::process::{Server, finish, load, number, python, python_version, temporary};
use crate::report::{Better, Case};
use crate::stats::percentile;

pub(super) const COMPARISON: Comparison =
    Comparison { name: "coordinator", peers: &["taskiq"], services: &["valkey"], run };

/// Transitions a second with fsync, at 64 callers.
const TRANSITIONS: f64 = 100_000.0;
/// Milliseconds from a registration to a lease, at the median: the figure.
const PICK_UP_P50: f64 = 5.0;
/// The same at the 99th percentile: the design's figure for a server.
const PICK_UP_P99: f64 = 10.0;

const CALLERS: &str = "64";
const READY: Duration = Duration::from_secs(60);

/// How a Valkey keeps what it has acknowledged.
const DURABILITIES: [&str; 2] = ["always", "everysec"];
/// taskiq's brokers: a stream with acknowledgements, and a list without.
const BROKERS: [&str; 2] = ["stream", "list"];

fn run(setup: &Setup) -> Result<Outcome> {
    let mut samples = Samples::default();
    for round in 1..=setup.rounds {
        eprintln!("round {round} of {}", setup.rounds);
        transitions(setup, &mut samples)?;
        pick_up(setup, &mut samples)?;
        for stored in [false, true] {
            ours(setup, stored, &mut samples)?;
            // The peers between our two runs, so that both are next to them.
            if !stored {
                for durability in DURABILITIES {
                    taskiq(setup, durability, &mut samples)?;
                }
            }
        }
        trickle_ours(setup, &mut samples)?;
        trickle_taskiq(setup, &mut samples)?;
    }
    let mut versions = Map::new();
    for package in ["taskiq", "taskiq-redis", "redis", "uvloop"] {
        versions.insert(package.to_owned(), python_version("taskiq", package)?.into());
    }
    versions.insert("valkey".to_owned(), valkey_version().into());
    let fsync = "ours: every register and settle is on disk before its answer; \
                 peer: appendonly with appendfsync as its name says";
    let pool = "one client process with 64 calls at once, one worker process with 100 jobs at once";
    let notes = vec![("durability", fsync.to_owned()), ("processes", pool.to_owned())];
    Ok(Outcome { cases: cases(&samples)?, versions, notes })
}

/// Of the server that the services provide.
pub(super) fn valkey_version() -> String {
    let valkey = sheaf_testkit::services_dir().join("valkey/valkey-server");
    let said = crate::conditions::output(&valkey.to_string_lossy(), &["--version"]);
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("v="));
    version.unwrap_or(&said).to_owned()
}

fn cases(samples: &Samples) -> Result<Vec<Case>> {
    const RATE: (&str, Better) = ("transitions/s", Better::Higher);
    const JOBS: (&str, Better) = ("jobs/s", Better::Higher);
    const TIME: (&str, Better) = ("ms", Better::Lower);
    let of = |name: &str| samples.of(name);
    let (always, everysec) = (best(samples, "always")?, best(samples, "everysec")?);
    let peer = |(name, key): &(String, String)| (name.clone(), of(key).to_vec());
    let (always, everysec) = (peer(&always), peer(&everysec));
    let always = (always.0.as_str(), always.1.as_slice());
    let everysec = (everysec.0.as_str(), everysec.1.as_slice());
    let stream = "taskiq stream, appendfsync always";
    Ok(vec![
        Case::target("embedded_transitions", RATE, of("transitions"), TRANSITIONS)?,
        Case::target("embedded_registrations", RATE, of("registrations"), TRANSITIONS)?,
        Case::target("idle_pickup", TIME, of("pickup p50"), PICK_UP_P50)?,
        Case::target("idle_pickup_p99", TIME, of("pickup p99"), PICK_UP_P99)?,
        Case::against("vs_taskiq", JOBS, of("jobs"), always)?,
        Case::against("vs_taskiq_everysec", JOBS, of("jobs"), everysec)?,
        Case::against("vs_taskiq_payloads_stored", JOBS, of("jobs stored"), always)?,
        Case::against(
            "idle_pickup_vs_taskiq",
            TIME,
            of("trickle ours p50"),
            (stream, of("trickle taskiq p50")),
        )?,
        Case::against(
            "idle_pickup_p99_vs_taskiq",
            TIME,
            of("trickle ours p99"),
            (stream, of("trickle taskiq p99")),
        )?,
    ])
}

/// The faster of the peer's brokers, by its median: its name and its samples'.
fn best(samples: &Samples, durability: &str) -> Result<(String, String)> {
    let mut found: Option<(f64, String, String)> = None;
    for broker in BROKERS {
        let key = format!("taskiq {durability} {broker}");
        let Some(summary) = crate::stats::Summary::of(samples.of(&key)) else { continue };
        if found.as_ref().is_none_or(|(median, ..)| summary.median > *median) {
            let name = format!("taskiq {broker}, appendfsync {durability}");
            found = Some((summary.median, name, key));
        }
    }
    found.map(|(_, name, key)| (name, key)).ok_or_else(|| {
        Error::Message(format!("no broker of taskiq was measured with appendfsync {durability}"))
    })
}

fn transitions(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let folder = temporary()?;
    let folder = folder.path().to_string_lossy();
    let batches = setup.size(65_536, 1_024).to_string();
    let mut process = load(&["transitions", folder.as_ref(), &batches])?.spawn()?;
    for line in finish(&mut process, &mut [])? {
        samples.add("transitions", number(&line, "transitions_per_s")?);
        samples.add("registrations", number(&line, "registrations_per_s")?);
    }
    Ok(())
}

fn pick_up(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let mut server = Server::sheaf(&setup.sheaf, &[])?;
    let address = server.address().to_owned();
    let count = setup.size(500, 20).to_string();
    let mut process = load(&["pick-up", &address, &count])?.spawn()?;
    let lines = finish(&mut process, &mut [server.process()])?;
    let times = lines.iter().filter_map(|line| line["ms"].as_array()).flatten();
    let times: Vec<f64> = times.filter_map(Value::as_f64).collect();
    add_percentiles(samples, "pickup", &times);
    Ok(())
}

pub(super) fn add_percentiles(samples: &mut Samples, name: &str, times: &[f64]) {
    for percent in [50, 99] {
        if let Some(time) = percentile(times, percent) {
            samples.add(format!("{name} p{percent}"), time);
        }
    }
}

fn jobs(setup: &Setup) -> u64 {
    setup.size(5_000, 100)
}

fn add_rate(samples: &mut Samples, name: &str, jobs: u64, from_ns: f64, to_ns: f64) {
    samples.add(name, jobs as f64 / ((to_ns - from_ns) / 1e9));
}

/// `sheaf serve` and a pool whose work is nothing; or, `stored`, payloads of
/// one row and a `sheaf serve --mode worker` that verifies them.
fn ours(setup: &Setup, stored: bool, samples: &mut Samples) -> Result<()> {
    let mut server = Server::sheaf(&setup.sheaf, &[])?;
    let address = server.address().to_owned();
    let total = jobs(setup).to_string();
    let mut worker = if stored {
        let coordinator = address.as_str();
        let command = Process::command(&setup.sheaf)
            .name("worker")
            .args(["serve", "--die-with-parent", "--mode", "worker", "--workers", "32"])
            .args(["--coordinator", coordinator, "--flight-addr", coordinator]);
        let mut worker = command.spawn()?;
        worker.wait_ready(READY)?;
        worker
    } else {
        ready(load(&["worker", &address, &total])?.spawn()?)?
    };
    let mut arguments = vec!["client", &address, &total, CALLERS];
    arguments.extend(stored.then_some("--stored"));
    let mut client = load(&arguments)?.spawn()?;
    let lines = finish(&mut client, &mut [server.process(), &mut worker])?;
    let name = if stored { "jobs stored" } else { "jobs" };
    for line in &lines {
        let (from, to) = (number(line, "first_ns")?, number(line, "done_ns")?);
        add_rate(samples, name, jobs(setup), from, to);
    }
    if !stored {
        finish(&mut worker, &mut [server.process()])?;
    }
    Ok(())
}

pub(super) fn ready(mut worker: Process) -> Result<Process> {
    worker.wait_for_line(READY, |line| (line == "ready").then_some(()))?;
    Ok(worker)
}

/// A Valkey of its own for every run, as ours has a new server for every run.
fn valkey(durability: &str) -> Result<(Valkey, String)> {
    let valkey = Valkey::start(&["--appendonly", "yes", "--appendfsync", durability])?;
    let valkey = valkey.ok_or_else(|| {
        Error::Message("the peer needs Valkey: run `cargo xtask services valkey`".into())
    })?;
    let url = format!("redis://{}", valkey.addr());
    Ok((valkey, url))
}

fn taskiq_role(role: &str, url: &str, broker: &str, jobs: u64) -> Result<Process> {
    let jobs = jobs.to_string();
    let command = python("taskiq", "jobs.py")?
        .arg(role)
        .args(["--url", url, "--broker", broker, "--jobs", &jobs])
        .args(["--callers", CALLERS, "--each"]);
    Ok(command.spawn()?)
}

fn taskiq(setup: &Setup, durability: &str, samples: &mut Samples) -> Result<()> {
    for broker in BROKERS {
        let (mut valkey, url) = valkey(durability)?;
        let mut worker = ready(taskiq_role("worker", &url, broker, jobs(setup))?)?;
        let mut client = taskiq_role("client", &url, broker, jobs(setup))?;
        let sent = finish(&mut client, &mut [valkey.process(), &mut worker])?;
        let done = finish(&mut worker, &mut [valkey.process()])?;
        for (sent, done) in sent.iter().zip(&done) {
            let (from, to) = (number(sent, "first_ns")?, number(done, "done_ns")?);
            let name = format!("taskiq {durability} {broker}");
            add_rate(samples, &name, jobs(setup), from, to);
        }
    }
    Ok(())
}

fn trickle_jobs(setup: &Setup) -> u64 {
    setup.size(300, 10)
}

/// Idle pick-up as a user sees it: from the call that registers to the job's
/// first line, in another process and through the whole worker runtime.
fn trickle_ours(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let mut server = Server::sheaf(&setup.sheaf, &[])?;
    let address = server.address().to_owned();
    let total = trickle_jobs(setup).to_string();
    let mut worker = ready(load(&["worker", &address, &total])?.spawn()?)?;
    let mut client = load(&["trickle", &address, &total, "5"])?.spawn()?;
    let sent = finish(&mut client, &mut [server.process(), &mut worker])?;
    let started = finish(&mut worker, &mut [server.process()])?;
    add_percentiles(samples, "trickle ours", &between(&sent, &started)?);
    Ok(())
}

fn trickle_taskiq(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let (mut valkey, url) = valkey("always")?;
    let total = trickle_jobs(setup);
    let mut worker = ready(taskiq_role("worker", &url, "stream", total)?)?;
    let mut client = taskiq_role("pickup", &url, "stream", total)?;
    let sent = finish(&mut client, &mut [valkey.process(), &mut worker])?;
    let started = finish(&mut worker, &mut [valkey.process()])?;
    add_percentiles(samples, "trickle taskiq", &between(&sent, &started)?);
    Ok(())
}

/// Milliseconds from `sent` to `started`, matched by the numbers of the jobs.
pub(super) fn between(sent: &[Value], started: &[Value]) -> Result<Vec<f64>> {
    let pairs = |lines: &[Value], key: &str| {
        let all = lines.iter().filter_map(|line| line[key].as_array()).flatten();
        all.filter_map(|pair| Some((pair[0].as_u64()?, pair[1].as_u64()?))).collect::<Vec<_>>()
    };
    let (sent, started) = (pairs(sent, "sent"), pairs(started, "started"));
    let mut times = Vec::new();
    for (job, from) in sent {
        let found = started.iter().find(|(number, _)| *number == job);
        let Some((_, to)) = found else {
            return Err(Error::Message(format!("job {job} was sent and never started")));
        };
        times.push((*to as f64 - from as f64) / 1e6);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Samples;
    use super::{best, between};

    #[test]
    fn the_peer_is_measured_at_its_best() {
        let mut samples = Samples::default();
        for (broker, rate) in [("stream", 10.0), ("list", 30.0), ("stream", 40.0), ("list", 32.0)] {
            samples.add(format!("taskiq always {broker}"), rate);
        }
        let (name, key) = best(&samples, "always").unwrap();
        assert_eq!(
            (name.as_str(), key.as_str()),
            ("taskiq list, appendfsync always", "taskiq always list")
        );
        assert!(best(&samples, "everysec").is_err());
    }

    #[test]
    fn times_are_matched_by_job() {
        let sent = [json!({ "sent": [[0, 1_000_000], [1, 5_000_000]] })];
        let started = [json!({ "started": [[1, 5_500_000], [0, 3_000_000]] })];
        assert_eq!(between(&sent, &started).unwrap(), [2.0, 0.5]);
        let lost = [json!({ "started": [[1, 5_500_000]] })];
        assert!(between(&sent, &lost).unwrap_err().to_string().contains("job 0"));
    }
}
