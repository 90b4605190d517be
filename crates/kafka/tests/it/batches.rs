//! Chunks as batches of a store and its coordinator: what happens when their writer
//! dies in between, and when there are two.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int32Array, Int64Array, RecordBatch};
use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    Answer, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator,
    CoordinatorExt as _, Error, Event, Extended, Extension, ListFilter, Query, Registered,
    SettleReply, SettleRequest, WatchFilter,
};
use sheaf_flight::{Exposure, FlightRouter, Listener, Server, ServerHandle};
use sheaf_kafka::{BatchSink, BatchSinkOptions, TopicPartition, TopicRows, TopicSink as _};
use sheaf_proto::{Begin, Recording, TraceContext, Tracer};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{ClientPut, Durability, FlightClient, NAMESPACE, Options, Store, StoreHandler};

/// A coordinator of which a registration can be cut off, counted from now: before
/// or after it has had its effect.
struct Faulty {
    inner: Embedded,
    cut_before: AtomicU32,
    cut_after: AtomicU32,
}

impl Faulty {
    fn cut() -> Error {
        Error::Unavailable { problem: "was cut off".to_owned(), code: Code::Unavailable }
    }
}

/// Counts down to it.
fn is_now(count: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1)
}

#[async_trait]
impl Coordinator for Faulty {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        if is_now(&self.cut_before) {
            return Err(Faulty::cut());
        }
        let done = self.inner.register(specs).await;
        match is_now(&self.cut_after) {
            true => Err(Faulty::cut()),
            false => done,
        }
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
        self.inner.query(query).await
    }

    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        self.inner.control(control).await
    }

    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        self.inner.watch(filter).await
    }
}

/// A store behind a Flight port, and a coordinator.
struct Site {
    coordinator: Arc<Faulty>,
    store: FlightClient,
    _server: ServerHandle,
}

impl Site {
    async fn start() -> Self {
        let clock = SystemClock::shared();
        let store = Store::open(Options::new(clock.clone())).await.unwrap();
        let handler = StoreHandler::new(store, Durability::Memory);
        let router = FlightRouter::builder().handler(NAMESPACE, Arc::new(handler)).build().unwrap();
        let listener = Listener::bind("127.0.0.1:0", "the port", Exposure::Loopback).unwrap();
        let server = Server::new(router).serve(listener).await.unwrap();
        let store = FlightClient::connect(&server.uri(), clock.clone()).unwrap();
        let inner = Embedded::open(Config::memory(), clock).unwrap();
        let [cut_before, cut_after] = [0, 0].map(AtomicU32::new);
        let coordinator = Arc::new(Faulty { inner, cut_before, cut_after });
        Site { coordinator, store, _server: server }
    }

    /// A member of the group that has got the partition, where it was committed.
    async fn member(&self, committed: i64) -> (BatchSink, i64) {
        let coordinator = self.coordinator.clone();
        let options = BatchSinkOptions::new("g");
        let sink = BatchSink::new(self.store.clone(), coordinator, options);
        let committed = BTreeMap::from([(of(), committed)]);
        let next = sink.claim(&[of()], &committed).await.unwrap()[&of()];
        (sink, next)
    }

    /// The offsets in the batches of a queue, in order.
    async fn offsets(&self, queue: &str) -> Vec<i64> {
        let filter = ListFilter { queue: Some(queue.to_owned()), ..ListFilter::default() };
        let page = self.coordinator.list(filter).await.unwrap();
        let mut all = Vec::new();
        for batch in page.batches {
            let rows = self.store.get_batch(&batch.spec.id).await.unwrap();
            assert_eq!(rows.num_rows() as u64, batch.spec.rows, "{}", batch.spec.id);
            let offsets = rows.column_by_name("_offset").unwrap();
            all.extend_from_slice(offsets.as_primitive::<Int64Type>().values());
        }
        all.sort_unstable();
        all
    }
}

fn of() -> TopicPartition {
    TopicPartition { topic: "orders".into(), partition: 3 }
}

/// Every seventh message is a dead letter.
fn chunk(offsets: std::ops::Range<i64>) -> TopicRows {
    let rows = |is_dead: bool| {
        let offsets = offsets.clone().filter(|offset| (offset % 7 == 5) == is_dead);
        let offsets = Int64Array::from_iter_values(offsets);
        let partitions = Int32Array::from_iter_values(offsets.values().iter().map(|_| 3));
        let columns = [
            ("n", Arc::new(offsets.clone()) as _),
            ("_partition", Arc::new(partitions) as _),
            ("_offset", Arc::new(offsets) as _),
        ];
        Some(RecordBatch::try_from_iter(columns).unwrap()).filter(|rows| rows.num_rows() > 0)
    };
    TopicRows { of: of(), rows: rows(false), dead_letters: rows(true), end: offsets.end }
}

fn expected(offsets: std::ops::Range<i64>, is_dead: bool) -> Vec<i64> {
    offsets.filter(|offset| (offset % 7 == 5) == is_dead).collect()
}

async fn assert_once(site: &Site, offsets: std::ops::Range<i64>) {
    assert_eq!(site.offsets("default").await, expected(offsets.clone(), false));
    assert_eq!(site.offsets("default.dead-letters").await, expected(offsets, true));
}

