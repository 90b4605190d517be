//! T2: a worker that stood still past its lease changes nothing when it wakes.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sheaf_coordinator::{Resolution, State};
use sheaf_testkit::wait_until;

use crate::backend::{Backed, Backend};
use crate::harness::PATIENCE;
use crate::held::{Between, Held, Word};
use crate::remote::{Remote, assert_rows_once, id, sized};

/// Where the worker is when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// In the middle of its work.
    Processing,
    /// Its rows are written, its lease is proven, the proof is on the way to it.
    Proven,
    /// Its rows are committed, the result is on the way to the coordinator.
    Committed,
}

/// The fence in the footer of a batch's file.
fn fence_in(folder: &Path, number: u64) -> u64 {
    let file = File::open(folder.join(format!("part-{}.parquet", id(number)))).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let footer = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let fence = footer.iter().find(|pair| pair.key == "sheaf.fence").unwrap();
    fence.value.as_ref().unwrap().parse().unwrap()
}

/// Whether a file of an attempt is complete but not yet in place.
pub(crate) fn is_finished(folder: &Path) -> bool {
    std::fs::read_dir(folder.join("_tmp")).is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| std::fs::read(entry.path()).is_ok_and(|bytes| bytes.ends_with(b"PAR1")))
    })
}

/// A program that begins, and goes on when it may; it ends when the test's
/// folder is gone.
struct Gate {
    begun: String,
    go: String,
}

impl Gate {
    fn new(scene: &Scene, name: &str) -> Self {
        let path = |what: &str| scene.backed.server.path(&format!("{name}-{what}"));
        Gate { begun: path("begun"), go: path("go") }
    }

    fn program(&self) -> String {
        let Gate { begun, go } = self;
        format!(
            "exec:touch {begun}; while [ -e {begun} ] && [ ! -e {go} ]; do sleep 0.02; done; cat"
        )
    }

    fn has_begun(&self) -> bool {
        Path::new(&self.begun).exists()
    }

    fn open(&self) {
        std::fs::write(&self.go, "").unwrap();
    }
}

struct Scene {
    backed: Backed,
    remote: Remote,
    between: Between,
    out: PathBuf,
}

impl Scene {
    fn new(backend: Backend) -> Option<Self> {
        let backed = backend.start(&[])?;
        let (remote, between, out) = (backed.remote(), backed.between(), backed.out());
        Some(Scene { backed, remote, between, out })
    }

    fn hold(&self, moment: Moment) -> Option<Held> {
        match moment {
            Moment::Processing => None,
            Moment::Proven => Some(self.between.hold(Word::ProofGiven)),
            // The first result only says that the work has begun: not that one.
            Moment::Committed => Some(self.between.hold(Word::ProofAsked)),
        }
    }

    fn reached(&self, moment: Moment, gate: &Gate, held: Option<&Held>) -> bool {
        let is_held = held.is_none_or(|held| held.hits() > 0);
        is_held
            && match moment {
                Moment::Processing => gate.has_begun(),
                Moment::Proven => is_finished(&self.out),
                Moment::Committed => self.out.join(format!("part-{}.parquet", id(0))).exists(),
            }
    }
}

async fn stopped_at(backend: Backend, moment: Moment) {
    let Some(scene) = Scene::new(backend) else { return };
    let gate = Gate::new(&scene, "first");
    if moment != Moment::Processing {
        gate.open();
    }
    let sink = scene.backed.sink();
    let words = ["--lease", "1s", "--workers", "1", "--sink", &sink];
    let mut held = scene.hold(moment);
    let program = gate.program();
    let gated = [&words[..], &["--processor", &program]].concat();
    let mut first = scene.backed.worker_behind(&scene.between, &gated);
    scene.remote.put(0..1).await;
    if moment == Moment::Committed {
        let is_asked = || held.as_ref().is_some_and(|held| held.hits() > 0);
        wait_until(PATIENCE, "whole rows", || is_asked() && is_finished(&scene.out)).unwrap();
        // In this order: the new hold stands before the old one lets go.
        held = Some(scene.between.hold(Word::ResultSent));
    }
    let what = format!("the worker to be {moment:?}");
    wait_until(PATIENCE, &what, || scene.reached(moment, &gate, held.as_ref())).unwrap();
    first.pause().unwrap();
    let old = scene.remote.batch(0).await.last_fence;

    let lost = scene.remote.wait_for_batch(0, "the lease to run out", |batch| {
        batch.state == State::Pending && batch.lost_leases > 0
    });
    lost.await;
    let mut second = scene.backed.worker(&words);
    let is_done = |batch: &sheaf_coordinator::Batch| batch.state == State::Completed;
    let done = scene.remote.wait_for_batch(0, "another to do it", is_done).await;
    let (fence, how) = done.settled.unwrap();
    assert!(fence > old && how == Resolution::Completed, "{done:?}");
    assert_eq!(second.terminate(PATIENCE).unwrap().code(), Some(0));
    let winner = fence_in(&scene.out, 0);

    // What was on its way under the old lease arrives now, and the worker wakes.
    drop(held);
    gate.open();
    first.resume().unwrap();
    // It goes on: with what it has to say of the old lease first, then with new work.
    scene.remote.put(1..4).await;
    scene.remote.completes(4).await;
    assert!(first.try_exit().unwrap().is_none(), "it is the same process");
    assert_eq!(first.terminate(PATIENCE).unwrap().code(), Some(0), "{}", first.stderr());

    let after = scene.remote.batch(0).await;
    assert_eq!((after.settled, after.attempts), (done.settled, done.attempts), "{moment:?}");
    assert_eq!(after.updated_at, done.updated_at, "nothing stale was accepted");
    assert_eq!(fence_in(&scene.out, 0), winner, "the sink kept the rows that it had");
    let expected = if moment == Moment::Committed { old } else { fence };
    assert_eq!(winner, expected.0, "{moment:?}: who committed first");
    assert_rows_once(&scene.out, 4);
}

