//! The coordinator on Valkey against queues on the same Valkey.
//!
//! A job is nothing but a record of about 300 bytes: what is measured is the
//! queue. N = 1 is one job in each call and 64 calls at once, on both ends;
//! N = 64 is 64 jobs in each call, or again 64 calls at once where a peer has no
//! call for many. A run has two phases: all jobs are registered, then a worker
//! that comes later works them off. Rates are of each phase and of both
//! together; server time and round trips are of both.

mod cases;
mod depth;
mod server;
mod side;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use sheaf_testkit::Process;

use self::server::Server;
use self::side::{OURS, SIDES, Side};
use super::coordinator::{add_percentiles, between, ready, valkey_version};
use super::{Comparison, Outcome, Samples, Setup};
use crate::error::{Error, Result};
use crate::process::{finish, number, pinned, python_version};

pub(super) const COMPARISON: Comparison =
    Comparison { name: "valkey", peers: &["bullmq", "rust", "taskiq"], services: &["valkey"], run };

/// Jobs in each call.
const NS: [u64; 2] = [1, 64];
/// Of the runs that kill a worker. Renewals and checks are as often as each
/// side does them by itself for such a lease.
const LEASE: Duration = Duration::from_secs(2);
/// Between one job and the next for an idle worker.
const PAUSE_MS: u64 = 5;
const START: Duration = Duration::from_secs(60);

/// A worker that tells when each job was in its hands.
const WATCHED: [&str; 2] = ["work", "--each"];

/// Jobs that were never worked on, and those that were more than once.
#[derive(Debug, Default)]
struct Faults {
    jobs: f64,
    lost: f64,
    duplicated: f64,
}

fn run(setup: &Setup) -> Result<Outcome> {
    let sides: Vec<&Side> = SIDES.iter().filter(|side| side.is_there()).collect();
    let mut server = Server::start()?;
    let mut samples = Samples::default();
    let mut faults: Vec<Faults> = sides.iter().map(|_| Faults::default()).collect();
    for round in 1..=setup.rounds {
        eprintln!("round {round} of {}", setup.rounds);
        for n in NS {
            for (side, faults) in sides.iter().zip(&mut faults) {
                throughput(setup, side, n, &mut server, &mut samples, faults)?;
            }
        }
        for side in &sides {
            pick_up(setup, side, &mut server, &mut samples)?;
        }
        for side in sides.iter().filter(|side| side.recovers) {
            recovery(side, &mut server, &mut samples)?;
        }
    }
    let ours = sides.iter().zip(&faults).find(|(side, _)| side.name == OURS);
    if let Some((_, faults)) = ours.filter(|(_, faults)| faults.lost > 0.0) {
        return Err(Error::Message(format!("ours lost jobs: {faults:?}")));
    }
    depth::measure(setup, &mut samples)?;
    let mut cases = cases::cases(&samples, &sides)?;
    cases.extend(depth::cases(&samples)?);
    Ok(Outcome { cases, versions: versions()?, notes: notes(setup, &sides, &faults) })
}

/// All jobs registered, then all worked off.
fn throughput(
    setup: &Setup,
    side: &Side,
    n: u64,
    server: &mut Server,
    samples: &mut Samples,
    faults: &mut Faults,
) -> Result<()> {
    let jobs = side.jobs(setup, n);
    let flags = [("--jobs", jobs), ("--n", n)];
    server.reset()?;
    let (port, before) = (server.port(), server.usage()?);
    let mut seconds = Vec::new();
    for role in ["enqueue", "work"] {
        let mut load = side.start(&[role], port, &flags)?;
        for line in finish(&mut load, &mut [server.process()])? {
            seconds.push(number(&line, "seconds")?);
            if role == "work" {
                faults.lost += number(&line, "lost")?;
                faults.duplicated += number(&line, "duplicated")?;
            }
        }
    }
    let used = server.usage()?.since(before);
    let [enqueue, process] = seconds[..] else {
        return Err(Error::Message(format!(
            "{} printed {} results, not 2",
            side.name,
            seconds.len()
        )));
    };
    let count = jobs as f64;
    faults.jobs += count;
    let mut add = |what: &str, value: f64| samples.add(key(side.name, n, what), value);
    add("enqueue", count / enqueue);
    add("process", count / process);
    add("both", count / (enqueue + process));
    add("server us", used.cpu_us / count);
    add("round trips", used.reads / count);
    Ok(())
}

/// The name of samples of one side.
fn key(side: &str, n: u64, what: &str) -> String {
    format!("{side} n{n} {what}")
}

