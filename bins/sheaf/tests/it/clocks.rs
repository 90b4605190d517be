//! T8: workers whose clocks are wrong change nothing: leases are the coordinator's.

use std::time::Duration;

use sheaf_coordinator::State;
use sheaf_retry::{SystemClock, Timestamp};
use sheaf_testkit::Process;

use crate::backend::{Backed, Backend};
use crate::harness::{PATIENCE, wall_clock};
use crate::remote::{assert_rows_once, sized};

const LEASE: Duration = Duration::from_secs(1);
/// The error of the workers' clocks.
const SHIFT: Duration = Duration::from_secs(600);

/// A worker whose wall clock is wrong by `shift`, such as `+600s`.
fn shifted(backed: &Backed, library: &str, shift: &str, words: &[&str]) -> Process {
    backed.worker_with(words, &wall_clock(library, shift))
}

/// The wall clock of a worker when it named itself: `PID-UUIDv7`.
fn clock_of(worker: &str) -> Timestamp {
    let digits: String =
        worker.split_once('-').unwrap().1.replace('-', "").chars().take(12).collect();
    Timestamp::from_millis(u64::from_str_radix(&digits, 16).unwrap())
}

/// Leases of workers 10 minutes ahead and behind: none ends early, none late.
async fn wrong_clocks(backend: Backend) {
    let Some(library) = sheaf_testkit::faketime() else { return };
    let library = library.to_str().unwrap();
    let Some(backed) = backend.start(&[]) else { return };
    let (remote, sink) = (backed.remote(), backed.sink());
    let mut number = 0;
    for round in 0..sized(1, 20) {
        for shift in ["+600s", "-600s"] {
            let stay = backed.server.path(&format!("stay{shift}{round}"));
            std::fs::write(&stay, "").unwrap();
            let program = format!("exec:while [ -e {stay} ]; do sleep 0.02; done; cat");
            let words = ["--lease", "1s", "--workers", "1", "--sink", &sink];
            let gated = [&words[..], &["--processor", &program]].concat();
            let mut wrong = shifted(&backed, library, shift, &gated);
            remote.put(number..number + 1).await;
            // Not early: it is extended again and again, under one token.
            let held = remote.wait_for_batch(number, "a lease extended thrice over", |batch| {
                let lease = batch.lease.as_ref();
                lease.is_some_and(|lease| lease.deadline.since(lease.claimed_at) >= 4 * LEASE)
            });
            let held = held.await;
            let lease = held.lease.unwrap();
            assert_eq!((held.lost_leases, held.last_fence), (0, lease.fence), "{shift}");
            let (theirs, ours) = (clock_of(&lease.worker), SystemClock::shared().now());
            let apart = theirs.since(ours).max(ours.since(theirs));
            assert!(apart > SHIFT / 2, "its clock is not wrong: {apart:?}");
            // Not late: it dies, and the lease ends when the coordinator said.
            wrong.kill9().unwrap();
            let last =
                remote.batch(number).await.lease.map_or(lease.deadline, |lease| lease.deadline);
            let back = remote
                .wait_for_batch(number, "the lease to end", |batch| batch.lost_leases == 1)
                .await;
            assert!(back.updated_at >= last, "{shift}: it ended early");
            let late = back.updated_at.since(last);
            eprintln!("{shift}: returned {late:?} after the end of its lease");
            assert!(late < SHIFT / 10, "{shift}: it ended {late:?} late");
            assert_eq!(back.state, State::Pending);
            std::fs::remove_file(&stay).unwrap();
            // And the work goes on, whatever the time is said to be.
            let mut next = shifted(&backed, library, shift, &words);
            remote.put(number + 1..number + 4).await;
            number += 4;
            remote.completes(number).await;
            assert_eq!(next.terminate(PATIENCE).unwrap().code(), Some(0), "{}", next.stderr());
        }
    }
    let _right = backed.worker(&["--sink", &sink]);
    remote.put(number..number + 1).await;
    remote.completes(number + 1).await;
    assert_rows_once(&backed.out(), number + 1);
}

/// Workers whose clocks are wrong.
#[tokio::test(flavor = "multi_thread")]
async fn soak_clocks_that_are_wrong_end_no_lease_early_or_late() {
    wrong_clocks(Backend::Embedded).await;
}

/// Workers whose clocks are wrong; the server is on a Valkey.
#[tokio::test(flavor = "multi_thread")]
async fn soak_valkey_clocks_that_are_wrong_end_no_lease() {
    wrong_clocks(Backend::Valkey).await;
}

/// Workers of a Valkey itself whose clocks are wrong.
#[tokio::test(flavor = "multi_thread")]
async fn soak_direct_clocks_that_are_wrong_end_no_lease() {
    wrong_clocks(Backend::Direct).await;
}
