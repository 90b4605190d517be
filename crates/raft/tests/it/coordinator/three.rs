//! The suite on three nodes, asked over gRPC at one that follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use sheaf_coordinator::conformance::{self, Harness};
use sheaf_coordinator::{
    Answer, ClaimRequest, Coordinator, Event, Query, State, Verdict, WatchFilter,
};
use sheaf_retry::{SharedClock, SystemClock};
use tokio::sync::Mutex;

use super::calls::{claim, completed, spec};
use super::cluster::Cluster;

#[derive(Default)]
struct Three {
    current: Mutex<Option<Arc<Cluster>>>,
}

#[async_trait]
impl Harness for Three {
    async fn fresh(&self) -> Arc<dyn Coordinator> {
        let mut current = self.current.lock().await;
        if let Some(before) = current.take() {
            before.agree().await;
            before.close().await;
        }
        let cluster = Cluster::start(1_000).await;
        let client = cluster.client(cluster.follower().await);
        *current = Some(cluster);
        client
    }

    async fn advance(&self, by: Duration) {
        // sleep: time passes by itself, and what is then due is proposed.
        tokio::time::sleep(by + Duration::from_millis(200)).await;
    }

    /// The leader is restarted; another one leads.
    async fn reopen(&self) -> Option<Arc<dyn Coordinator>> {
        let current = self.current.lock().await;
        let cluster = current.as_ref()?;
        let leader = cluster.leader().await;
        cluster.stop(leader).await;
        cluster.leader().await;
        cluster.restart(leader).await;
        Some(cluster.client(leader))
    }