/// One job at a time to an idle worker in another process, from the call that
/// registers it to the worker's first line.
fn pick_up(setup: &Setup, side: &Side, server: &mut Server, samples: &mut Samples) -> Result<()> {
    let jobs = ("--jobs", setup.size(300, 10));
    server.reset()?;
    let port = server.port();
    let mut worker = ready(side.start(&WATCHED, port, &[jobs, ("--n", 1)])?)?;
    let mut sender = side.start(&["trickle"], port, &[jobs, ("--pause-ms", PAUSE_MS)])?;
    let sent = finish(&mut sender, &mut [server.process(), &mut worker])?;
    let started = finish(&mut worker, &mut [server.process()])?;
    add_percentiles(samples, &format!("{} pickup", side.name), &between(&sent, &started)?);
    Ok(())
}

/// From the kill of a worker that holds a job to the job's start in another.
fn recovery(side: &Side, server: &mut Server, samples: &mut Samples) -> Result<()> {
    let lease = ("--lease-ms", u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX));
    let one = ("--jobs", 1);
    server.reset()?;
    let port = server.port();
    let mut holder = ready(side.start(&["hold"], port, &[lease])?)?;
    let mut sender = side.start(&["enqueue"], port, &[one])?;
    finish(&mut sender, &mut [server.process(), &mut holder])?;
    holder.wait_for_line(START, |line| (line == "holding").then_some(()))?;
    let mut rescuer: Process = ready(side.start(&WATCHED, port, &[one, lease])?)?;
    let killed = now_ns();
    holder.kill9()?;
    let lines = finish(&mut rescuer, &mut [server.process()])?;
    let started = lines.first().and_then(|line| line["started"][0][1].as_u64());
    let Some(started) = started else {
        return Err(Error::Message(format!("{}: the killed worker's job is lost", side.name)));
    };
    samples.add(format!("{} recovery", side.name), started.saturating_sub(killed) as f64 / 1e9);
    Ok(())
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn versions() -> Result<Map<String, Value>> {
    let mut versions = Map::new();
    let mut add =
        |name: &str, version: String| drop(versions.insert(name.to_owned(), version.into()));
    for package in ["bullmq", "ioredis"] {
        add(package, pinned("bullmq/package.json", &format!("\"{package}\": \""))?);
    }
    for package in ["apalis-redis", "bullmq-official"] {
        let before = format!("name = \"{package}\"\nversion = \"");
        add(package, pinned("rust/Cargo.lock", &before)?);
    }
    for package in ["taskiq", "taskiq-redis"] {
        add(package, python_version("taskiq", package)?);
    }
    add("node", crate::conditions::output("node", &["--version"]));
    add("valkey", valkey_version());
    Ok(versions)
}

fn notes(setup: &Setup, sides: &[&Side], faults: &[Faults]) -> Vec<(&'static str, String)> {
    let each = |what: &dyn Fn(&Side, &Faults) -> String| {
        let all = sides.iter().zip(faults).map(|(side, faults)| what(side, faults));
        all.collect::<Vec<_>>().join(", ")
    };
    let absent: Vec<&str> =
        SIDES.iter().filter(|side| !side.is_there()).map(|side| side.name).collect();
    let mut notes = vec![
        ("persistence", server::PERSISTENCE.to_owned()),
        (
            "lost_and_duplicated",
            each(&|side, f| format!("{} {} and {} of {}", side.name, f.lost, f.duplicated, f.jobs)),
        ),
        (
            "jobs",
            each(&|side, _| {
                let [single, bulk] = NS.map(|n| side.jobs(setup, n));
                format!("{} {single} at N = 1, {bulk} at N = 64", side.name)
            }),
        ),
        (
            "processes",
            "one that registers, then one that works, each with one thread for its calls; \
            all share the cores with the server"
                .to_owned(),
        ),
        (
            "server_time",
            "CPU time of Valkey's main thread in both phases; round trips are its reads \
            of sockets"
                .to_owned(),
        ),
        (
            "recovery",
            format!(
                "lease {LEASE:?} on every side, kill -9 of the holder; taskiq claims \
            what the dead held only when other jobs come, so it has no figure"
            ),
        ),
    ];
    notes.push((
        "many_batches",
        "1,000,000 and 1,000 of them on two servers, claimed by one process in turns, one call \
        at a time; medians of 200 claims each. `together`: registered 64 in a call; `alone`: \
        4 in a call, too few to share anything"
            .to_owned(),
    ));
    if !absent.is_empty() {
        notes.push(("absent", absent.join(", ")));
    }
    notes
}
