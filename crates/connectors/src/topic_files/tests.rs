//! Every offset once, wherever a writer dies and whoever else writes.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, record_batch};
use async_trait::async_trait;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sheaf_retry::{Code, Retryable as _, SystemClock};

use super::blobs::Tail;
use super::*;

const TOPIC: &str = "orders";
const LETTERS: &str = "orders.dead-letters";
const GROUP: &str = "group";

/// Both kinds of places, empty; the folder of one goes with the value beside.
async fn places() -> Vec<(Arc<dyn Blobs>, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let local = local::Local::open(dir.path(), SystemClock::shared()).await.unwrap();
    let mut places: Vec<(Arc<dyn Blobs>, _)> = vec![(Arc::new(local), Some(dir))];
    #[cfg(feature = "s3")]
    {
        let store = Arc::new(object_store::memory::InMemory::new());
        places.push((Arc::new(bucket::Bucket::on(store, "lake")), None));
    }
    places
}

/// Lets so many changes through, then the process is dead: the last one may have
/// been done, but nobody hears of it.
#[derive(Debug)]
struct Dying {
    inner: Arc<dyn Blobs>,
    left: AtomicUsize,
    last_is_done: bool,
}

impl Dying {
    fn on(inner: &Arc<dyn Blobs>, left: usize, last_is_done: bool) -> Arc<dyn Blobs> {
        let (inner, left) = (Arc::clone(inner), AtomicUsize::new(left));
        Arc::new(Dying { inner, left, last_is_done })
    }

    async fn change<T>(&self, change: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let dead = || Error::external("reach", "the place", Code::Unavailable, "killed");
        let step = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Err(_) => Err(dead()),
            Ok(1) if !self.last_is_done => Err(dead()),
            Ok(1) => change.await.and(Err(dead())),
            Ok(_) => change.await,
        }
    }
}

#[async_trait]
impl Blobs for Dying {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error> {
        self.change(self.inner.create(name, bytes)).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.inner.read(name).await
    }

    async fn tail(&self, name: &str, most: u64) -> Result<Option<Tail>, Error> {
        self.inner.tail(name, most).await
    }

    async fn newest(&self, folder: &str) -> Result<Option<i64>, Error> {
        self.inner.newest(folder).await
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        self.inner.names(folder).await
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        self.change(self.inner.remove(name)).await
    }

    fn place(&self, name: &str) -> String {
        self.inner.place(name)
    }
}

/// Messages from one offset to another. Which of them are dead letters is another
/// matter with each run, as where columns are inferred.
fn span(run: i64, from: i64, to: i64) -> Span {
    let (dead, rows): (Vec<i64>, Vec<i64>) = (from..to).partition(|n| (n + run) % 5 == 0);
    let batch = |offsets: Vec<i64>| {
        let offsets = Int64Array::from(offsets);
        let empty = record_batch!(("_offset", Int64, [0])).unwrap();
        RecordBatch::try_new(empty.schema(), vec![Arc::new(offsets)]).unwrap()
    };
    let beside = (!dead.is_empty()).then(|| (LETTERS.to_owned(), vec![batch(dead)]));
    let rows = vec![batch(rows)];
    Span { topic: TOPIC.to_owned(), partition: 3, first: from, end: to, rows, beside }
}

fn of(topic: &str) -> Partition {
    Partition::new(topic, 3).unwrap()
}

async fn claimed(files: &TopicFiles) -> Result<Option<i64>, Error> {
    let known = files.claim(&[(TOPIC.to_owned(), 3)]).await?;
    Ok(known.first().map(|position| position.next_offset))
}

/// Goes on from where the partition is, in steps; the error that ends it.
async fn run(blobs: Arc<dyn Blobs>, run: i64, step: i64, to: i64) -> Result<(), Error> {
    let files = TopicFiles::on(blobs, GROUP).await?;
    let mut at = claimed(&files).await?.unwrap_or(0);
    while at < to {
        let end = (at + step).min(to);
        files.append(vec![span(run, at, end)]).await?;
        at = end;
    }
    Ok(())
}

/// The offsets of a stream, in the order of its files.
async fn offsets(blobs: &dyn Blobs, topic: &str) -> Vec<i64> {
    let mut names = blobs.names(&of(topic).folder()).await.unwrap();
    names.sort();
    let mut offsets = Vec::new();
    for name in names.iter().filter(|name| names::start_of(name).is_some()) {
        let name = format!("{}/{name}", of(topic).folder());
        let bytes = blobs.read(&name).await.unwrap().unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            offsets.extend(batch.column(0).as_primitive::<Int64Type>().values());
        }
    }
    offsets
}

