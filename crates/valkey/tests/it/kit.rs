//! What these tests share: short forms of calls, and work that goes on while
//! something breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use prometheus_client::registry::Registry;
use sheaf_coordinator::{
    Batch, BatchSpec, ClaimRequest, Coordinator, CoordinatorExt as _, Error, Event, Extension,
    Fence, Lease, LeaseRef, ListFilter, Outcome, Position, Resolution, SettleRequest, State,
    Verdict, WatchFilter,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Class, Code, RetryPolicy, Retryable as _, SharedClock, SystemClock};
use sheaf_testkit::{wait_for_async, wait_until_async};
use sheaf_valkey::{Builder, ValkeyCoordinator};
use tokio::task::JoinHandle;

/// Bounds how long a broken test hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// After the end of an outage everybody works again within this.
pub(crate) const RESUMED: Duration = Duration::from_secs(5);
/// Longer than any test: leases that do not run out.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// A server that keeps what it has acknowledged.
pub(crate) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// In the form that is asked for: short in CI, long in a soak.
pub(crate) fn sized<T>(short: T, long: T) -> T {
    if sheaf_testkit::soak() { long } else { short }
}

pub(crate) fn builder(address: impl std::fmt::Display) -> Builder {
    ValkeyCoordinator::builder(&address.to_string()).unwrap()
}

pub(crate) async fn connect(builder: Builder) -> Arc<ValkeyCoordinator> {
    Arc::new(builder.connect(SystemClock::shared()).await.unwrap())
}

/// A batch that is retried at once, and often.
pub(crate) fn spec(name: &str) -> BatchSpec {
    let retry = RetryPolicy { max_retries: 100, base_ms: 0, jitter: 0.0, ..RetryPolicy::default() };
    let id = name.parse().unwrap();
    BatchSpec { rows: 10, bytes: 100, retry: Some(retry), ..BatchSpec::new(id) }
}

pub(crate) fn specs(name: &str, count: u32) -> Vec<BatchSpec> {
    (0..count).map(|number| spec(&format!("{name}{number:06}"))).collect()
}

/// Registers so many in calls of 250.
pub(crate) async fn register_all(coordinator: &ValkeyCoordinator, specs: Vec<BatchSpec>) {
    for part in specs.chunks(250) {
        coordinator.register(part.to_vec()).await.unwrap();
    }
}

/// Takes up to so many, whose processing begins at once.
pub(crate) fn request(worker: &str, name: &str, max: u32) -> ClaimRequest {
    ClaimRequest { start: true, ..ClaimRequest::new(worker, name, max, LONG) }
}

pub(crate) fn reference(lease: &Lease) -> LeaseRef {
    LeaseRef { id: lease.spec.id.clone(), fence: lease.fence }
}

pub(crate) fn outcome(lease: &Lease, resolution: Resolution) -> Outcome {
    let (error, outputs, delay) = (None, Vec::new(), Duration::ZERO);
    Outcome { lease: reference(lease), resolution, error, outputs, delay }
}

pub(crate) fn settle(leases: &[Lease], resolution: Resolution) -> SettleRequest {
    let outcomes = leases.iter().map(|lease| outcome(lease, resolution)).collect();
    SettleRequest { outcomes, ..SettleRequest::default() }
}

pub(crate) async fn counts(coordinator: &ValkeyCoordinator) -> BTreeMap<State, u64> {
    let mut counts = BTreeMap::new();
    for queue in coordinator.stats(None).await.unwrap() {
        for (state, count) in queue.counts {
            *counts.entry(state).or_insert(0) += count;
        }
    }
    counts
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.unwrap_err().code()
}

/// An error with what is behind it, as people see it.
pub(crate) fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The value below which this part of all are.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len() as f64 * part).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
    let place = place as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// Lets real time pass: an outage or a lease lasts as long as it lasts.
pub(crate) async fn pass(time: Duration) {
    // sleep: what is tested is that nothing can be done for this long.
    tokio::time::sleep(time).await;
}