#[tokio::test]
async fn a_start_goes_on_behind_the_batches_that_were_not_committed() {
    let site = Site::start().await;
    let (sink, next) = site.member(0).await;
    assert_eq!(next, 0);
    assert_eq!(sink.append(&[chunk(0..20), chunk(20..30)]).await.unwrap(), 26);
    // Without rows, which is a link of the chain too.
    assert_eq!(sink.append(&[chunk(33..34)]).await.unwrap(), 0);
    let (again, next) = site.member(20).await;
    assert_eq!(next, 34);
    again.append(&[chunk(34..40)]).await.unwrap();
    assert_eq!(site.member(0).await.1, 40);
    assert_eq!(site.member(25).await.1, 25, "only ends of batches are committed");
}

#[tokio::test]
async fn what_was_stored_and_not_registered_is_taken_up() {
    let site = Site::start().await;
    let (sink, _) = site.member(0).await;
    // The first one is that of dead letters.
    site.coordinator.cut_before.store(2, Ordering::SeqCst);
    let error = sink.append(&[chunk(0..20), chunk(20..30)]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(site.offsets("default").await.is_empty());
    drop(sink);
    let (again, next) = site.member(0).await;
    assert_eq!(next, 30);
    again.append(&[chunk(30..40)]).await.unwrap();
    assert_once(&site, 0..40).await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let site = Site::start().await;
    let (sink, _) = site.member(0).await;
    let Faulty { cut_before, cut_after, .. } = &*site.coordinator;
    let cases = [(cut_before, 1), (cut_after, 1), (cut_before, 2), (cut_after, 2)];
    for (number, (cut, at)) in (0..).zip(cases) {
        cut.store(at, Ordering::SeqCst);
        let chunks = [chunk(10 * number..10 * number + 10)];
        sink.append(&chunks).await.unwrap_err();
        sink.append(&chunks).await.unwrap();
    }
    assert_once(&site, 0..40).await;
}

#[tokio::test]
async fn who_comes_second_goes_on_behind_the_first() {
    let site = Site::start().await;
    let ((slow, _), (quick, _)) = (site.member(0).await, site.member(0).await);
    quick.append(&[chunk(0..15)]).await.unwrap();
    quick.append(&[chunk(15..30)]).await.unwrap();
    let late = chunk(0..20);
    let error = slow.append(std::slice::from_ref(&late)).await.unwrap_err();
    assert_eq!(error.code(), Code::StaleFence, "{error}");
    let next = slow.claim(&[of()], &BTreeMap::new()).await.unwrap()[&of()];
    assert_eq!(next, 30);
    slow.append(&[chunk(20..40).beyond(next)]).await.unwrap();
    let error = quick.append(&[chunk(30..35)]).await.unwrap_err();
    assert_eq!(error.code(), Code::StaleFence, "{error}");
    assert_once(&site, 0..40).await;
}

#[tokio::test]
async fn dead_letters_whose_rows_never_came_are_there_once() {
    let site = Site::start().await;
    let (sink, _) = site.member(0).await;
    // It dies when they are stored, and nothing else is.
    site.coordinator.cut_before.store(1, Ordering::SeqCst);
    sink.append(&[chunk(0..30)]).await.unwrap_err();
    assert!(site.store.get_batch(&"g:orders.dead-letters:3:5".parse().unwrap()).await.is_ok());
    drop(sink);
    let (again, next) = site.member(0).await;
    assert_eq!(next, 0);
    // One of them has nothing but dead letters.
    for offsets in [0..5, 5..6, 6..25, 25..41] {
        again.append(&[chunk(offsets)]).await.unwrap();
    }
    assert_once(&site, 0..41).await;
}

/// Records nothing, and gives each span an identifier.
#[derive(Debug)]
struct Unsampled;

impl Tracer for Unsampled {
    fn start(&self, begin: Begin<'_>) -> (Option<TraceContext>, Option<Box<dyn Recording>>) {
        assert_eq!((begin.name, begin.of, begin.parent), ("ingest", "orders", None));
        (TraceContext::new([7; 16], [8; 8], false), None)
    }
}

#[tokio::test]
async fn the_trace_of_a_batch_begins_where_it_is_put() {
    let site = Site::start().await;
    let mut options = BatchSinkOptions::new("g");
    options.tracer = Some(Arc::new(Unsampled));
    let sink = BatchSink::new(site.store.clone(), site.coordinator.clone(), options);
    sink.claim(&[of()], &BTreeMap::from([(of(), 0)])).await.unwrap();
    sink.append(&[chunk(0..4)]).await.unwrap();
    let page = site.coordinator.list(ListFilter::default()).await.unwrap();
    let rows = page.batches.iter().find(|batch| batch.spec.id.as_str() == "g:orders:3:0").unwrap();
    let expected = TraceContext::new([7; 16], [8; 8], false).unwrap();
    assert_eq!(rows.spec.trace_context, expected.to_string());
}

#[tokio::test]
async fn batches_of_others_are_named() {
    let site = Site::start().await;
    site.coordinator.register(vec![BatchSpec::new("g:orders:3:7".parse().unwrap())]).await.unwrap();
    let rows = chunk(0..4).rows.unwrap();
    let put = ClientPut::default();
    let id = "g:orders:3:8".parse().unwrap();
    site.store.put(Some(&id), rows.schema(), &[rows], put).await.unwrap();
    let options = BatchSinkOptions::new("g");
    let sink = BatchSink::new(site.store.clone(), site.coordinator.clone(), options);
    for (committed, id) in [(7, "g:orders:3:7"), (8, "g:orders:3:8")] {
        let committed = BTreeMap::from([(of(), committed)]);
        let error = sink.claim(&[of()], &committed).await.unwrap_err().to_string();
        assert!(error.contains(id) && error.contains("--group"), "{error}");
    }
}
