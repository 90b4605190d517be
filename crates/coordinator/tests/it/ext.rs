//! Typed questions and waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    Answer, Batch, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator,
    CoordinatorExt as _, Error, Event, Extended, Extension, LeaseRef, ListFilter, Query,
    Registered, SettleReply, SettleRequest, Standing, State, WatchFilter,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, ManualClock, Retryable as _, SharedClock, SystemClock, Timestamp};

/// Only bounds how long a broken wait hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn id(name: &str) -> BatchId {
    name.parse().unwrap()
}

fn embedded(watch_buffer: usize) -> Arc<Embedded> {
    let config = Config { watch_buffer, ..Config::memory() };
    Arc::new(Embedded::open(config, SystemClock::shared()).unwrap())
}

async fn register(coordinator: &dyn Coordinator, names: &[&str]) {
    coordinator.register(names.iter().map(|name| super::spec(name)).collect()).await.unwrap();
}

async fn cancel(coordinator: &dyn Coordinator, name: &str) {
    coordinator.control(Control::Cancel(vec![id(name)])).await.unwrap();
}

/// Does something after each answer to a question, before it is given.
struct Meddling<F> {
    inner: Arc<Embedded>,
    queries: AtomicUsize,
    then: F,
}

#[async_trait]
impl<F, R> Coordinator for Meddling<F>
where
    F: Fn(Arc<Embedded>, usize) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        self.inner.register(specs).await
    }
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        self.inner.claim(request).await
    }
    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error> {
        self.inner.settle(request).await
    }
    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        self.inner.extend(leases).await
    }
    async fn query(&self, query: Query) -> Result<Answer, Error> {
        let answer = self.inner.query(query).await;
        let number = self.queries.fetch_add(1, Ordering::SeqCst) + 1;
        (self.then)(Arc::clone(&self.inner), number).await;
        answer
    }
    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        self.inner.control(control).await
    }
    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        self.inner.watch(filter).await
    }
}

#[tokio::test]
async fn questions_have_answers_of_their_type() {
    let embedded = embedded(16);
    register(&*embedded, &["a", "b"]).await;
    let coordinator: Arc<dyn Coordinator> = embedded;
    let claim = coordinator.claim(super::claim("r", 1)).await.unwrap();
    assert_eq!(coordinator.get(&id("a")).await.unwrap().unwrap().state, State::Processing);
    assert!(coordinator.get(&id("x")).await.unwrap().is_none());
    assert_eq!(coordinator.get_all(vec![id("b"), id("x")]).await.unwrap().len(), 1);
    let filter = ListFilter { states: vec![State::Pending], ..ListFilter::default() };
    assert_eq!(coordinator.list(filter).await.unwrap().batches[0].spec.id, id("b"));
    let stats = coordinator.stats(Some("default")).await.unwrap();
    assert_eq!(stats[0].counts[&State::Processing], 1);
    let lease = LeaseRef { id: id("a"), fence: claim.leases[0].fence };
    let recovered = coordinator.recovery(vec![lease]).await.unwrap();
    assert_eq!(recovered[0].standing, Standing::Current);
}

/// The batches end right after the look that still saw them open: whoever
/// looks first and watches then waits for ever.
#[tokio::test]
async fn what_ends_just_after_the_look_is_not_missed() {
    let clock = SystemClock::shared();
    let then = |inner: Arc<Embedded>, number| async move {
        if number == 1 {
            cancel(&*inner, "a").await;
            cancel(&*inner, "b").await;
        }
    };
    for idle in [false, true] {
        let inner = embedded(16);
        register(&*inner, &["a", "b"]).await;
        let meddling = Meddling { inner, queries: AtomicUsize::new(0), then };
        if idle {
            let stats = meddling.wait_idle("default", &clock, PATIENCE).await.unwrap();
            assert_eq!(stats.counts[&State::Cancelled], 2);
        } else {
            let asked = [id("b"), id("a")];
            let ended = meddling.wait(&asked, &clock, PATIENCE).await.unwrap();
            let named = ended.iter().map(|batch| batch.spec.id.clone());
            assert!(named.eq(asked), "in the order asked");
        }
        assert_eq!(meddling.queries.into_inner(), 2, "one look before, one after, no polling");
    }
}

/// The reader holds fewer events than there are ends, and nobody calls the
/// coordinator afterwards.
#[tokio::test]
async fn missed_events_are_made_up_for_by_another_look() {
    let clock = SystemClock::shared();
    let names: Vec<String> = (0..50).map(|n| format!("b{n}")).collect();
    let then = |inner: Arc<Embedded>, number| async move {
        for n in (0..50).filter(|_| number == 1) {
            cancel(&*inner, &format!("b{n}")).await;
        }
    };
    let inner = embedded(1);
    register(&*inner, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let meddling = Meddling { inner, queries: AtomicUsize::new(0), then };
    let ids: Vec<BatchId> = names.iter().map(|name| id(name)).collect();
    let ended = meddling.wait(&ids, &clock, PATIENCE).await.unwrap();
    assert!(ended.iter().all(|batch: &Batch| batch.state == State::Cancelled));
}

#[tokio::test]
async fn a_requeued_batch_is_waited_for_again() {
    let clock = SystemClock::shared();
    let then = |inner: Arc<Embedded>, number| async move {
        match number {
            1 => {
                // Two ends, and still one batch that has not ended.
                cancel(&*inner, "a").await;
                inner.control(Control::Requeue(vec![id("a")])).await.unwrap();
                cancel(&*inner, "a").await;
            }
            2 => cancel(&*inner, "b").await,
            _ => {}
        }
    };
    let inner = embedded(16);
    register(&*inner, &["a", "b"]).await;
    let meddling = Meddling { inner, queries: AtomicUsize::new(0), then };
    let ended = meddling.wait(&[id("a"), id("b")], &clock, PATIENCE).await.unwrap();
    assert!(ended.iter().all(|batch| batch.state == State::Cancelled));
}

#[tokio::test]
async fn a_wait_ends_at_its_deadline_with_the_coordinator_and_at_what_is_not_there() {
    let manual = ManualClock::new(Timestamp::from_millis(1_000_000));
    let clock: SharedClock = manual.clone();
    let coordinator = embedded(16);
    register(&*coordinator, &["a", "b"]).await;
    cancel(&*coordinator, "b").await;

    let unknown = coordinator.wait(&[id("b"), id("x")], &clock, PATIENCE).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(coordinator.wait(&[], &clock, PATIENCE).await.unwrap().is_empty());
    let other = coordinator.wait_idle("other", &clock, PATIENCE).await.unwrap();
    assert_eq!(other.queue, "other");

    let ids = [id("b"), id("a")];
    let late = async {
        tokio::join!(
            coordinator.wait(&ids, &clock, PATIENCE),
            coordinator.wait_idle("", &clock, PATIENCE),
            async {
                while manual.sleepers() < 2 {
                    tokio::task::yield_now().await;
                }
                manual.advance(PATIENCE);
            }
        )
    };
    let (batches, idle, ()) = tokio::time::timeout(PATIENCE, late).await.unwrap();
    for error in [batches.unwrap_err(), idle.unwrap_err()] {
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    }

    let closing = async { coordinator.close().await.unwrap() };
    let (ended, ()) = tokio::join!(coordinator.wait(&ids, &clock, PATIENCE), closing);
    let code = ended.unwrap_err().code();
    assert!(matches!(code, Code::Unavailable | Code::Draining), "{code}");
}