/// Sends a call until it is answered, as users do: whatever says that it may
/// be tried again is. The errors are told to `failed`.
pub(crate) async fn again<T, F>(mut call: impl FnMut() -> F, mut failed: impl FnMut(Error)) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let clock = SystemClock::shared();
    // The longest outage of a soak takes as long as the deadline.
    let end = clock.elapsed() + sized(DEADLINE, DEADLINE * 3);
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                let may_help = error.code().class() == Class::Transient;
                assert!(may_help, "not one to try again: {}", text(&error));
                assert!(clock.elapsed() < end, "for {DEADLINE:?}: {}", text(&error));
                failed(error);
                // sleep: a client that is refused does not spin.
                clock.sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// What a traffic has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Registrations that were acknowledged.
    pub(crate) registered: BTreeMap<String, Position>,
    /// Every token, in the order of the answers, with its batch.
    pub(crate) fences: Vec<(String, Fence)>,
    /// Batches whose settle was accepted, and how often.
    pub(crate) settled: BTreeMap<String, u32>,
    /// Settles that came too late, or whose batch is lost.
    pub(crate) refused: u64,
    /// When each settle was accepted, and by which worker.
    pub(crate) at: Vec<(Duration, usize)>,
    /// Errors of calls, each of which was sent again.
    pub(crate) errors: Vec<String>,
}

/// Producers and workers that go on until they are told to end, each sending
/// again what fails.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    name: String,
    clock: SharedClock,
    seen: Mutex<Seen>,
    number: AtomicU64,
    /// Batches that are not yet settled: producers wait for workers.
    open: AtomicU64,
    producing: AtomicBool,
    working: AtomicBool,
}

/// Producers do not run further ahead of the workers than this.
const MOST_OPEN: u64 = 200;

impl Traffic {
    /// Starts one producer on the first coordinator and one worker on each; a
    /// lease is longer than the test unless given.
    pub(crate) fn start(
        name: &str,
        coordinators: &[Arc<ValkeyCoordinator>],
        lease: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            clock: SystemClock::shared(),
            seen: Mutex::default(),
            number: AtomicU64::new(0),
            open: AtomicU64::new(0),
            producing: AtomicBool::new(true),
            working: AtomicBool::new(true),
        });
        let mut traffic = Traffic { shared, tasks: Vec::new() };
        traffic.join(coordinators, lease);
        traffic
    }

    /// Adds a producer and workers on these.
    pub(crate) fn join(&mut self, coordinators: &[Arc<ValkeyCoordinator>], lease: Duration) {
        self.tasks
            .push(tokio::spawn(produce(Arc::clone(&self.shared), Arc::clone(&coordinators[0]))));
        for coordinator in coordinators {
            let (shared, coordinator) = (Arc::clone(&self.shared), Arc::clone(coordinator));
            let number = self.tasks.len();
            self.tasks.push(tokio::spawn(work(shared, coordinator, number, lease)));
        }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.lock()
    }

    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    fn accepted(&self) -> usize {
        self.seen().at.len()
    }

    /// Waits until so many more were settled.
    pub(crate) async fn goes_on(&self, more: usize, within: Duration) {
        let goal = self.accepted() + more;
        let what = format!("{more} more to be settled");
        wait_until_async(within, &what, || async { self.accepted() >= goal }).await.unwrap();
    }

    /// Waits until every worker has settled something after that moment; how
    /// long that took.
    pub(crate) async fn all_work_since(&self, moment: Duration) -> Duration {
        let workers: BTreeSet<usize> = self.seen().at.iter().map(|(_, worker)| *worker).collect();
        let look = || async {
            let seen = self.seen();
            let first = |worker: &usize| {
                let mine = seen.at.iter().filter(|(_, who)| who == worker);
                mine.map(|(at, _)| *at).find(|at| *at > moment)
            };
            let firsts: Option<Vec<Duration>> = workers.iter().map(first).collect();
            firsts?.into_iter().max()
        };
        let last = wait_for_async(DEADLINE, "every worker to go on", look).await.unwrap();
        last - moment
    }

    /// Ends the producers and lets the workers finish all there is; every
    /// batch that was acknowledged but for `lost` must be settled then.
    pub(crate) async fn finish(self, lost: u64) -> Seen {
        self.shared.producing.store(false, Ordering::SeqCst);
        let all_done = || async {
            let seen = self.seen();
            let open = seen.registered.keys().filter(|id| !seen.settled.contains_key(*id));
            open.count() as u64 <= lost
        };
        let waited = wait_until_async(DEADLINE, "all that is there to be settled", all_done).await;
        if let Err(error) = waited {
            let seen = self.seen();
            let open: Vec<_> =
                seen.registered.keys().filter(|id| !seen.settled.contains_key(*id)).collect();
            panic!("{error}: {} of {}: {open:?}", open.len(), seen.registered.len());
        }
        self.stop();
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.shared.lock())
    }

    /// Ends everybody as soon as they notice.
    fn stop(&self) {
        self.shared.producing.store(false, Ordering::SeqCst);
        self.shared.working.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &Error) {
        self.lock().errors.push(text(error));
    }
}