/// The files of the partition join, and every offset is in one of the two streams,
/// once; nothing waits any more.
async fn assert_exact(blobs: &dyn Blobs, to: i64, what: &str) {
    let (rows, dead) = (offsets(blobs, TOPIC).await, offsets(blobs, LETTERS).await);
    assert!(rows.is_sorted() && dead.is_sorted(), "{what}: {rows:?} {dead:?}");
    let mut all = [rows, dead].concat();
    all.sort_unstable();
    assert_eq!(all, (0..to).collect::<Vec<_>>(), "{what}");
    let mut at = 0;
    while at < to {
        at = Link::read(blobs, &of(TOPIC), at, GROUP).await.unwrap().end;
    }
    let waiting = blobs.names(&of(TOPIC).pending()).await.unwrap();
    assert_eq!(waiting, Vec::<String>::new(), "{what}");
}

/// Two writers die, each at every step, before and after it was carried out; a third
/// one finishes. Each reads the messages in other pieces.
#[tokio::test]
async fn every_offset_is_there_once_wherever_writers_die() {
    let mut steps = 0;
    for (first, is_done) in (1..).flat_map(|at| [(at, false), (at, true)]) {
        let mut is_over = false;
        for second in [1, 2, 3, 5] {
            for (blobs, _dir) in places().await {
                let what = format!("{first} {is_done} {second} {blobs:?}");
                let died = run(Dying::on(&blobs, first, is_done), 0, 4, 12).await;
                is_over = died.is_ok();
                // The answer of a dead one is never good.
                drop(run(Dying::on(&blobs, second, !is_done), 1, 3, 14).await);
                run(Arc::clone(&blobs), 2, 5, 20).await.unwrap();
                let files = TopicFiles::on(Arc::clone(&blobs), GROUP).await.unwrap();
                assert_eq!(claimed(&files).await.unwrap(), Some(20), "{what}");
                assert_exact(blobs.as_ref(), 20, &what).await;
            }
            steps += 1;
        }
        if is_over {
            break;
        }
    }
    // Three spans of four changes each, and the two that begin.
    assert!(steps > 4 * 2 * 12, "{steps}");
}

/// Gives way now and then, and fails now and then, as a network does.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Blobs>,
    state: AtomicUsize,
}

impl Flaky {
    fn next(&self, of: usize) -> usize {
        let step = |state: usize| {
            Some(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        };
        let state = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
        (state.unwrap_or(0) >> 33) % of
    }

    async fn change<T>(&self, change: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        for _ in 0..self.next(4) {
            tokio::task::yield_now().await;
        }
        let lost = Err(Error::external("reach", "the place", Code::Unavailable, "flaky"));
        match self.next(12) {
            0 => lost,
            1 => change.await.and(lost),
            _ => change.await,
        }
    }
}

#[async_trait]
impl Blobs for Flaky {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error> {
        self.change(self.inner.create(name, bytes)).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.change(self.inner.read(name)).await
    }

    async fn tail(&self, name: &str, most: u64) -> Result<Option<Tail>, Error> {
        self.change(self.inner.tail(name, most)).await
    }

    async fn newest(&self, folder: &str) -> Result<Option<i64>, Error> {
        self.change(self.inner.newest(folder)).await
    }

    async fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        self.change(self.inner.names(folder)).await
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        self.change(self.inner.remove(name)).await
    }

    fn place(&self, name: &str) -> String {
        self.inner.place(name)
    }
}

/// Goes on until all is there, whatever happens, as the gateway does: fenced, it
/// claims; else it does the same again.
async fn persistent(blobs: Arc<dyn Blobs>, run: i64, to: i64) {
    let flaky = Arc::new(Flaky {
        inner: blobs,
        state: AtomicUsize::new(usize::try_from(run).unwrap() * 7 + 1),
    });
    let files = loop {
        if let Ok(files) = TopicFiles::on(flaky.clone(), GROUP).await {
            break files;
        }
    };
    let claim = async || loop {
        match claimed(&files).await {
            Ok(place) => return place.unwrap_or(0),
            Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
        }
    };
    let mut at = claim().await;
    while at < to {
        let end = (at + 1 + i64::try_from(flaky.next(5)).unwrap()).min(to);
        let span = span(run, at, end);
        at = loop {
            match files.append(vec![span.clone()]).await {
                Ok(_) => break end,
                Err(error) if error.code() == Code::StaleFence => break claim().await,
                Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
            }
        };
    }
}

#[tokio::test]
async fn every_offset_is_there_once_whoever_else_writes() {
    for seed in 0..30_i64 {
        for (blobs, _dir) in places().await {
            let writer = |run: i64| persistent(Arc::clone(&blobs), seed * 3 + run, 40);
            tokio::join!(writer(0), writer(1), writer(2));
            // What is pending of those that lost goes with the next claim.
            run(Arc::clone(&blobs), 0, 1, 41).await.unwrap();
            run(Arc::clone(&blobs), 0, 1, 41).await.unwrap();
            assert_exact(blobs.as_ref(), 41, &format!("{seed} {blobs:?}")).await;
        }
    }
}

