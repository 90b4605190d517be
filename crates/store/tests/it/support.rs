//! Payloads and stores to test with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray, NullArray,
    RecordBatch, StringArray, StringViewArray, StructArray,
};
use arrow_schema::{Field, Schema};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::ipc::{Bounds, decode_stream, encode_batches};
use sheaf_flight::{Message, MessageStream};
use sheaf_proto::BatchId;
use sheaf_retry::{ManualClock, SystemClock, Timestamp};
use sheaf_store::{Error, Options, PutOptions, PutReceipt, ReadOptions, Store};
use sheaf_testkit::wait_until_async;

pub(crate) fn id(text: &str) -> BatchId {
    text.parse().unwrap()
}

/// `rows` rows of several types, different for each seed.
pub(crate) fn batch(seed: i64, rows: usize) -> RecordBatch {
    let number = |row: usize| seed * 1_000 + i64::try_from(row).unwrap();
    let text = |row: usize| (row % 5 != 3).then(|| format!("text {} of {seed}", row % 7));
    let inner: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(|row| Some(number(row)))));
    let dictionary: DictionaryArray<Int8Type> = (0..rows)
        .map(|row| text(row % 3))
        .collect::<Vec<_>>()
        .iter()
        .map(Option::as_deref)
        .collect();
    let lists = (0..rows).map(|row| (row % 4 != 1).then(|| vec![Some(number(row)); row % 3]));
    let lists = ListArray::from_iter_primitive::<arrow_array::types::Int64Type, _, _>(lists);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("number", Arc::clone(&inner)),
        ("text", Arc::new((0..rows).map(text).collect::<StringArray>())),
        ("view", Arc::new((0..rows).map(text).collect::<StringViewArray>())),
        ("dictionary", Arc::new(dictionary)),
        ("lists", Arc::new(lists)),
        ("flag", Arc::new((0..rows).map(|row| Some(row % 2 == 0)).collect::<BooleanArray>())),
        ("float", Arc::new(Float64Array::from_iter((0..rows).map(|row| Some(row as f64))))),
        ("nothing", Arc::new(NullArray::new(rows))),
        (
            "inside",
            Arc::new(StructArray::from(vec![(
                Arc::new(Field::new("n", inner.data_type().clone(), true)),
                inner,
            )])),
        ),
    ];
    let plain = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let metadata = [("made by".to_owned(), "a test".to_owned())];
    let schema = Schema::new_with_metadata(
        plain.schema().fields().clone(),
        metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
    );
    RecordBatch::try_new(Arc::new(schema), plain.columns().to_vec()).unwrap()
}

pub(crate) fn messages(batches: &[RecordBatch]) -> Vec<Message> {
    encode_batches(batches[0].schema(), batches).unwrap()
}

pub(crate) fn stream_of(messages: &[Message]) -> MessageStream {
    stream::iter(messages.iter().cloned().map(Ok).collect::<Vec<_>>()).boxed()
}

pub(crate) async fn put(
    store: &Store,
    id: &str,
    messages: &[Message],
    options: PutOptions,
) -> Result<PutReceipt, Error> {
    store.put(Some(id.parse().unwrap()), stream_of(messages), options).await
}

pub(crate) async fn get(store: &Store, id: &str) -> Result<Vec<Message>, Error> {
    let stream = store.read(&id.parse().unwrap(), &ReadOptions::default()).await?;
    Ok(stream.try_collect().await?)
}

pub(crate) async fn get_as_put(store: &Store, id: &str) -> Result<Vec<Message>, Error> {
    let stream = store.read(&id.parse().unwrap(), &ReadOptions::as_put()).await?;
    Ok(stream.try_collect().await?)
}

/// What these messages decode to.
pub(crate) async fn rows(messages: &[Message]) -> Vec<RecordBatch> {
    let (_, rows) = decode_stream(stream_of(messages), Bounds::default()).await.unwrap();
    rows.try_collect().await.unwrap()
}

pub(crate) fn clock() -> Arc<ManualClock> {
    ManualClock::new(Timestamp::from_millis(1_700_000_000_000))
}

pub(crate) fn options(path: &Path) -> Options {
    Options::new(SystemClock::shared()).with_data_dir(path)
}

/// Every file of payloads below a data directory.
pub(crate) fn files(path: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for shard in std::fs::read_dir(path.join("batches")).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|has| has == extension) {
                found.push(file);
            }
        }
    }
    found
}

/// How long a test waits for what must happen.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits until the retention task sleeps: before that it would miss the clock.
pub(crate) async fn asleep(clock: &ManualClock) {
    wait_until_async(LONG, "the task to sleep", || async { clock.sleepers() > 0 }).await.unwrap();
}

/// Lets time pass under the eyes of the retention task.
pub(crate) async fn advance(clock: &ManualClock, by: Duration) {
    asleep(clock).await;
    clock.advance(by);
}

/// Waits until there is no such payload.
pub(crate) async fn gone(store: &Store, name: &str) {
    wait_until_async(LONG, name, || async { store.info(&id(name)).is_err() }).await.unwrap();
}
