//! T6: the network is gone for a while, idle and busy.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{BatchSpec, ClaimRequest, Coordinator};
use sheaf_retry::{SharedClock, SystemClock};
use sheaf_testkit::{Fault, FaultProxy, Valkey};
use sheaf_valkey::ValkeyCoordinator;
use tokio::task::JoinHandle;

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
        let queue = |number: usize| format!("idle-{round}-{number}");
        let waiting: Vec<_> =
            (0..IDLE).map(|number| idle(&idlers[number], &clock, queue(number))).collect();
        pass(Duration::from_millis(300)).await;
        proxy.set(fault);
        pass(*time).await;
        let end = clock.elapsed();
        let moment = traffic.now();
        proxy.set(Fault::None);
        // What they wait for comes after the end, from somebody who saw none of it.
        let specs =
            (0..IDLE).map(|number| BatchSpec { queue: queue(number), ..kit::spec(&queue(number)) });
        beside.register(specs.collect()).await.unwrap();
        let mut slowest = Duration::ZERO;
        for one in waiting {
            slowest = slowest.max(one.await.unwrap().saturating_sub(end));
        }
        let busiest = traffic.all_work_since(moment).await;
        eprintln!("{fault:?} of {time:?}: idle again after {slowest:?}, busy after {busiest:?}");
        assert!(slowest <= RESUMED, "an idle worker slept on for {slowest:?} after {time:?}");
        assert!(busiest <= RESUMED, "a busy worker stood still for {busiest:?} after {time:?}");
    }
    let seen = traffic.finish(0).await;
    kit::assert_once(&beside, &seen).await;
    assert_fences_grow(&seen.fences);
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