/// It wakes while another has its batch in hand: what it has to say then is
/// about a batch in progress, and its token alone tells that it is not its own.
async fn woken_beside_another(backend: Backend) {
    let Some(scene) = Scene::new(backend) else { return };
    let (sink, gates) = (scene.backed.sink(), ["first", "second"].map(|n| Gate::new(&scene, n)));
    let start = |gate: &Gate, queues: &str| {
        let words = ["--lease", "1s", "--workers", "1", "--sink", &sink, "--queue", queues];
        scene.backed.worker(&[&words[..], &["--processor", &gate.program()]].concat())
    };
    let mut first = start(&gates[0], "default,next");
    scene.remote.put(0..1).await;
    wait_until(PATIENCE, "the first to begin", || gates[0].has_begun()).unwrap();
    first.pause().unwrap();
    let is_lost = |batch: &sheaf_coordinator::Batch| batch.lost_leases > 0;
    scene.remote.wait_for_batch(0, "the lease to run out", is_lost).await;
    let mut second = start(&gates[1], "default");
    // The first may have been stopped before its attempt was charged.
    let is_again = |batch: &sheaf_coordinator::Batch| {
        batch.lost_leases > 0 && batch.lease.as_ref().is_some_and(|held| held.started)
    };
    let held = scene.remote.wait_for_batch(0, "another to begin", is_again).await;
    wait_until(PATIENCE, "the second to begin", || gates[1].has_begun()).unwrap();

    // The first ends what it has in hand, in vain, and does what comes then.
    gates[0].open();
    first.resume().unwrap();
    scene.remote.put_in("next", 1).await;
    let is_done = |batch: &sheaf_coordinator::Batch| batch.state == State::Completed;
    scene.remote.wait_for_batch(1, "the first to go on", is_done).await;
    let still = scene.remote.batch(0).await;
    assert_eq!((still.state, still.last_fence), (State::Processing, held.last_fence));
    assert_eq!(still.lost_leases, held.lost_leases, "the second's heartbeats are heard");
    assert!(!scene.out.join(format!("part-{}.parquet", id(0))).exists(), "nothing stale is kept");
    gates[1].open();
    scene.remote.completes(2).await;
    let done = scene.remote.batch(0).await;
    assert_eq!(done.settled, Some((held.last_fence, Resolution::Completed)));
    assert_eq!(fence_in(&scene.out, 0), held.last_fence.0);
    for worker in [&mut first, &mut second] {
        assert_eq!(worker.terminate(PATIENCE).unwrap().code(), Some(0), "{}", worker.stderr());
    }
    assert_rows_once(&scene.out, 2);
}

async fn stopped(backend: Backend) {
    for round in 0..sized(1, 50) {
        for moment in [Moment::Processing, Moment::Proven, Moment::Committed] {
            eprintln!("round {round}, {moment:?}");
            stopped_at(backend, moment).await;
        }
        woken_beside_another(backend).await;
    }
}

/// Workers stopped past their lease at each step, and resumed.
#[tokio::test(flavor = "multi_thread")]
async fn soak_paused_workers_change_nothing_when_they_wake() {
    stopped(Backend::Embedded).await;
}

/// The same of workers whose server is on a Valkey.
#[tokio::test(flavor = "multi_thread")]
async fn soak_valkey_paused_workers_change_nothing() {
    stopped(Backend::Valkey).await;
}

/// Workers of a Valkey itself stopped past their lease at each step, and resumed.
#[tokio::test(flavor = "multi_thread")]
async fn soak_direct_paused_workers_change_nothing() {
    stopped(Backend::Direct).await;
}
