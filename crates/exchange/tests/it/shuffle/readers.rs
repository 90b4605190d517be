//! Readers that stand still, and workers that keep readers waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use arrow_schema::{Field, Schema};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_exchange::shuffle::{
    Error, ExchangeOptions, FetchFailed, ReadOptions, ShuffleHandler, ShuffleTicket,
};
use sheaf_flight::{CallContext, Descriptor, FlightEntry, Handler, Message, MessageStream};
use sheaf_retry::{Code, RetryPolicy, Retryable as _};

use super::world::{
    Worker, batches, client, column, key, numbers, options, read, read_all, rows, schema, sender,
    soon,
};

type FlightResult<T> = Result<T, sheaf_flight::Error>;

/// What a worker does instead of giving chunks.
#[derive(Clone, Copy)]
enum Instead {
    Nothing,
    More,
}

/// Serves a shuffle, except that the first gets give a schema and no chunk.
struct Stingy {
    inner: ShuffleHandler,
    instead: Instead,
    gets: AtomicUsize,
    asked: Mutex<Vec<ReadOptions>>,
}

#[async_trait]
impl Handler for Stingy {
    async fn get(&self, context: &CallContext, ticket: &str) -> FlightResult<MessageStream> {
        let parsed: ShuffleTicket = ticket.parse()?;
        self.asked.lock().unwrap().push(parsed.options);
        let one_less = |left: usize| left.checked_sub(1);
        let is_stingy = self.gets.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        let messages = self.inner.get(context, ticket).await?;
        if is_stingy.is_err() {
            return Ok(messages);
        }
        let instead = match self.instead {
            Instead::Nothing => stream::pending().boxed(),
            Instead::More => {
                let next = parsed.options.from_sequence;
                let said = format!(r#"{{"more":{{"next_sequence":{next}}}}}"#);
                let more = Message { app_metadata: Bytes::from(said), ..Message::default() };
                stream::iter([Ok(more)]).boxed()
            }
        };
        Ok(messages.take(1).chain(instead).boxed())
    }

    async fn put(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> FlightResult<Bytes> {
        self.inner.put(context, descriptor, messages).await
    }

    async fn list(
        &self,
        context: &CallContext,
        criteria: &[u8],
    ) -> FlightResult<BoxStream<'static, FlightResult<FlightEntry>>> {
        self.inner.list(context, criteria).await
    }

    async fn info(&self, context: &CallContext, one: Descriptor) -> FlightResult<FlightEntry> {
        self.inner.info(context, one).await
    }
}

async fn stingy(instead: Instead, gets: usize) -> (Worker, Arc<Stingy>) {
    let mut kept = None;
    let worker = Worker::behind(|inner| {
        let (gets, asked) = (AtomicUsize::new(gets), Mutex::default());
        let stingy = Arc::new(Stingy { inner, instead, gets, asked });
        kept = Some(Arc::clone(&stingy));
        stingy
    })
    .await;
    (worker, kept.unwrap())
}

/// Bytes of all readers together are far more than a connection has under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_open_readers_of_one_worker_do_not_hold_each_other_up() {
    const READERS: u32 = 100;
    let worker = Worker::with_memory(512 << 20).await;
    let local = worker.client();
    for partition in 0..READERS {
        let (key, rows) = (key(partition), rows(0, 32_000, 8_000));
        let stored = local.store_intermediate_results(&key, sender(0, 1, 1), schema(), rows);
        assert!(stored.await.unwrap().bytes > 5 << 18);
    }
    let client = client(options());
    let mut readers = Vec::new();
    for partition in 0..READERS {
        let (key, options) = (key(partition), ReadOptions::default());
        let opened = client.request_data_from_worker(&worker.uri, &key, None, options);
        readers.push(soon("an open", opened).await.unwrap());
    }
    // By turns at first, then each to its end.
    let mut first = Vec::new();
    for reader in &mut readers {
        let next = soon("the first chunk", reader.next()).await.unwrap().unwrap();
        first.push(next.num_rows());
    }
    for (reader, first) in readers.into_iter().zip(first) {
        let rest = soon("the rest", read_all(reader)).await.unwrap();
        assert_eq!(numbers(&rest), (first as i64..32_000).collect::<Vec<_>>());
    }
}

