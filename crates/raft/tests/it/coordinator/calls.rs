//! What the coordinator does with calls: groups, waits, limits, the way to the leader.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use sheaf_coordinator::{
    Answer, BatchSpec, ClaimRequest, Control, Coordinator, Event, LeaseRef, Outcome, Query,
    Resolution, SettleRequest, State, Verdict, WatchFilter, engine,
};
use sheaf_raft::coordinator::{Config, EngineMachine, Forward, RaftCoordinator};
use sheaf_raft::replica::Leadership;
use sheaf_raft::types::{Member, NodeId};
use sheaf_retry::{Code, Retryable as _, SystemClock};

use super::local::{Beside, LocalReplica, Nobody, here};

pub(crate) fn spec(name: impl Into<String>) -> BatchSpec {
    BatchSpec { rows: 1, bytes: 8, ..BatchSpec::new(name.into().parse().unwrap()) }
}

pub(crate) fn claim(name: impl Into<String>, max: u32) -> ClaimRequest {
    ClaimRequest { start: true, ..ClaimRequest::new("w", name, max, Duration::from_secs(60)) }
}

pub(crate) fn completed(id: &str, fence: sheaf_coordinator::Fence) -> SettleRequest {
    let done = Outcome {
        lease: LeaseRef { id: id.parse().unwrap(), fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: Vec::new(),
        delay: Duration::ZERO,
    };
    SettleRequest { outcomes: vec![done], ..SettleRequest::default() }
}

fn start(replica: &Arc<LocalReplica>, config: Config) -> RaftCoordinator<LocalReplica> {
    RaftCoordinator::start(Arc::clone(replica), config, Arc::new(Nobody), SystemClock::shared())
}

pub(crate) fn alone() -> (Arc<LocalReplica>, RaftCoordinator<LocalReplica>) {
    let replica = LocalReplica::new(EngineMachine::new(), 1);
    let coordinator = start(&replica, Config::new(1));
    (replica, coordinator)
}

/// Registers batches one by one, has workers complete them all, and answers how many
/// are then completed; no batch is given out twice.
pub(crate) async fn work_off(
    coordinator: Arc<dyn Coordinator>,
    count: usize,
    workers: usize,
) -> u64 {
    let register = (0..count).map(|n| {
        let coordinator = Arc::clone(&coordinator);
        async move { coordinator.register(vec![spec(format!("b{n}"))]).await.unwrap() }
    });
    join_all(register).await;
    let work = (0..workers).map(|worker| {
        let coordinator = Arc::clone(&coordinator);
        async move {
            let mut done = Vec::new();
            for turn in 0.. {
                let request = ClaimRequest {
                    worker: format!("w{worker}"),
                    ..claim(format!("r{worker}-{turn}"), 2)
                };
                let leases = coordinator.claim(request).await.unwrap().leases;
                if leases.is_empty() {
                    break;
                }
                for lease in leases {
                    let reply = coordinator.settle(completed(lease.spec.id.as_str(), lease.fence));
                    let verdict = reply.await.unwrap().outcomes[0].verdict;
                    // A repeated settle whose first answer was lost.
                    assert!(matches!(verdict, Verdict::Applied | Verdict::AlreadyDone));
                    done.push(lease.spec.id.to_string());
                }
            }
            done
        }
    });
    let done: Vec<String> = join_all(work).await.into_iter().flatten().collect();
    let different: BTreeSet<&String> = done.iter().collect();
    assert_eq!(different.len(), done.len(), "none was given out twice");
    let stats = coordinator.query(Query::Stats(None)).await.unwrap();
    let Answer::Stats(stats) = stats else { panic!("{stats:?}") };
    stats[0].counts[&State::Completed]
}

#[tokio::test]
async fn calls_that_come_together_share_a_command() {
    let (replica, coordinator) = alone();
    let register = |n: u32| {
        let coordinator = coordinator.clone();
        async move { coordinator.register(vec![spec(format!("b{n}"))]).await.unwrap() }
    };
    register(0).await;
    let before = replica.commands.load(Ordering::Relaxed);
    join_all((1..1_000).map(register)).await;
    let commands = replica.commands.load(Ordering::Relaxed) - before;
    assert!(commands < 100, "{commands} commands for 999 calls");
}

#[tokio::test]
async fn claims_that_wait_are_woken_and_make_no_commands_meanwhile() {
    let (replica, coordinator) = alone();
    coordinator.register(vec![spec("first")]).await.unwrap();
    coordinator.claim(claim("r", 1)).await.unwrap();
    let before = replica.commands.load(Ordering::Relaxed);
    let waiting = (0..50).map(|n| {
        let coordinator = coordinator.clone();
        let request = ClaimRequest { wait: Duration::from_secs(20), ..claim(format!("r{n}"), 1) };
        tokio::spawn(async move { coordinator.claim(request).await.unwrap() })
    });
    let waiting: Vec<_> = waiting.collect();
    let mut registry = prometheus_client::registry::Registry::default();
    coordinator.register_metrics(&mut registry);
    let metric = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let parked = "sheaf_coordinator_waiting_claims 50";
    sheaf_testkit::wait_until_async(Duration::from_secs(20), "claims wait", || async {
        metric().contains(parked)
    })
    .await
    .unwrap();
    assert_eq!(replica.commands.load(Ordering::Relaxed), before, "nothing is proposed for them");
    coordinator.register((0..50).map(|n| spec(format!("b{n}"))).collect()).await.unwrap();
    for claim in join_all(waiting).await {
        assert_eq!(claim.unwrap().leases.len(), 1);
    }
    let commands = replica.commands.load(Ordering::Relaxed) - before;
    assert!(commands < 30, "{commands} commands");
}

#[tokio::test]
async fn one_batch_does_not_make_a_command_of_every_claim_that_waits() {
    let (replica, coordinator) = alone();
    let waiting = (0..200).map(|n| {
        let coordinator = coordinator.clone();
        let request = ClaimRequest { wait: Duration::from_secs(3), ..claim(format!("r{n}"), 1) };
        tokio::spawn(async move { coordinator.claim(request).await.unwrap().leases.len() })
    });
    let waiting: Vec<_> = waiting.collect();
    coordinator.wake().await.unwrap();
    let before = replica.commands.load(Ordering::Relaxed);
    coordinator.register(vec![spec("one")]).await.unwrap();
    let given: usize = join_all(waiting).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(given, 1);
    let commands = replica.commands.load(Ordering::Relaxed) - before;
    assert!(commands < 10, "{commands} commands");
}

#[tokio::test]
async fn a_claim_that_waited_long_enough_gets_nothing() {
    let (_, coordinator) = alone();
    let request = ClaimRequest { wait: Duration::from_millis(50), ..claim("r", 1) };
    assert!(coordinator.claim(request).await.unwrap().leases.is_empty());
    let request = ClaimRequest { wait: Duration::from_secs(61), ..claim("r", 1) };
    assert_eq!(coordinator.claim(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_call_that_is_too_large_fails_alone() {
    let replica = LocalReplica::with(EngineMachine::new(), 1, 4_096);
    let coordinator = start(&replica, Config::new(1));
    coordinator.register(vec![spec("first")]).await.unwrap();
    let large = (0..200).map(|n| spec(format!("large{n}-{}", "x".repeat(100)))).collect();
    let calls = (0..20).map(|n| coordinator.register(vec![spec(format!("b{n}"))]));
    let (refused, done) = tokio::join!(coordinator.register(large), join_all(calls));
    let error = refused.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

#[tokio::test]
async fn a_call_without_a_leader_is_refused_in_its_time_and_done_when_there_is_one() {
    let replica = LocalReplica::new(EngineMachine::new(), 1);
    replica.lead(Leadership { term: 2, leader: None, is_ready: false, stopped: None });
    let config = Config { patience: Duration::from_millis(300), ..Config::new(1) };
    let coordinator = start(&replica, config);
    let error = coordinator.register(vec![spec("a")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.to_string().contains("no leader"), "{error}");
    let error = coordinator.query(Query::History).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let call = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.register(vec![spec("a")]).await }
    });
    replica.lead(Leadership { term: 3, leader: Some((1, here())), is_ready: true, stopped: None });
    assert!(call.await.unwrap().unwrap()[0].created);
}

#[tokio::test]
async fn calls_are_passed_on_to_the_leader_and_not_round() {
    let (_, leader) = alone();
    let follower = LocalReplica::new(EngineMachine::new(), 1);
    follower.lead(Leadership {
        term: 1,
        leader: Some((1, here())),
        is_ready: false,
        stopped: None,
    });
    let config = Config { patience: Duration::from_millis(500), ..Config::new(2) };
    let forward = Arc::new(Beside(Arc::new(leader.last_hop())));
    let clock = SystemClock::shared();
    let node = RaftCoordinator::start(Arc::clone(&follower), config.clone(), forward, clock);
    assert_eq!(work_off(Arc::new(leader.clone()), 1, 1).await, 1);
    node.register(vec![spec("a")]).await.unwrap();
    let lease = node.claim(claim("r", 1)).await.unwrap().leases.remove(0);
    let mut settle = completed("a", lease.fence);
    settle.claim = Some(claim("r2", 1));
    let reply = node.settle(settle).await.unwrap();
    assert_eq!(reply.outcomes[0].verdict, Verdict::Applied);
    assert_eq!(reply.claim.unwrap().leases.len(), 0);
    let policy = Control::Pause("default".to_owned());
    node.control(policy).await.unwrap();
    assert!(follower.commands.load(Ordering::Relaxed) == 0, "nothing was done here");

    // Two that each take the other for the leader.
    let error = node.last_hop().register(vec![spec("b")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.to_string().contains("node 1 at"), "{error}");
    let other = LocalReplica::new(EngineMachine::new(), 1);
    other.lead(Leadership { term: 1, leader: Some((2, here())), is_ready: false, stopped: None });
    let forward = Arc::new(Beside(Arc::new(node.last_hop())));
    let config = Config { node: 1, ..config };
    let other = RaftCoordinator::start(other, config, forward, SystemClock::shared());
    let error = other.register(vec![spec("b")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}

/// A leader that is silent.
struct Silent;

impl Forward for Silent {
    fn to(
        &self,
        node: NodeId,
        _: &Member,
        _: u32,
    ) -> Result<Arc<dyn Coordinator>, sheaf_coordinator::Error> {
        if node == 3 {
            let (_, other) = alone();
            return Ok(Arc::new(other));
        }
        // It follows a third node, which nobody hears of: no call ends.
        let away = LocalReplica::new(EngineMachine::new(), 1);
        away.lead(Leadership::default());
        let config = Config { patience: Duration::from_secs(3_600), ..Config::new(node) };
        Ok(Arc::new(start(&away, config)))
    }
}

#[tokio::test]
async fn a_call_to_a_leader_that_fell_silent_goes_on_at_the_next_one() {
    let replica = LocalReplica::new(EngineMachine::new(), 1);
    let led = |term, node| Leadership {
        term,
        leader: Some((node, here())),
        is_ready: false,
        stopped: None,
    };
    replica.lead(led(1, 2));
    let clock = SystemClock::shared();
    let config = Config { patience: Duration::from_secs(600), ..Config::new(1) };
    let node = RaftCoordinator::start(Arc::clone(&replica), config, Arc::new(Silent), clock);
    let mut call = Box::pin(node.register(vec![spec("a")]));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut call).await;
    assert!(early.is_err(), "{early:?}");
    // Nobody leads, then another node does.
    replica.lead(Leadership { term: 2, ..Leadership::default() });
    replica.lead(led(2, 3));
    let done = tokio::time::timeout(Duration::from_secs(60), call).await;
    assert!(done.expect("it waits for the silent one").unwrap()[0].created);
}

#[tokio::test]
async fn a_node_that_has_stopped_says_so_at_once() {
    let replica = LocalReplica::new(EngineMachine::new(), 1);
    let config = Config { patience: Duration::from_secs(600), ..Config::new(1) };
    let coordinator = start(&replica, config);
    let stopped = Some("the disk is full".to_owned());
    replica.lead(Leadership { term: 1, leader: None, is_ready: false, stopped });
    let last_hop = coordinator.last_hop();
    for node in [&coordinator, &last_hop] {
        let call = node.register(vec![spec("a")]);
        let error = tokio::time::timeout(Duration::from_secs(60), call).await;
        let error = error.expect("it waits").unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.to_string().contains("has stopped: the disk is full"), "{error}");
    }
    let asked = coordinator.query(Query::History);
    let asked = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it waits");
    assert!(asked.unwrap_err().to_string().contains("has stopped: the disk is full"));
}

#[tokio::test]
async fn claims_that_wait_follow_the_leader() {
    let (replica, node) = alone();
    let (_, other) = alone();
    let config = Config::new(1);
    let forward = Arc::new(Beside(Arc::new(other.last_hop())));
    let clock = SystemClock::shared();
    node.close().await;
    let node = RaftCoordinator::start(Arc::clone(&replica), config, forward, clock);
    node.register(vec![spec("here")]).await.unwrap();
    node.claim(claim("r1", 1)).await.unwrap();
    let waiting = tokio::spawn({
        let (node, request) = (node.clone(), claim("r2", 1));
        let request = ClaimRequest { wait: Duration::from_secs(20), ..request };
        async move { node.claim(request).await }
    });
    node.wake().await.unwrap();
    replica.lead(Leadership { term: 2, leader: Some((2, here())), is_ready: false, stopped: None });
    other.register(vec![spec("there")]).await.unwrap();
    let leases = waiting.await.unwrap().unwrap().leases;
    assert_eq!(leases[0].spec.id.as_str(), "there");
}

#[tokio::test]
async fn the_configuration_is_that_of_the_leader() {
    let small = engine::Config { max_live: 2, ..engine::Config::default() };
    let replica = LocalReplica::new(EngineMachine::new(), 1);
    let first = start(&replica, Config { engine: small, ..Config::new(1) });
    let register = |from: u32| (from..from + 2).map(|n| spec(format!("b{n}"))).collect();
    first.register(register(0)).await.unwrap();
    assert_eq!(first.register(register(2)).await.unwrap_err().code(), Code::Overloaded);
    first.close().await;
    let copy = replica.copy();
    let second = LocalReplica::new(copy, 2);
    let coordinator = start(&second, Config::new(1));
    coordinator.register(register(2)).await.unwrap();
    assert_ne!(second.digest(), replica.digest());
}

#[tokio::test]
async fn readers_of_events_are_bounded_and_told_of_a_snapshot() {
    use sheaf_raft::machine::StateMachine as _;
    use sheaf_raft::replica::Replica as _;
    let replica = LocalReplica::new(EngineMachine::new(), 1);
    let coordinator = start(&replica, Config { max_watchers: 1, ..Config::new(1) });
    let mut events = coordinator.watch(WatchFilter::default()).await.unwrap();
    let second = coordinator.watch(WatchFilter::default()).await;
    assert_eq!(second.err().unwrap().code(), Code::Overloaded);
    coordinator.register(vec![spec("a")]).await.unwrap();
    assert!(matches!(events.next().await, Some(Event::Changed(_))));
    replica.with_machine(&mut |machine| {
        machine.begin_snapshot().unwrap();
        let parts: Vec<_> = std::iter::from_fn(|| machine.snapshot_part().transpose()).collect();
        machine.restore(&mut parts.into_iter()).unwrap();
    });
    assert_eq!(events.next().await, Some(Event::Missed(1)));
}

#[tokio::test]
async fn a_closed_coordinator_answers_what_waits_and_takes_no_more() {
    let (_, coordinator) = alone();
    coordinator.register(vec![spec("a")]).await.unwrap();
    coordinator.claim(claim("r", 1)).await.unwrap();
    let waiting = tokio::spawn({
        let coordinator = coordinator.clone();
        let request = ClaimRequest { wait: Duration::from_secs(30), ..claim("r2", 1) };
        async move { coordinator.claim(request).await }
    });
    coordinator.wake().await.unwrap();
    coordinator.close().await;
    assert!(waiting.await.unwrap().unwrap().leases.is_empty());
    let error = coordinator.register(vec![spec("b")]).await.unwrap_err();
    assert_eq!(error.code(), Code::Draining, "{error}");
    coordinator.close().await;
}
