//! The suite and the random runs beside the model, on one node that applies at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::Coordinator;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_raft::coordinator::{Config, EngineMachine, RaftCoordinator};
use sheaf_retry::{ManualClock, SystemClock, Timestamp};
use tokio::sync::Mutex;

use super::local::{Faults, LocalReplica, Nobody};

struct Open {
    replica: Arc<LocalReplica>,
    coordinator: RaftCoordinator<LocalReplica>,
    term: u64,
}

/// Time stands still but for `advance`.
struct Still {
    clock: Arc<ManualClock>,
    current: Mutex<Option<Open>>,
}

impl Still {
    fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_760_000_000_000));
        Still { clock, current: Mutex::default() }
    }

    fn open(&self, machine: EngineMachine, term: u64) -> Open {
        let replica = LocalReplica::new(machine, term);
        let config = Config::new(1);
        let forward = Arc::new(Nobody);
        let parts = (Arc::clone(&replica), self.clock.clone());
        let coordinator = RaftCoordinator::start(parts.0, config, forward, parts.1);
        Open { replica, coordinator, term }
    }
}

#[async_trait]
impl Harness for Still {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        let opened = self.open(EngineMachine::new(), 1);
        let coordinator = Arc::new(opened.coordinator.clone());
        *self.current.lock().await = Some(opened);
        coordinator
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        if let Some(open) = &*self.current.lock().await {
            // Each does a bounded part of what is due.
            for _ in 0..3 {
                open.coordinator.wake().await.unwrap();
            }
        }
    }

    /// Another node leads, which came to the state by a snapshot.
    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        let mut current = self.current.lock().await;
        let before = current.take()?;
        before.coordinator.close().await;
        let opened = self.open(before.replica.copy(), before.term + 1);
        // It leads from this moment on, and not from some time after the clock's next advance.
        opened.coordinator.wake().await.unwrap();
        let coordinator = Arc::new(opened.coordinator.clone());
        *current = Some(opened);
        Some(coordinator)
    }

    fn is_time_still(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes() {
    conformance::run(&Still::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_agree_with_the_model() {
    for seed in 1..8 {
        conformance::random(&Still::new(), seed, 400).await;
    }
}

/// Many seeded runs against the model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_model_agrees_on_the_log() {
    let (seeds, steps) = if sheaf_testkit::soak() { (300, 1_000) } else { (2, 150) };
    let first = SystemClock::shared().now().as_micros();
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        conformance::random(&Still::new(), seed, steps).await;
    }
}

/// Time passes by itself, and every eighth command goes wrong. That answers are lost is
/// tested below: the suite tells a first answer from a repeated one.
struct Faulty;

#[async_trait]
impl Harness for Faulty {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        let replica = LocalReplica::new(EngineMachine::new(), 3);
        replica.fail(Faults { not_leader: 6, lost: 6, unheard: 0 });
        let (forward, clock) = (Arc::new(Nobody), SystemClock::shared());
        Arc::new(RaftCoordinator::start(replica, Config::new(1), forward, clock))
    }

    async fn advance(&self, by: Duration) {
        // sleep: this is the advance of real time, and of what is proposed again.
        tokio::time::sleep(by + Duration::from_millis(100)).await;
    }

    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        None
    }

    fn is_time_still(&self) -> bool {
        false
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(900)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_while_commands_are_lost() {
    conformance::run(&Faulty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_sent_again_until_it_is_done_once() {
    let replica = LocalReplica::new(EngineMachine::new(), 5);
    replica.fail(Faults { not_leader: 20, lost: 20, unheard: 20 });
    let (forward, clock) = (Arc::new(Nobody), SystemClock::shared());
    let config = Config { patience: Duration::from_secs(60), ..Config::new(1) };
    let coordinator = RaftCoordinator::start(Arc::clone(&replica), config, forward, clock);
    let done = super::calls::work_off(Arc::new(coordinator), 40, 8).await;
    assert_eq!(done, 40);
    assert!(replica.failed.load(Ordering::Relaxed) > 20, "there were failures");
}

/// Nobody hears what becomes of it, and a claim would keep what it gets from others.
#[tokio::test]
async fn a_call_that_its_caller_gave_up_is_not_proposed() {
    let still = Still::new();
    let replica = LocalReplica::new(EngineMachine::new(), 1);
    // A leader that does not come to lead: calls wait.
    replica.fail(Faults { not_leader: 100, ..Faults::default() });
    let parts = (Arc::clone(&replica), still.clock.clone());
    let coordinator = RaftCoordinator::start(parts.0, Config::new(1), Arc::new(Nobody), parts.1);
    while replica.failed.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let spec = |id: &str| vec![sheaf_coordinator::BatchSpec::new(id.parse().unwrap())];
    let mut given_up = Box::pin(coordinator.register(spec("given-up")));
    for _ in 0..20 {
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(given_up);
    replica.fail(Faults::default());
    coordinator.register(spec("kept")).await.unwrap();
    let query = sheaf_coordinator::Query::List(sheaf_coordinator::ListFilter::default());
    let found = coordinator.query(query).await.unwrap();
    let sheaf_coordinator::Answer::Batches(page) = found else { panic!("{found:?}") };
    let ids: Vec<_> = page.batches.iter().map(|batch| batch.spec.id.to_string()).collect();
    assert_eq!(ids, ["kept"]);
}
