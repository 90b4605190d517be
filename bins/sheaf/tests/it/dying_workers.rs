//! T1: workers are killed at random while they work; server and Valkey live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_coordinator::{Coordinator as _, Event, State, WatchFilter};
use sheaf_proto::BatchId;
use sheaf_retry::{Jitter, Timestamp};
use sheaf_testkit::{Process, wait_for_async};

use crate::backend::{Backed, Backend};
use crate::harness::PATIENCE;
use crate::remote::{Remote, assert_rows_once, seed, sized};

const WORKERS: usize = 3;
const LEASE: Duration = Duration::from_secs(1);

/// When leases of batches ended without a result, as the coordinator tells it.
type Returned = Arc<Mutex<HashMap<BatchId, Vec<Timestamp>>>>;

async fn watch(remote: &Remote) -> Returned {
    let returned = Returned::default();
    let mut events = remote.coordinator.watch(WatchFilter::default()).await.unwrap();
    let seen = Arc::clone(&returned);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::Changed(change) = event
                && change.from == Some(State::Processing)
                && change.to == Some(State::Pending)
            {
                seen.lock().unwrap().entry(change.id).or_default().push(change.at);
            }
        }
    });
    returned
}

/// A batch that a killed worker held.
struct Orphan {
    id: BatchId,
    /// The end of its lease, by the coordinator's clock.
    deadline: Timestamp,
    /// When its last extension came, by the same clock.
    heard_at: Timestamp,
}

struct Fleet<'a> {
    backed: &'a Backed,
    words: Vec<String>,
    remote: &'a Remote,
    workers: Vec<Process>,
    orphans: Vec<Orphan>,
    kills: u64,
}

impl Fleet<'_> {
    fn start(&self) -> Process {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        self.backed.worker(&words)
    }

    /// kill -9, note what it held, and another in its place.
    async fn kill(&mut self, index: usize) {
        let pid = self.workers[index].pid();
        self.workers[index].kill9().unwrap();
        self.kills += 1;
        for batch in self.remote.list(State::Processing).await {
            let Some(lease) = batch.lease else { continue };
            if lease.worker.starts_with(&format!("{pid}-")) {
                assert_eq!(lease.duration, LEASE, "a lease lasts as long as it was asked for");
                let heard = lease.deadline.since(Timestamp::EPOCH).saturating_sub(LEASE);
                let heard_at = Timestamp::EPOCH.plus(heard);
                self.orphans.push(Orphan { id: batch.spec.id, deadline: lease.deadline, heard_at });
            }
        }
        self.workers[index] = self.start();
    }
}

/// Nothing is lost, nothing is doubled, what they held comes back in time.
async fn dying_workers(backend: Backend, batches: u64) {
    let mut random = Jitter::new(seed());
    let Some(backed) = backend.start(&["--max-retries", "1000"]) else { return };
    let remote = backed.remote();
    let returned = watch(&remote).await;
    let words = ["--lease", "1s", "--workers", "2", "--sink"].map(str::to_owned);
    let words = [&words[..], &[backed.sink()]].concat();
    let mut fleet = Fleet {
        backed: &backed,
        words,
        remote: &remote,
        workers: Vec::new(),
        orphans: Vec::new(),
        kills: 0,
    };
    fleet.workers = (0..WORKERS).map(|_| fleet.start()).collect();
    let producer = backed.remote();
    let putting = tokio::spawn(async move { producer.put(0..batches).await });

    // Between two kills the work gets on by a random step: that is progress.
    let mut next = 0;
    loop {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
        let step = ((batches / 12).min(2_000) as f64 * random.next_unit()) as u64 + 20;
        next += step;
        if next >= batches {
            break;
        }
        let what = format!("{next} batches to be completed after {} kills", fleet.kills);
        wait_for_async(PATIENCE, &what, || async {
            (remote.count(State::Completed).await >= next).then_some(())
        })
        .await
        .unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (random.next_unit() * WORKERS as f64) as usize % WORKERS;
        fleet.kill(index).await;
    }
    putting.await.unwrap();
    remote.completes(batches).await;
    assert!(fleet.kills >= 10, "{} kills only", fleet.kills);
    assert!(!fleet.orphans.is_empty(), "no worker was killed with work in its hands");
    report(&fleet, &returned);
    assert_rows_once(&backed.out(), batches);
}

/// Workers killed with SIGKILL again and again.
#[tokio::test(flavor = "multi_thread")]
async fn soak_dying_workers_lose_nothing_and_their_work_returns_in_time() {
    dying_workers(Backend::Embedded, sized(5_000, 100_000)).await;
}

/// Workers killed with SIGKILL again and again; the server is on a Valkey.
#[tokio::test(flavor = "multi_thread")]
async fn soak_valkey_dying_workers_lose_nothing() {
    dying_workers(Backend::Valkey, sized(1_500, 100_000)).await;
}

/// Workers of a Valkey itself, killed with SIGKILL again and again.
#[tokio::test(flavor = "multi_thread")]
async fn soak_direct_dying_workers_lose_nothing() {
    dying_workers(Backend::Direct, sized(1_500, 100_000)).await;
}

/// Every orphan returned at the end of its lease by the coordinator's clock,
/// not before; how much later is told, and judged where the machine does
/// nothing else: in the long form.
fn report(fleet: &Fleet<'_>, returned: &Returned) {
    let returned = returned.lock().unwrap();
    let mut recoveries = Vec::new();
    for orphan in &fleet.orphans {
        // One that the watch was too slow for is not judged; that it was done is.
        let Some(all) = returned.get(&orphan.id) else { continue };
        let Some(&at) = all.iter().find(|at| **at > orphan.heard_at) else { continue };
        assert!(at >= orphan.deadline, "{} was taken from a lease that stood", orphan.id);
        recoveries.push(at.since(orphan.heard_at));
    }
    recoveries.sort_unstable();
    let late = recoveries.iter().filter(|took| **took > LEASE + Duration::from_secs(1)).count();
    eprintln!(
        "{} kills, {} orphans, {} returns seen: median {:?} and longest {:?} after the last \
         heartbeat, {late} later than lease + 1 s",
        fleet.kills,
        fleet.orphans.len(),
        recoveries.len(),
        recoveries.get(recoveries.len() / 2),
        recoveries.last(),
    );
    assert!(!recoveries.is_empty(), "no return was seen");
    assert!(!sheaf_testkit::soak() || late == 0, "{late} came back too late");
}
