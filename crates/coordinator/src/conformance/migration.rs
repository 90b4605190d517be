//! Whether a state is the same after it was moved, also where that was cut off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_retry::{Code, SharedClock, SystemClock};

use super::{Calls, code, extension, failure, id, is, names, outcome, reference, request, spec};
use crate::contract::{Coordinator, Error};
use crate::ext::CoordinatorExt as _;
use crate::migration::{
    Endpoint, Head, Migration, Options, Phase, Record, abandon, difference, migrate,
};
use crate::model::{Batch, BatchSpec, Fence, OnParentFailure, Progress, Resolution, State};
use crate::policy::QueuePolicy;
use crate::request::{
    Answer, ClaimRequest, Control, Direction, Lease, LineageQuery, ListFilter, Position,
    PurgeFilter, Query, QueueStats, Registered, Verdict,
};

/// Makes pairs of coordinators, of which one is moved to where the other will be.
#[async_trait]
pub trait Pair: Send + Sync {
    /// A new source, and room for a new target.
    async fn source(&self) -> Arc<dyn Coordinator>;

    /// The source again, after something ended a migration.
    async fn again(&self) -> Result<Arc<dyn Coordinator>, Error>;

    /// What was moved.
    async fn target(&self) -> Result<Arc<dyn Coordinator>, Error>;

    /// Ends every coordinator that has one of the two open for itself.
    async fn close(&self);

    /// Both sides, opened to move.
    async fn endpoints(&self) -> (Box<dyn Endpoint>, Box<dyn Endpoint>);
}

const HOUR: Duration = Duration::from_secs(3_600);

fn options() -> Options {
    Options { id: "migration-1".to_owned(), drain_for: Duration::ZERO, replace: false }
}

/// What was there before.
struct Marks {
    batches: BTreeMap<String, Batch>,
    order: Vec<String>,
    stats: BTreeMap<String, QueueStats>,
    positions: Vec<Position>,
    started: Lease,
    fresh: Lease,
    failed: Lease,
    done: Lease,
}

/// Moves a state, cut off at every call of an endpoint in turn: before it had an
/// effect, and after it. Gone on with, what arrives is what was there.
///
/// # Panics
/// Where it is not.
pub async fn run(pair: &dyn Pair) {
    for cut in 0.. {
        let marks = populate(pair).await;
        let left = Arc::new(AtomicU32::new(cut));
        let mut result = move_once(pair, &left).await;
        let was_cut = result.is_err();
        if was_cut {
            refused_halfway(pair).await;
            result = move_once(pair, &Arc::new(AtomicU32::new(u32::MAX))).await;
        }
        let summary = result.unwrap_or_else(|error| panic!("cut {cut}: {error:?}"));
        assert!(was_cut || !summary.is_resumed, "cut {cut}");
        let refusal = code(pair.again().await.map(drop));
        assert_eq!(refusal, Code::FailedPrecondition, "the source is given up");
        check(pair.target().await.unwrap(), &marks).await;
        pair.close().await;
        if !was_cut {
            return;
        }
    }
}

/// Gives a migration up that was cut off at every call in turn: the source goes
/// on as it was, and the target is empty.
///
/// # Panics
/// Where they do not.
pub async fn run_abandoned(pair: &dyn Pair) {
    for cut in 0.. {
        let marks = populate(pair).await;
        let left = Arc::new(AtomicU32::new(cut));
        match move_once(pair, &left).await {
            Ok(_) => break,
            Err(Error::Unavailable { .. }) => {}
            Err(error) => panic!("cut {cut}: {error:?}"),
        }
        let (mut from, mut to) = pair.endpoints().await;
        match from.phase().await.unwrap() {
            Phase::Serving => {}
            Phase::Moved(_) => {
                let refused = abandon(&mut *from, &mut *to).await;
                assert_eq!(code(refused), Code::FailedPrecondition);
                continue;
            }
            _ => {
                abandon(&mut *from, &mut *to).await.unwrap();
                let twice = abandon(&mut *from, &mut *to).await;
                assert_eq!(code(twice), Code::FailedPrecondition, "there is none any more");
            }
        }
        drop((from, to));
        check(pair.again().await.unwrap(), &marks).await;
        let target = Calls(pair.target().await.unwrap());
        assert_eq!(target.0.list(ListFilter::default()).await.unwrap().batches, []);
        target.register(vec![spec("new")]).await;
        pair.close().await;
    }
}

async fn move_once(
    pair: &dyn Pair,
    left: &Arc<AtomicU32>,
) -> Result<crate::migration::Summary, Error> {
    let (from, to) = pair.endpoints().await;
    let (mut from, mut to) = (CutOff::new(from, left), CutOff::new(to, left));
    let clock: SharedClock = SystemClock::shared();
    migrate(&mut from, &mut to, &options(), &clock, &mut |_| {}).await
}