/// Who was given up for others asks for as much as it could take before, so that not
/// all that lies behind is sent each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_that_are_read_by_turns_ask_by_pages() {
    const READERS: u32 = 60;
    let (worker, wire) = stingy(Instead::Nothing, 0).await;
    let local = worker.client();
    for partition in 0..READERS {
        let (key, rows) = (key(partition), rows(0, 2_400, 400));
        let stored = local.store_intermediate_results(&key, sender(0, 1, 1), schema(), rows);
        assert!(stored.await.unwrap().totals.chunks > 4);
    }
    let client = client(options());
    for consume in [false, true] {
        wire.asked.lock().unwrap().clear();
        let mut readers = Vec::new();
        for partition in 0..READERS {
            let (key, options) =
                (key(partition), ReadOptions { consume, ..ReadOptions::default() });
            let opened = client.request_data_from_worker(&worker.uri, &key, None, options);
            readers.push((opened.await.unwrap(), 0));
        }
        // Each row once and in order, whose turn it may be.
        while !readers.is_empty() {
            let mut left = Vec::new();
            for (mut reader, next) in readers {
                let Some(batch) = soon("a chunk", reader.next()).await.unwrap() else {
                    assert_eq!(next, 2_400);
                    continue;
                };
                let after = next + batch.num_rows() as i64;
                assert_eq!(column(&batch, 1), (next..after).collect::<Vec<_>>());
                left.push((reader, after));
            }
            readers = left;
        }
        let asked = wire.asked.lock().unwrap().clone();
        let again: Vec<_> = asked.iter().filter(|one| one.from_sequence > 0).collect();
        assert!(again.len() > READERS as usize, "{}", again.len());
        let is_page = |one: &&ReadOptions| (1..=200_000).contains(&one.max_bytes);
        assert!(again.iter().filter(|one| one.from_sequence == 1).all(is_page), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_goes_mute_is_asked_again_and_then_given_up() {
    for (mute, is_read) in [(1, true), (usize::MAX, false)] {
        let (worker, wire) = stingy(Instead::Nothing, mute).await;
        let local = worker.client();
        local
            .store_intermediate_results(&key(0), sender(0, 1, 1), schema(), rows(0, 900, 300))
            .await
            .unwrap();
        let retry = RetryPolicy { max_retries: 2, ..options().retry };
        let call_deadline = Duration::from_millis(200);
        let client = client(ExchangeOptions { retry, call_deadline, ..options() });
        let got = soon("the read", read(&client, &worker.uri, 0)).await;
        match got {
            Ok(got) if is_read => assert_eq!(numbers(&got), (0..900).collect::<Vec<_>>()),
            Err(error) if !is_read => {
                assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
                assert!(FetchFailed::of(&error).is_some());
            }
            other => panic!("{mute}: {other:?}"),
        }
        // Two opened it, or three: the first one is the open itself.
        let asked = wire.asked.lock().unwrap().len();
        assert_eq!(asked, if is_read { 2 } else { 3 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_says_more_and_gives_nothing_is_given_up() {
    let (worker, wire) = stingy(Instead::More, usize::MAX).await;
    worker
        .client()
        .store_intermediate_results(&key(0), sender(0, 1, 1), schema(), rows(0, 900, 300))
        .await
        .unwrap();
    let retry = RetryPolicy { max_retries: 3, ..options().retry };
    let client = client(ExchangeOptions { retry, ..options() });
    for consume in [false, true] {
        wire.asked.lock().unwrap().clear();
        let (key, options) = (key(0), ReadOptions { consume, ..ReadOptions::default() });
        let opened = client.request_data_from_worker(&worker.uri, &key, None, options);
        let read = soon("the read", read_all(opened.await.unwrap())).await;
        let error = read.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert_eq!(wire.asked.lock().unwrap().len(), 4);
    }
}

fn worded(from: i64) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(from..from + 2_000);
    let words = numbers.values().iter().map(|n| format!("word {}", n % 50));
    let words: Vec<String> = words.collect();
    let words: DictionaryArray<Int32Type> = words.iter().map(String::as_str).collect();
    let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(numbers)), ("word", Arc::new(words))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, one)| (name, one, true))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_reader_goes_on_at_a_position_where_there_are_dictionaries() {
    let worker = Worker::new().await;
    let client = client(options());
    for index in 0..2 {
        let from = 10_000 * i64::from(index);
        let some = (0..4).map(|at| worded(from + 2_000 * at)).collect();
        client
            .send_data_to_worker(
                &worker.uri,
                &key(0),
                sender(index, 1, 2),
                worded(0).schema(),
                batches(some),
            )
            .await
            .unwrap();
    }
    let open = |options| {
        let (client, uri) = (client.clone(), worker.uri.clone());
        async move { client.request_data_from_worker(&uri, &key(0), None, options).await.unwrap() }
    };
    let all: Vec<RecordBatch> =
        open(ReadOptions::default()).await.into_stream().try_collect().await.unwrap();
    let mut first = open(ReadOptions::default()).await;
    for skipped in 1..all.len() {
        assert_eq!(first.next().await.unwrap().as_ref(), Some(&all[skipped - 1]));
        let from_sequence = first.position();
        let mut next = open(ReadOptions { from_sequence, ..ReadOptions::default() }).await;
        assert_eq!(next.position(), from_sequence);
        assert_eq!(next.next().await.unwrap().as_ref(), Some(&all[skipped]), "{skipped}");
        let rest: Vec<RecordBatch> = next.into_stream().try_collect().await.unwrap();
        assert_eq!(rest, all[skipped + 1..]);
    }
    // What was consumed cannot be read before the position.
    let mut one = open(ReadOptions { consume: true, max_bytes: 1, ..ReadOptions::default() }).await;
    while column(&one.next().await.unwrap().unwrap(), 0)[0] == 0 {}
    let from_sequence = one.position();
    let opened = ReadOptions { from_sequence, ..ReadOptions::default() };
    let mut reader = open(opened).await;
    let error = soon("the next chunk", reader.next()).await.unwrap_err();
    assert_eq!(error.code(), Code::PayloadLost, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_sender_does_not_come_is_waited_for_once() {
    let (worker, wire) = stingy(Instead::Nothing, 0).await;
    // As after a restart of its worker, where only one of two was sent again.
    worker
        .client()
        .store_intermediate_results(&key(0), sender(1, 2, 2), schema(), rows(0, 900, 300))
        .await
        .unwrap();
    let retry = RetryPolicy { max_retries: 3, ..options().retry };
    let client = client(ExchangeOptions { retry, ..options() });
    let wait = Duration::from_millis(300);
    let options = ReadOptions { wait, ..ReadOptions::default() };
    let reader = client.request_data_from_worker(&worker.uri, &key(0), None, options).await;
    let error = soon("the read", read_all(reader.unwrap())).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let Error::Fetch(failed) = error else { panic!("{error:?}") };
    assert!(failed.cause.to_string().contains("sender 0 has not"), "{}", failed.cause);
    // The second call waits for what the first one had left when the read began.
    let asked: Vec<Duration> = wire.asked.lock().unwrap().iter().map(|one| one.wait).collect();
    assert_eq!((asked.len(), asked[0]), (4, wait));
    assert!(asked[1..].iter().sum::<Duration>() < wait, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_fits_where_its_values_do() {
    let worker = Worker::new().await;
    let client = client(options());
    let found = Arc::new(Schema::new(vec![Field::new("n", arrow_schema::DataType::Int64, false)]));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..9));
    let rows = RecordBatch::try_new(Arc::clone(&found), vec![numbers]).unwrap();
    client
        .send_data_to_worker(&worker.uri, &key(0), sender(0, 1, 1), found, batches(vec![rows]))
        .await
        .unwrap();
    let wider = Field::new("n", arrow_schema::DataType::Int64, true);
    let noted = wider.clone().with_metadata([("unit".to_owned(), "m".to_owned())]);
    let other = Field::new("n", arrow_schema::DataType::Int32, false);
    for (expected, fits) in [(wider, true), (noted, true), (other, false)] {
        let expected = Schema::new(vec![expected]);
        for client in [&client, &worker.client()] {
            let (key, options) = (key(0), ReadOptions::default());
            let opened =
                client.request_data_from_worker(&worker.uri, &key, Some(&expected), options);
            match opened.await {
                Ok(_) => assert!(fits),
                Err(error) => {
                    assert!(!fits, "{error:?}");
                    assert_eq!(error.code(), Code::FailedPrecondition);
                }
            }
        }
    }
}
