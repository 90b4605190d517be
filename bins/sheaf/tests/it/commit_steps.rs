//! T14: a worker process is killed at each step of a commit; every row is there once.

use std::path::Path;

use sheaf_coordinator::State;
use sheaf_testkit::wait_for_async;

use crate::backend::Backend;
use crate::harness::PATIENCE;
use crate::held::{Between, Held, Word};
use crate::paused::is_finished;
use crate::remote::{Remote, assert_rows_once, id, sized};

/// What has happened when the worker dies, and nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The processor has begun; the sink knows nothing.
    Begun,
    /// The sink is prepared and has rows; more may come.
    Written,
    /// The rows are whole; the proof of the lease is asked for.
    Finished,
    /// The coordinator has given the proof; it is on its way.
    Proven,
    /// The rows are in place; the coordinator has not heard of it.
    Committed,
    /// The coordinator has taken the result; its answer is on its way.
    Settled,
}

const STEPS: [Step; 6] =
    [Step::Begun, Step::Written, Step::Finished, Step::Proven, Step::Committed, Step::Settled];

impl Step {
    /// What keeps a worker from going beyond it, from the beginning on.
    fn hold(self, between: &Between) -> Option<Held> {
        match self {
            Step::Begun | Step::Written => None,
            Step::Finished => Some(between.hold(Word::ProofAsked)),
            Step::Proven => Some(between.hold(Word::ProofGiven)),
            // The first settle only says that the work has begun: not that one.
            Step::Committed | Step::Settled => Some(between.hold(Word::ProofAsked)),
        }
    }

    /// The same once the rows are whole and the begin of the work is known.
    fn hold_last(self, between: &Between) -> Option<Held> {
        match self {
            Step::Committed => Some(between.hold(Word::ResultSent)),
            Step::Settled => Some(between.hold(Word::ResultTaken)),
            _ => None,
        }
    }

    /// A program that gets to the step; it ends when the test's folder is gone.
    fn program(self, begun: &str) -> String {
        let stay = format!("touch {begun}; while [ -e {begun} ]; do sleep 0.05; done");
        match self {
            Step::Begun => format!("exec:{stay}"),
            Step::Written => format!("exec:cat; {stay}"),
            _ => "exec:cat".to_owned(),
        }
    }

    async fn is_reached(self, remote: &Remote, out: &Path, begun: &str, number: u64) -> bool {
        let is_there = || out.join(format!("part-{}.parquet", id(number))).exists();
        let is_open =
            || std::fs::read_dir(out.join("_tmp")).is_ok_and(|mut files| files.next().is_some());
        match self {
            Step::Begun => Path::new(begun).exists() && !is_open(),
            Step::Written => Path::new(begun).exists() && is_open() && !is_finished(out),
            Step::Finished | Step::Proven => is_finished(out) && !is_there(),
            Step::Committed => is_there() && remote.batch(number).await.state == State::Processing,
            Step::Settled => is_there() && remote.batch(number).await.state == State::Completed,
        }
    }
}

async fn killed_at(backend: Backend, step: Step, round: u64) {
    let Some(backed) = backend.start(&[]) else { return };
    let (remote, between, out) = (backed.remote(), backed.between(), backed.out());
    let mut held = step.hold(&between);
    let begun = backed.server.path("begun");
    let (program, sink) = (step.program(&begun), backed.sink());
    let words = ["--lease", "1s", "--workers", "1", "--sink", &sink];
    let stays = [&words[..], &["--processor", &program]].concat();
    let mut doomed = backed.worker_behind(&between, &stays);
    remote.put(0..1).await;
    if matches!(step, Step::Committed | Step::Settled) {
        wait_for_async(PATIENCE, "the rows to be whole", || async {
            let is_begun = remote.batch(0).await.attempts == 1;
            (is_begun && is_finished(&out) && held.as_ref()?.hits() > 0).then_some(())
        })
        .await
        .unwrap();
        // In this order: the new hold stands before the old one lets go.
        held = step.hold_last(&between);
    }
    let what = format!("round {round}: step {step:?}");
    wait_for_async(PATIENCE, &what, || async {
        let is_held = held.as_ref().is_none_or(|held| held.hits() > 0);
        (is_held && step.is_reached(&remote, &out, &begun, 0).await).then_some(())
    })
    .await
    .unwrap();
    doomed.kill9().unwrap();
    // What it had sent but the server not seen dies with its connection.
    drop(between);
    drop(held);
    // Its lease ends, another does what is left to do, and what comes after.
    let mut other = backed.worker(&words);
    remote.put(1..4).await;
    remote.completes(4).await;
    let batch = remote.batch(0).await;
    let attempts = if step == Step::Settled { 1..=1 } else { 1..=2 };
    assert!(attempts.contains(&batch.attempts), "{step:?}: {batch:?}");
    assert_eq!(other.terminate(PATIENCE).unwrap().code(), Some(0), "{}", other.stderr());
    assert_rows_once(&out, 4);
}

async fn killed(backend: Backend) {
    for round in 0..sized(1, 50) {
        for step in STEPS {
            eprintln!("round {round}, {step:?}");
            killed_at(backend, step, round).await;
        }
    }
}

/// Worker processes killed at each step of a commit.
#[tokio::test(flavor = "multi_thread")]
async fn soak_commit_steps_survive_kill_9() {
    killed(Backend::Embedded).await;
}

/// Worker processes killed at each step of a commit; the server is on a Valkey.
#[tokio::test(flavor = "multi_thread")]
async fn soak_valkey_commit_steps_survive_kill_9() {
    killed(Backend::Valkey).await;
}

/// Workers of a Valkey itself killed at each step of a commit.
#[tokio::test(flavor = "multi_thread")]
async fn soak_direct_commit_steps_survive_kill_9() {
    killed(Backend::Direct).await;
}
