//! Many runs, each as its seed has it.

use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;
use sheaf_raft::log::PlantedBug;

use crate::clients::{Client, History};
use crate::disk::Bug;
use crate::faults::Faults;
use crate::observer::{Losses, Violation};
use crate::time::pass;
use crate::world::World;

/// Runs in which nothing may go wrong.
const SEEDS: u64 = 200;

/// Clients of a run.
const CLIENTS: u64 = 4;

/// Faults of a run.
const FAULTS: usize = 6;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) violations: Vec<Violation>,
    pub(crate) trace: u64,
    pub(crate) acknowledged: usize,
    pub(crate) operations: usize,
    pub(crate) losses: Losses,
    pub(crate) undecided: bool,
}

/// One run.
pub(crate) fn run(seed: u64, bug: Option<Bug>) -> Report {
    let mut runtime = SimRuntime::with_seed(seed);
    let world = World::new(seed, bug);
    let history = Arc::new(History::default());
    runtime.block_on(story(&world, &history, seed));
    let verdict = history.check();
    let mut violations = world.observer.violations();
    if verdict.is_violation() {
        violations.push(verdict.to_string());
    }
    Report {
        violations,
        trace: world.observer.trace(),
        acknowledged: world.observer.acknowledged_count(),
        operations: history.len(),
        losses: world.observer.losses(),
        undecided: !verdict.is_linearizable() && !verdict.is_violation(),
    }
}

async fn story(world: &Arc<World>, history: &Arc<History>, seed: u64) {
    world.found().await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| SimRuntime::spawn(Client::new(world, history, seed, id).run()))
        .collect();
    pass(Duration::from_secs(2)).await;
    Faults::new(world, seed).run(FAULTS).await;
    let before = world.observer.acknowledged_count();
    pass(Duration::from_secs(4)).await;
    if world.observer.acknowledged_count() == before {
        world.observer.violation("nothing is acknowledged after all is mended");
    }
    history.end();
    for client in clients {
        if client.await.is_err() {
            world.observer.violation("a client panicked");
        }
    }
    world.settle().await;
    world.end().await;
}

/// Runs seeds on all processors, in order of the seeds where it matters: each run has one
/// thread, and knows nothing of the others.
fn run_all(seeds: u64, bug: Option<Bug>) -> Vec<(u64, Report)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let part = |first: u64| {
            move || (first..seeds).step_by(threads).map(|s| (s, run(s, bug))).collect()
        };
        let parts: Vec<_> = (0..).take(threads).map(|first| scope.spawn(part(first))).collect();
        let ended = parts.into_iter().map(|part| part.join().unwrap());
        ended.flat_map(|part: Vec<_>| part).collect()
    })
}

/// The first of so many seeds that shows a bug.
fn caught(bug: Bug, seeds: u64) {
    let found = (0..seeds).find_map(|seed| {
        let violations = run(seed, Some(bug)).violations;
        (!violations.is_empty()).then_some((seed, violations))
    });
    let (seed, violations) = found.unwrap_or_else(|| panic!("{seeds} seeds saw nothing"));
    println!("{bug:?} is caught by seed {seed}: {}", violations[0]);
}

#[test]
fn no_seed_breaks_a_promise() {
    let reports = run_all(SEEDS, None);
    let broken = reports.iter().find(|(_, report)| !report.violations.is_empty());
    if let Some((seed, report)) = broken {
        panic!("seed {seed}: {:#?}", report.violations);
    }
    let sum = |what: fn(&Report) -> usize| reports.iter().map(|(_, r)| what(r)).sum::<usize>();
    let (operations, acknowledged) = (sum(|r| r.operations), sum(|r| r.acknowledged));
    let undecided = sum(|report| usize::from(report.undecided));
    let (lost, torn) = (sum(|r| r.losses.some), sum(|r| r.losses.torn));
    println!(
        "{SEEDS} seeds: {operations} operations, {acknowledged} commands acknowledged, \
         {undecided} undecided; {lost} crashes with bytes that were not synced, {torn} left some"
    );
    assert!(acknowledged > 10_000, "only {acknowledged} commands were acknowledged");
    assert!(torn >= 20, "only {torn} of {lost} crashes tore what was written");
    assert!(undecided <= 2, "{undecided} histories were too hard to check");
}

#[test]
fn a_disk_that_skips_fsync_is_caught() {
    caught(Bug::Log(PlantedBug::SkipSync), 20);
}

#[test]
fn an_acknowledgement_before_the_flush_is_caught() {
    caught(Bug::Log(PlantedBug::AcknowledgeBeforeFlush), 60);
}

#[test]
fn a_frame_that_is_dropped_is_caught() {
    caught(Bug::DropFrame, 20);
}

#[test]
fn a_lease_that_outlives_a_pause_is_caught() {
    caught(Bug::LeaseReadAfterPause, 60);
}

#[test]
fn the_same_seed_is_the_same_run_in_another_process() {
    for seed in [3, 7] {
        let here = run(seed, None).trace;
        assert_eq!(run(seed, None).trace, here, "seed {seed} runs differently here");
        let program = std::env::current_exe().unwrap();
        let output = std::process::Command::new(program)
            .args(["--exact", "seeds::tells_the_trace_of_a_seed", "--ignored", "--nocapture"])
            .env("SHEAF_RAFT_SEED", seed.to_string())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let wanted = format!("trace of {seed}: {here:016x}");
        assert!(told.contains(&wanted), "wanted {wanted}, the other process said:\n{told}");
    }
    assert_ne!(run(3, None).trace, run(4, None).trace);
}

/// What another process is asked for; alone it says nothing.
#[test]
#[ignore = "another test runs it, in a process of its own"]
#[allow(clippy::disallowed_methods, reason = "the only way to tell another process its seed")]
fn tells_the_trace_of_a_seed() {
    let seed = std::env::var("SHEAF_RAFT_SEED").map(|seed| seed.parse().unwrap()).unwrap_or(0);
    println!("trace of {seed}: {:016x}", run(seed, None).trace);
}

#[test]
#[ignore = "for looking at one run"]
#[allow(clippy::disallowed_methods, reason = "the only way to name a seed on a command line")]
fn shows_one_seed() {
    let seed = std::env::var("SHEAF_RAFT_SEED").map(|seed| seed.parse().unwrap()).unwrap_or(0);
    let report = run(seed, None);
    println!("{report:#?}");
}
