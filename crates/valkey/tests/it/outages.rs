//! T6: the network is gone for a while, idle and busy.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{BatchSpec, ClaimRequest, Coordinator, CoordinatorExt as _};
use sheaf_retry::{SharedClock, SystemClock};
use sheaf_testkit::{Fault, FaultProxy, Valkey};
use sheaf_valkey::ValkeyCoordinator;
use tokio::task::{JoinHandle, JoinSet};

use crate::kit::{
    self, DEADLINE, LONG, RESUMED, Traffic, again, assert_fences_grow, builder, connect, pass,
    sized,
};

const IDLE: usize = 3;

/// A worker that waits on a queue of its own; when it got its batch.
fn idle(
    coordinator: &Arc<ValkeyCoordinator>,
    clock: &SharedClock,
    queue: String,
) -> JoinHandle<Duration> {
    let (coordinator, clock) = (Arc::clone(coordinator), Arc::clone(clock));
    tokio::spawn(async move {
        for turn in 0.. {
            let request = kit::request(&queue, &format!("{queue}-{turn}"), 1);
            let (queues, wait) = (vec![queue.clone()], Duration::from_secs(60));
            let request = ClaimRequest { queues, wait, ..request };
            let claim = again(|| coordinator.claim(request.clone()), drop).await;
            if !claim.leases.is_empty() {
                break;
            }
        }
        clock.elapsed()
    })
}

/// Idle workers, each on a queue of its own, and when they began to wait.
struct Wave {
    name: String,
    clock: SharedClock,
    waiting: Vec<JoinHandle<Duration>>,
}

impl Wave {
    fn start(idlers: &[Arc<ValkeyCoordinator>], clock: &SharedClock, name: &str) -> Self {
        let queues = (0..).map(|number| format!("{name}-{number}"));
        let waiting =
            idlers.iter().zip(queues).map(|(idler, queue)| idle(idler, clock, queue)).collect();
        Wave { name: name.to_owned(), clock: clock.clone(), waiting }
    }

    /// Gives each a batch; how long until the last has it.
    async fn feed(self, by: &ValkeyCoordinator) -> Duration {
        let start = self.clock.elapsed();
        let queues = (0..self.waiting.len()).map(|number| format!("{}-{number}", self.name));
        let specs = queues.map(|queue| BatchSpec { queue: queue.clone(), ..kit::spec(&queue) });
        by.register(specs.collect()).await.unwrap();
        let mut slowest = Duration::ZERO;
        for one in self.waiting {
            slowest = slowest.max(one.await.unwrap().saturating_sub(start));
        }
        slowest
    }
}

/// Idle and busy workers, each a process of its own, during one outage after
/// another.
async fn outages(fault: Fault, lasting: &[Duration]) {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let clock = SystemClock::shared();
    // An idle one is not to be rescued by its poll.
    let behind = || builder(proxy.addr()).namespace("t6").poll_interval(DEADLINE);
    let mut coordinators = Vec::new();
    for _ in 0..IDLE + 2 {
        coordinators.push(connect(behind()).await);
    }
    let beside = connect(builder(server.addr()).namespace("t6")).await;
    let (idlers, busy) = coordinators.split_at(IDLE);
    let traffic = Traffic::start("busy", busy, LONG);
    for (round, time) in lasting.iter().enumerate() {
        traffic.goes_on(20, DEADLINE).await;
        let wave = Wave::start(idlers, &clock, &format!("idle-{round}"));
        pass(Duration::from_millis(300)).await;
        proxy.set(fault);
        pass(*time).await;
        let moment = traffic.now();
        proxy.set(Fault::None);
        // What they wait for comes after the end, from somebody who saw none of it.
        let slowest = wave.feed(&beside).await;
        let busiest = traffic.all_work_since(moment).await;
        eprintln!("{fault:?} of {time:?}: idle again after {slowest:?}, busy after {busiest:?}");
        assert!(slowest <= RESUMED, "an idle worker slept on for {slowest:?} after {time:?}");
        assert!(busiest <= RESUMED, "a busy worker stood still for {busiest:?} after {time:?}");
        // And as soon as ever when the outage is long over.
        let wave = Wave::start(idlers, &clock, &format!("later-{round}"));
        pass(Duration::from_millis(300)).await;
        let slowest = wave.feed(&beside).await;
        assert!(slowest <= Duration::from_secs(1), "woken {slowest:?} late after {time:?}");
    }
    let seen = traffic.finish(0).await;
    kit::assert_once(&beside, &seen).await;
    assert_fences_grow(&seen.fences);
}

/// A path forgot its connections, and calls keep coming: each connection has a command
/// without an answer that is never old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_silent_for_good_are_replaced_while_calls_come() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let clock = SystemClock::shared();
    let behind = builder(proxy.addr()).connections(2).timeout(Duration::from_secs(1));
    let coordinator = connect(behind).await;
    for round in 0..3 {
        coordinator.stats(None).await.unwrap();
        proxy.silence_connections();
        let began = clock.elapsed();
        let mut calls = JoinSet::new();
        loop {
            let called = Arc::clone(&coordinator);
            calls.spawn(async move { called.stats(None).await.is_ok() });
            pass(Duration::from_millis(20)).await;
            if let Some(ended) = calls.try_join_next()
                && ended.unwrap()
            {
                break;
            }
            let waited = clock.elapsed().saturating_sub(began);
            assert!(waited < RESUMED, "round {round}: no answer in {waited:?}");
        }
    }
}

fn lasting() -> Vec<Duration> {
    sized(vec![1, 5], vec![1, 10, 60]).into_iter().map(Duration::from_secs).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t6_every_worker_resumes_after_a_cut() {
    outages(Fault::Cut, &lasting()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t6_every_worker_resumes_after_a_silence() {
    outages(Fault::Silent, &lasting()).await;
}