/// In no phase but its first and its last does either side answer calls.
async fn refused_halfway(pair: &dyn Pair) {
    let (mut from, mut to) = pair.endpoints().await;
    let phases = (from.phase().await.unwrap(), to.phase().await.unwrap());
    drop((from, to));
    if matches!(phases.0, Phase::Frozen(_) | Phase::Moved(_)) {
        assert!(pair.again().await.is_err(), "{phases:?}");
    }
    if matches!(phases.1, Phase::Filling(_)) {
        let refusal = code(pair.target().await.map(drop));
        assert_eq!(refusal, Code::Unavailable, "{phases:?}");
    }
    pair.close().await;
}

/// One of everything.
async fn populate(pair: &dyn Pair) -> Marks {
    let source = Calls(pair.source().await);
    let mut positions = Vec::new();
    let mut register = async |specs: Vec<BatchSpec>| {
        let registered = source.0.register(specs).await.unwrap();
        positions.extend(registered.iter().map(|one| one.position));
    };
    let waiting = |name: &str, on: &str| BatchSpec { depends_on: vec![id(on)], ..spec(name) };
    register(vec![
        // Before the one that it waits for.
        waiting("child", "started"),
        waiting("grandchild", "child"),
        spec("started"),
        spec("fresh"),
    ])
    .await;
    for (queue, name) in [("halted", "h"), ("capped", "c"), ("closing", "d"), ("gone", "g")] {
        register(vec![BatchSpec { queue: queue.to_owned(), ..spec(name) }]).await;
    }
    register(vec![BatchSpec { queue: "capped".to_owned(), ..spec("c2") }]).await;
    register(vec![
        BatchSpec { priority: 5, tenant: "a".to_owned(), ..spec("urgent") },
        BatchSpec { delay: HOUR, ..spec("delayed") },
        BatchSpec { expires_after: Some(HOUR), ..spec("expiring") },
        BatchSpec { dedup_key: "k".to_owned(), dedup_window: HOUR, ..spec("keyed") },
        BatchSpec { parents: vec![id("unknown")], retry: None, ..spec("made") },
        BatchSpec { locations: vec!["grpc://a:1".to_owned()], ..spec("placed") },
    ])
    .await;
    register(["plain", "done", "failed", "retried", "resting", "cancelled"].map(spec).to_vec())
        .await;
    register(vec![BatchSpec {
        on_parent_failure: OnParentFailure::Wait,
        ..waiting("patient", "failed")
    }])
    .await;
    for queue in ALIKE {
        register(alike(queue)).await;
    }
    let placed = BatchSpec { locations: vec!["grpc://b:2".to_owned()], ..spec("placed") };
    source.0.register(vec![placed]).await.unwrap();
    work_on_alike(&source).await;
    let [started, fresh, done, failed] = work(&source).await;
    for control in by_hand() {
        source.0.control(control).await.unwrap();
    }
    let listed = list(&source).await;
    let marks = Marks {
        order: listed.iter().map(|batch| batch.spec.id.to_string()).collect(),
        batches: listed.into_iter().map(|batch| (batch.spec.id.to_string(), batch)).collect(),
        stats: stats(&source).await,
        positions,
        started,
        fresh,
        failed,
        done,
    };
    drop(source);
    pair.close().await;
    marks
}

fn by_hand() -> [Control; 5] {
    [
        Control::Pause("halted".to_owned()),
        Control::Drain("closing".to_owned()),
        Control::Configure(
            "capped".to_owned(),
            QueuePolicy {
                max_leased: Some(1),
                max_live_bytes: Some(5_000),
                ..QueuePolicy::default()
            },
        ),
        Control::Cancel(vec![id("cancelled"), id("g")]),
        Control::Purge(PurgeFilter { queue: Some("gone".to_owned()), ..PurgeFilter::default() }),
    ]
}

/// Queues of batches that are alike: ready, under one lease, and completed together.
const ALIKE: [&str; 3] = ["many", "taken", "over"];

fn alike(queue: &str) -> Vec<BatchSpec> {
    let one = |n| BatchSpec { queue: queue.to_owned(), ..spec(&format!("{queue}{n}")) };
    (0..10).map(one).collect()
}

async fn work_on_alike(source: &Calls) {
    let all = |queue: &str| {
        let queues = vec![queue.to_owned()];
        ClaimRequest { queues, start: true, ..request(queue, 10) }
    };
    assert_eq!(source.claim(all("taken")).await.leases.len(), 10);
    let over = source.claim(all("over")).await.leases;
    let over = over.iter().map(|lease| outcome(lease, Resolution::Completed));
    source.settle(over.collect()).await;
}