/// Registers three at a time.
async fn produce(shared: Arc<Shared>, coordinator: Arc<ValkeyCoordinator>) {
    while shared.producing.load(Ordering::SeqCst) {
        if shared.open.load(Ordering::SeqCst) >= MOST_OPEN {
            // sleep: the workers are behind.
            shared.clock.sleep(Duration::from_millis(1)).await;
            continue;
        }
        let numbers = shared.number.fetch_add(3, Ordering::SeqCst);
        let specs: Vec<_> = (numbers..numbers + 3)
            .map(|number| spec(&format!("{}-{number:06}", shared.name)))
            .collect();
        let call = || coordinator.register(specs.clone());
        let registered = again(call, |error| shared.failed(&error)).await;
        shared.open.fetch_add(3, Ordering::SeqCst);
        let mut seen = shared.lock();
        for one in registered {
            seen.registered.insert(one.id.to_string(), one.position);
        }
    }
}

/// Claims up to four, with a wait, and completes them.
async fn work(
    shared: Arc<Shared>,
    coordinator: Arc<ValkeyCoordinator>,
    number: usize,
    lease: Duration,
) {
    let worker = format!("{}-worker-{number}", shared.name);
    for turn in 0.. {
        if !shared.working.load(Ordering::SeqCst) {
            return;
        }
        let name = format!("{worker}-{turn}");
        // Short, so that it notices the end.
        let wait = Duration::from_millis(500);
        let request = ClaimRequest { wait, lease, ..request(&worker, &name, 4) };
        let leases = again(|| coordinator.claim(request.clone()), |error| shared.failed(&error))
            .await
            .leases;
        if leases.is_empty() {
            continue;
        }
        for lease in &leases {
            shared.lock().fences.push((lease.spec.id.to_string(), lease.fence));
        }
        let done = settle(&leases, Resolution::Completed);
        let reply = again(|| coordinator.settle(done.clone()), |error| shared.failed(&error)).await;
        let mut seen = shared.lock();
        for one in reply.outcomes {
            if matches!(one.verdict, Verdict::Applied | Verdict::AlreadyDone) {
                *seen.settled.entry(one.id.to_string()).or_insert(0) += 1;
                seen.at.push((shared.clock.elapsed(), number));
                shared.open.fetch_sub(1, Ordering::SeqCst);
            } else {
                seen.refused += 1;
            }
        }
    }
}

/// Those of these batches that are known, however many they are.
pub(crate) async fn known(coordinator: &ValkeyCoordinator, ids: &[BatchId]) -> Vec<Batch> {
    let mut batches = Vec::new();
    for page in ids.chunks(1_000) {
        batches.extend(coordinator.get_all(page.to_vec()).await.unwrap());
    }
    batches
}