#[tokio::test]
async fn who_comes_second_takes_up_nothing_until_it_claims() {
    for (blobs, _dir) in places().await {
        let open = || TopicFiles::on(Arc::clone(&blobs), GROUP);
        let (first, second) = (open().await.unwrap(), open().await.unwrap());
        assert_eq!(claimed(&first).await.unwrap(), None);
        assert_eq!(first.append(vec![span(0, 0, 5), span(0, 5, 7)]).await.unwrap(), 7);
        // It has not claimed, so that it believes that there is nothing.
        for _ in 0..2 {
            let error = second.append(vec![span(1, 0, 4)]).await.unwrap_err();
            assert_eq!(error.code(), Code::StaleFence, "{error}");
        }
        assert_eq!(claimed(&second).await.unwrap(), Some(7));
        assert_eq!(second.append(vec![span(1, 5, 7), span(1, 7, 9)]).await.unwrap(), 2);
        let error = first.append(vec![span(0, 7, 12)]).await.unwrap_err();
        assert_eq!(error.code(), Code::StaleFence, "{error}");
        assert_eq!(claimed(&first).await.unwrap(), Some(9));
        assert_eq!(first.append(vec![span(0, 9, 10)]).await.unwrap(), 1);
        assert_exact(blobs.as_ref(), 10, "").await;
    }
}

#[tokio::test]
async fn a_beginning_outlives_its_writer_and_is_nobody_elses() {
    for (blobs, _dir) in places().await {
        let position =
            |next_offset| Position { topic: TOPIC.to_owned(), partition: 3, next_offset };
        let open = || TopicFiles::on(Arc::clone(&blobs), GROUP);
        let files = open().await.unwrap();
        files.begin(&[position(0)]).await.unwrap();
        // An answer may be lost.
        files.begin(&[position(0)]).await.unwrap();
        let other = open().await.unwrap();
        let error = other.begin(&[position(6)]).await.unwrap_err();
        assert_eq!(error.code(), Code::StaleFence);
        assert_eq!(claimed(&other).await.unwrap(), Some(0));
        other.append(vec![span(0, 0, 3)]).await.unwrap();
        assert_eq!(claimed(&open().await.unwrap()).await.unwrap(), Some(3));
    }
}

#[tokio::test]
async fn another_group_and_a_newer_version_are_told() {
    for (blobs, _dir) in places().await {
        run(Arc::clone(&blobs), 0, 5, 5).await.unwrap();
        let other = TopicFiles::on(Arc::clone(&blobs), "other").await.unwrap();
        let error = claimed(&other).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        let name = format!("{}/format.json", names::OURS);
        blobs.remove(&name).await.unwrap();
        assert!(blobs.create(&name, Bytes::from_static(b"{\"version\":2}")).await.unwrap());
        let error = TopicFiles::on(Arc::clone(&blobs), GROUP).await.unwrap_err();
        assert_eq!(error.code(), Code::FormatNewer, "{error}");
    }
}

/// A server that does not know conditional writes would lose messages.
#[tokio::test]
async fn a_place_that_replaces_what_is_there_is_refused() {
    #[derive(Debug)]
    struct Replacing(Arc<dyn Blobs>);

    #[async_trait]
    impl Blobs for Replacing {
        async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Error> {
            self.0.remove(name).await?;
            self.0.create(name, bytes).await
        }

        async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
            self.0.read(name).await
        }

        async fn tail(&self, name: &str, most: u64) -> Result<Option<Tail>, Error> {
            self.0.tail(name, most).await
        }

        async fn newest(&self, folder: &str) -> Result<Option<i64>, Error> {
            self.0.newest(folder).await
        }

        async fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
            self.0.names(folder).await
        }

        async fn remove(&self, name: &str) -> Result<(), Error> {
            self.0.remove(name).await
        }

        fn place(&self, name: &str) -> String {
            self.0.place(name)
        }
    }

    for (blobs, _dir) in places().await {
        for _ in 0..2 {
            let replacing = Arc::new(Replacing(Arc::clone(&blobs)));
            let error = TopicFiles::on(replacing, GROUP).await.unwrap_err();
            assert_eq!(error.code(), Code::Unimplemented, "{error}");
        }
    }
}

/// A footer that is longer than what is read of a file at first.
#[tokio::test]
async fn a_long_footer_is_read_whole() {
    for (blobs, _dir) in places().await {
        let files = TopicFiles::on(Arc::clone(&blobs), &"g".repeat(200_000)).await.unwrap();
        files.append(vec![span(0, 0, 5)]).await.unwrap();
        assert_eq!(claimed(&files).await.unwrap(), Some(5));
    }
}