/// Takes what is named, ends some of it, and answers the leases that are told of.
async fn work(source: &Calls) -> [Lease; 4] {
    let take = async |name: &str| {
        let named = ClaimRequest { ids: vec![id(name)], ..request(name, 1) };
        source.one(named).await
    };
    let started = take("started").await;
    let progress = Progress { rows_done: 3, rows_total: 10, note: "half".to_owned() };
    let told = crate::request::Extension { progress: Some(progress), ..extension(&started, true) };
    assert_eq!(source.0.extend(vec![told]).await.unwrap()[0].verdict, Verdict::Applied);
    let fresh = take("fresh").await;
    let done = take("done").await;
    let mut completed = outcome(&done, Resolution::Completed);
    let made = |name: &str| BatchSpec { parents: vec![id("done")], ..spec(name) };
    completed.outputs = vec![made("out1"), made("out2")];
    source.settle(vec![completed]).await;
    let failed = take("failed").await;
    let retried = take("retried").await;
    let resting = take("resting").await;
    let broken = |lease: &Lease, permanent| {
        let error = Some(failure(permanent));
        super::Outcome { error, ..outcome(lease, Resolution::Failed) }
    };
    let mut rests = outcome(&resting, Resolution::Released);
    (rests.delay, rests.error) = (HOUR, Some(failure(false)));
    source.settle(vec![broken(&failed, true), broken(&retried, false), rests]).await;
    [started, fresh, done, failed]
}

async fn list(calls: &Calls) -> Vec<Batch> {
    let filter = ListFilter { limit: 1_000, ..ListFilter::default() };
    calls.0.list(filter).await.unwrap().batches
}

async fn stats(calls: &Calls) -> BTreeMap<String, QueueStats> {
    let all = calls.stats().await.into_iter();
    all.map(|stats| (stats.queue.clone(), QueueStats { oldest_pending_at: None, ..stats }))
        .collect()
}

/// It is all there, and goes on.
async fn check(target: Arc<dyn Coordinator>, marks: &Marks) {
    let target = Calls(target);
    let listed = list(&target).await;
    let order: Vec<String> = listed.iter().map(|batch| batch.spec.id.to_string()).collect();
    assert_eq!(order, marks.order);
    for batch in listed {
        let before = &marks.batches[batch.spec.id.as_str()];
        assert_eq!(difference(&bare(before), &bare(&batch)), None, "{before:#?}\n{batch:#?}");
    }
    assert_eq!(stats(&target).await, marks.stats);
    let Answer::History(history) = target.0.query(Query::History).await.unwrap() else {
        panic!("a question for the history")
    };
    assert!(marks.positions.iter().all(|position| history.has(*position)), "{history:?}");
    let many = ClaimRequest { queues: vec!["many".to_owned()], ..request("many", 20) };
    assert_eq!(target.claim(many).await.leases.len(), 10);
    leases_stand(&target, marks).await;
    families_go_on(&target).await;
    queues_are_kept(&target).await;
    everything_is_worked_off(&target, marks).await;
}

fn bare(batch: &Batch) -> Record {
    Record { sequence: 1, batch: batch.clone(), expires_at: None, waits_for: Vec::new() }
}

async fn leases_stand(target: &Calls, marks: &Marks) {
    let again = ClaimRequest { ids: vec![id("fresh")], ..request("fresh", 1) };
    assert_eq!(target.one(again).await.fence, marks.fresh.fence, "it is answered alike");
    let extended = target.0.extend(vec![extension(&marks.started, true)]).await.unwrap();
    assert_eq!(extended[0].verdict, Verdict::Applied);
    is(
        &target.end(&marks.done, Resolution::Completed).await,
        Verdict::AlreadyDone,
        State::Completed,
    );
    is(&target.end(&marks.failed, Resolution::Completed).await, Verdict::Stale, State::Failed);
    is(
        &target.end(&marks.started, Resolution::Completed).await,
        Verdict::Applied,
        State::Completed,
    );
    let standing = target.0.query(Query::Recovery(vec![reference(&marks.fresh)])).await.unwrap();
    let Answer::Recovery(standing) = standing else { panic!("a question for leases") };
    assert_eq!(standing[0].standing, crate::request::Standing::Current);
}