/// That each batch was completed by one attempt and one settle.
pub(crate) async fn assert_once(coordinator: &ValkeyCoordinator, seen: &Seen) {
    let twice: Vec<_> = seen.settled.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "settled more than once: {twice:?}");
    let ids: Vec<_> = seen.registered.keys().map(|id| id.parse().unwrap()).collect();
    let batches = known(coordinator, &ids).await;
    assert_eq!(batches.len(), seen.registered.len(), "acknowledged and not known");
    for batch in batches {
        let (id, state, attempts) = (batch.spec.id, batch.state, batch.attempts);
        assert_eq!((state, attempts, batch.lost_leases), (State::Completed, 1, 0), "{id}");
    }
}

/// That the tokens of each batch only grow, and none was given twice.
pub(crate) fn assert_fences_grow(fences: &[(String, Fence)]) {
    let mut last: BTreeMap<&str, Fence> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for (id, fence) in fences {
        if let Some(before) = last.insert(id, *fence) {
            assert!(before < *fence, "{id}: {fence} after {before}");
        }
        if let Some(other) = all.insert(*fence, id) {
            panic!("{fence} was given for {other} and for {id}");
        }
    }
}

/// What every server and every way to it must do: register, wake, claim,
/// extend, settle, tell.
pub(crate) async fn quick_core(coordinator: &Arc<ValkeyCoordinator>, name: &str) {
    let id: BatchId = name.parse().unwrap();
    let filter = WatchFilter { ids: vec![id.clone()], ..WatchFilter::default() };
    let events = coordinator.watch(filter).await.unwrap();
    let waiting = {
        let coordinator = Arc::clone(coordinator);
        let wait = Duration::from_secs(30);
        let request = ClaimRequest { wait, ..request("worker", &format!("{name}-claim"), 1) };
        tokio::spawn(async move { coordinator.claim(request).await })
    };
    let parked = || async { waits(coordinator) || waiting.is_finished() };
    wait_until_async(DEADLINE, "the claim to wait", parked).await.unwrap();
    let registered = coordinator.register(vec![spec(name)]).await.unwrap();
    assert!(registered[0].created);
    let woken = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    let leases = woken.expect("a waiting claim is woken").unwrap().unwrap().leases;
    assert_eq!((leases.len(), &leases[0].spec.id), (1, &id));
    let (lease, progress, duration) = (reference(&leases[0]), None, None);
    let extension = Extension { lease, started: true, progress, duration };
    let extended = coordinator.extend(vec![extension]).await.unwrap();
    assert_eq!(extended[0].verdict, Verdict::Applied);
    let done = settle(&leases, Resolution::Completed);
    for verdict in [Verdict::Applied, Verdict::AlreadyDone] {
        let reply = coordinator.settle(done.clone()).await.unwrap();
        assert_eq!(reply.outcomes[0].verdict, verdict);
    }
    let told = events.take(3).map(|event| match event {
        Event::Changed(change) => change.to,
        Event::Missed(count) => panic!("{count} events were missed"),
    });
    let told = tokio::time::timeout(Duration::from_secs(10), told.collect::<Vec<_>>()).await;
    let expected = [State::Pending, State::Processing, State::Completed].map(Some);
    assert_eq!(told.expect("observers are told"), expected);
    let history = coordinator.history().await.unwrap();
    assert!(history.has(registered[0].position));
    let page = coordinator.list(ListFilter { prefix: name.to_owned(), ..ListFilter::default() });
    assert_eq!(page.await.unwrap().batches.len(), 1);
    assert!(counts(coordinator).await[&State::Completed] >= 1);
}

/// Whether any claim waits, by the metrics.
fn waits(coordinator: &ValkeyCoordinator) -> bool {
    let mut registry = Registry::default();
    coordinator.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && line.contains("waiting"));
    lines.any(|line| !line.ends_with(" 0"))
}