    fn is_time_still(&self) -> bool {
        false
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes() {
    let three = Three::default();
    conformance::run(&three).await;
    let last = three.current.lock().await.take().unwrap();
    last.agree().await;
    last.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_agree_with_the_model() {
    let three = Three::default();
    conformance::random(&three, 50, 200).await;
    let last = three.current.lock().await.take().unwrap();
    last.agree().await;
    last.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_told_on_a_node_that_follows() {
    let cluster = Cluster::start(1_000).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let mut events = cluster.client(follower).watch(WatchFilter::default()).await.unwrap();
    cluster.client(leader).register(vec![spec("a")]).await.unwrap();
    let event = events.next().await;
    let Some(Event::Changed(change)) = event else { panic!("{event:?}") };
    assert_eq!((change.id.as_str(), change.to), ("a", Some(State::Pending)));
    cluster.close().await;
}

/// A claim that was answered: when it was asked and answered, and the batches with their
/// tokens.
struct Given {
    asked: Duration,
    answered: Duration,
    batches: Vec<(String, u64)>,
}

/// No token is given to two batches, and a claim that is asked after another one was
/// answered has greater tokens, whoever leads.
fn check_tokens(mut claims: Vec<Given>) {
    let mut holders: BTreeMap<u64, String> = BTreeMap::new();
    for (id, fence) in claims.iter().flat_map(|claim| &claim.batches) {
        let before = holders.insert(*fence, id.clone());
        assert!(before.is_none_or(|before| before == *id), "{fence} was given twice");
    }
    claims.sort_by_key(|claim| claim.asked);
    let mut answered: Vec<(Duration, u64)> = claims
        .iter()
        .filter_map(|claim| Some((claim.answered, claim.batches.iter().map(|one| one.1).max()?)))
        .collect();
    answered.sort_unstable();
    let (mut next, mut greatest) = (0, 0);
    for claim in &claims {
        while next < answered.len() && answered[next].0 < claim.asked {
            greatest = greatest.max(answered[next].1);
            next += 1;
        }
        for (id, fence) in &claim.batches {
            assert!(*fence > greatest, "{id} has {fence}, after {greatest} was answered");
        }
    }
    assert!(next > 0, "some claims came after others");
}

/// What workers and producers saw.
struct Seen {
    clock: SharedClock,
    registered: AtomicU64,
    completed: AtomicU64,
    claims: std::sync::Mutex<Vec<Given>>,
    is_over: AtomicBool,
}

impl Seen {
    fn new() -> Self {
        Seen {
            clock: SystemClock::shared(),
            registered: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            claims: std::sync::Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }
}

async fn produce(client: Arc<dyn Coordinator>, producer: u32, seen: Arc<Seen>) {
    let mut number = 0;
    while !seen.is_over.load(Ordering::Relaxed) {
        let specs = (0..5).map(|n| spec(format!("p{producer}-{}", number + n))).collect();
        let registered = client.register(specs).await.unwrap();
        number += registered.len() as u64;
        seen.registered.fetch_add(registered.len() as u64, Ordering::Relaxed);
    }
}

async fn work(client: Arc<dyn Coordinator>, worker: u32, seen: Arc<Seen>) {
    for turn in 0.. {
        let is_over = seen.is_over.load(Ordering::Relaxed);
        let request = ClaimRequest {
            worker: format!("w{worker}"),
            wait: Duration::from_millis(if is_over { 0 } else { 500 }),
            lease: Duration::from_secs(20),
            ..claim(format!("r{turn}"), 4)
        };
        let asked = seen.clock.elapsed();
        let leases = client.claim(request).await.unwrap().leases;
        if leases.is_empty() && is_over {
            break;
        }
        let batches = leases.iter().map(|lease| (lease.spec.id.to_string(), lease.fence.0));
        let given = Given { asked, answered: seen.clock.elapsed(), batches: batches.collect() };
        seen.claims.lock().unwrap().push(given);
        for lease in leases {
            let id = lease.spec.id.to_string();
            let reply = client.settle(completed(&id, lease.fence)).await.unwrap();
            match reply.outcomes[0].verdict {
                Verdict::Applied | Verdict::AlreadyDone => {
                    seen.completed.fetch_add(1, Ordering::Relaxed);
                }
                other => panic!("a lease of 20 s that was used at once is {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_while_leaders_come_and_go() {
    let rounds = if sheaf_testkit::soak() { 40 } else { 4 };
    let cluster = Cluster::start(200).await;
    let seen = Arc::new(Seen::new());
    let mut tasks = Vec::new();
    for number in 0..3 {
        let id = u64::from(number) + 1;
        tasks.push(tokio::spawn(produce(cluster.patient_client(id), number, Arc::clone(&seen))));
        tasks.push(tokio::spawn(work(cluster.patient_client(id), number, Arc::clone(&seen))));
        tasks.push(tokio::spawn(work(cluster.patient_client(id), number + 10, Arc::clone(&seen))));
    }
    for _ in 0..rounds {
        let before = seen.completed.load(Ordering::Relaxed);
        let progress = || std::future::ready(seen.completed.load(Ordering::Relaxed) > before + 50);
        let long = Duration::from_secs(60);
        sheaf_testkit::wait_until_async(long, "work goes on", progress).await.unwrap();
        let leader = cluster.leader().await;
        cluster.stop(leader).await;
        cluster.leader().await;
        cluster.restart(leader).await;
    }
    seen.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    // What was claimed and not settled before the end: nothing.
    let registered = seen.registered.load(Ordering::Relaxed);
    let answer = cluster.client(1).query(Query::Stats(None)).await.unwrap();
    let Answer::Stats(stats) = answer else { panic!("{answer:?}") };
    let counts = &stats[0].counts;
    eprintln!("{registered} registered, {counts:?}");
    assert!(registered > 200, "{registered}");
    assert_eq!(counts.values().sum::<u64>(), registered, "as many as were acknowledged");
    assert_eq!(counts[&State::Completed], registered, "{counts:?}");
    check_tokens(std::mem::take(&mut seen.claims.lock().unwrap()));
    cluster.agree().await;
    cluster.close().await;
}