async fn families_go_on(target: &Calls) {
    assert_eq!(target.state("child").await, State::Pending, "what it waited for has completed");
    assert_eq!(target.state("grandchild").await, State::Waiting);
    assert_eq!(target.state("patient").await, State::Waiting);
    target.0.control(Control::Requeue(vec![id("failed")])).await.unwrap();
    assert_eq!(target.state("failed").await, State::Pending);
    let query =
        LineageQuery { id: id("done"), direction: Direction::Descendants, depth: 0, limit: 0 };
    let Answer::Lineage(lineage) = target.0.query(Query::Lineage(query)).await.unwrap() else {
        panic!("a question for lineage")
    };
    let made: Vec<&str> = lineage.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(made, ["out1", "out2"]);
}

async fn queues_are_kept(target: &Calls) {
    let of = |queue: &str| ClaimRequest { queues: vec![queue.to_owned()], ..request(queue, 9) };
    assert_eq!(names(&target.claim(of("halted")).await.leases), Vec::<&str>::new());
    assert_eq!(target.claim(of("capped")).await.leases.len(), 1, "one at a time");
    let late = BatchSpec { queue: "closing".to_owned(), ..spec("late") };
    assert_eq!(code(target.0.register(vec![late]).await), Code::FailedPrecondition);
    let key = BatchSpec { dedup_key: "k".to_owned(), dedup_window: HOUR, ..spec("keyed-2") };
    let answers = target.0.register(vec![key, spec("plain")]).await.unwrap();
    let told = |one: &Registered| (one.id.to_string(), one.created);
    let told: Vec<(String, bool)> = answers.iter().map(told).collect();
    assert_eq!(told, [("keyed".to_owned(), false), ("plain".to_owned(), false)]);
}

/// By priority, then age; with tokens above all before.
async fn everything_is_worked_off(target: &Calls, marks: &Marks) {
    let before = marks.batches.values().map(|batch| batch.last_fence).max().unwrap_or(Fence(0));
    let mut seen = Vec::new();
    for round in 0.. {
        let claim = target.claim(request(&format!("all-{round}"), 100)).await;
        if claim.leases.is_empty() {
            break;
        }
        for lease in &claim.leases {
            assert!(lease.fence > before, "{} is above {before}", lease.fence);
            is(&target.end(lease, Resolution::Completed).await, Verdict::Applied, State::Completed);
            seen.push(lease.spec.id.to_string());
        }
    }
    assert_eq!(seen[..2], ["urgent", "child"], "{seen:?}");
    seen.sort_unstable();
    let mut expected = [
        "child",
        "expiring",
        "failed",
        "grandchild",
        "keyed",
        "made",
        "out1",
        "out2",
        "patient",
        "placed",
        "plain",
        "retried",
        "urgent",
    ]
    .to_vec();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

/// Fails once, at the call before which `left` calls of both sides were made: half
/// of the time before it has an effect, half after.
struct CutOff {
    inner: Box<dyn Endpoint>,
    left: Arc<AtomicU32>,
}

impl CutOff {
    fn new(inner: Box<dyn Endpoint>, left: &Arc<AtomicU32>) -> Self {
        CutOff { inner, left: Arc::clone(left) }
    }

    fn cut(&self) -> Result<(), Error> {
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left != u32::MAX).then(|| left.wrapping_sub(1))
        });
        if before != Ok(0) {
            return Ok(());
        }
        Err(Error::Unavailable { problem: "was cut off".to_owned(), code: Code::Unavailable })
    }
}

#[async_trait]
impl Endpoint for CutOff {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn phase(&mut self) -> Result<Phase, Error> {
        self.cut()?;
        let done = self.inner.phase().await?;
        self.cut()?;
        Ok(done)
    }

    async fn enter(&mut self, phase: &Phase) -> Result<(), Error> {
        self.cut()?;
        self.inner.enter(phase).await?;
        self.cut()
    }

    async fn head(&mut self) -> Result<Head, Error> {
        self.cut()?;
        let done = self.inner.head().await?;
        self.cut()?;
        Ok(done)
    }

    async fn read(&mut self, after: u64) -> Result<Vec<Record>, Error> {
        self.cut()?;
        // Few at a time, so that there are several parts.
        let mut done = self.inner.read(after).await?;
        done.truncate(8);
        Ok(done)
    }

    async fn fill(&mut self, migration: &Migration, head: &Head) -> Result<u64, Error> {
        self.cut()?;
        let done = self.inner.fill(migration, head).await?;
        self.cut()?;
        Ok(done)
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        self.cut()?;
        self.inner.write(records).await?;
        self.cut()
    }

    async fn sync(&mut self) -> Result<(), Error> {
        self.cut()?;
        self.inner.sync().await
    }

    async fn discard(&mut self) -> Result<(), Error> {
        self.cut()?;
        self.inner.discard().await
    }
}
