//! Killed at random moments: what was acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    Answer, Coordinator, LeaseRef, ListFilter, Outcome, Query, Resolution, SettleRequest, State,
};
use sheaf_retry::SystemClock;

const CHILD: &str = "SHEAF_TEST_CRASH_CHILD";

fn open(home: &Path) -> Embedded {
    Embedded::open(Config::disk(super::file(home)), SystemClock::shared()).unwrap()
}

/// One line for each acknowledged effect, written after it was acknowledged.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {text}").unwrap();
    out.flush().unwrap();
}

/// Runs in the child: registers, claims and settles until it is killed.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent names the directory so")]
fn child() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let coordinator = std::sync::Arc::new(open(Path::new(&home)));
        let run = std::process::id();
        let callers = (0..8).map(|caller| {
            let coordinator = coordinator.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let name = format!("b{run}-{caller}-{n}");
                    coordinator.register(vec![super::spec(&name)]).await.unwrap();
                    say(&format!("registered {name}"));
                    let request = super::claim(&format!("{run}-{caller}-{n}"), 2);
                    for lease in coordinator.claim(request).await.unwrap().leases {
                        let id = lease.spec.id.clone();
                        say(&format!("claimed {id} {}", lease.fence));
                        let outcome = Outcome {
                            lease: LeaseRef { id: id.clone(), fence: lease.fence },
                            resolution: Resolution::Completed,
                            error: None,
                            outputs: vec![],
                            delay: Duration::ZERO,
                        };
                        let outcomes = vec![outcome];
                        let settle = SettleRequest { outcomes, ..SettleRequest::default() };
                        coordinator.settle(settle).await.unwrap();
                        say(&format!("completed {id} {}", lease.fence));
                    }
                }
            })
        });
        futures::future::join_all(callers).await;
    });
}

/// Starts the child, kills it after a random number of lines, and returns them.
fn run_and_kill(home: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said: Vec<String> = out.by_ref().take(lines).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died counts too; the last line may be torn.
    let rest: Vec<String> = out.map_while(Result::ok).collect();
    said.extend(rest.split_last().map_or(&[][..], |(_, rest)| rest).iter().cloned());
    said.iter().filter_map(|line| Some(line.split_once("ack ")?.1.to_owned())).collect()
}

async fn everything(coordinator: &Embedded) -> BTreeMap<String, sheaf_coordinator::Batch> {
    let mut all = BTreeMap::new();
    let mut filter = ListFilter { limit: 10_000, ..ListFilter::default() };
    loop {
        let Answer::Batches(page) = coordinator.query(Query::List(filter.clone())).await.unwrap()
        else {
            panic!("a list answers with batches")
        };
        all.extend(page.batches.into_iter().map(|batch| (batch.spec.id.to_string(), batch)));
        if page.next_cursor.is_empty() {
            return all;
        }
        filter.cursor = page.next_cursor;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    const SEED: u64 = 7;
    let home = super::directory();
    let mut random = rand::rngs::StdRng::seed_from_u64(SEED);
    let mut said = Vec::new();
    for round in 0..6 {
        let lines = random.random_range(20..1_500);
        let new = run_and_kill(home.path(), lines);
        assert!(new.len() > 5, "round {round} got to work");
        said.extend(new);
        let coordinator = open(home.path());
        let all = everything(&coordinator).await;
        let mut fences = BTreeMap::new();
        for line in &said {
            let mut words = line.split(' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let batch = all.get(name).unwrap_or_else(|| panic!("seed {SEED}: {line} is lost"));
            if let Some(fence) = words.next().and_then(|fence| fence.parse::<u64>().ok()) {
                assert!(batch.last_fence.0 >= fence, "seed {SEED}: {line}");
                let holder = fences.insert(fence, name);
                assert!(holder.is_none_or(|other| other == name), "{fence} was given twice");
                if what == "completed" {
                    assert_eq!(batch.state, State::Completed, "seed {SEED}: {line}");
                }
            }
        }
        // Leases of the killed process still stand: nothing is given twice.
        let probe = super::claim(&format!("probe-{round}"), 1);
        for lease in coordinator.claim(probe).await.unwrap().leases {
            let greatest = fences.keys().next_back().copied().unwrap_or(0);
            assert!(lease.fence.0 > greatest, "tokens ascend over {greatest}");
        }
        tokio::time::timeout(Duration::from_secs(30), coordinator.close()).await.unwrap().unwrap();
    }
}
