//! What is in flight at one time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_exchange::shuffle::{
    ExchangeClient, ExchangeOptions, Governor, ShuffleHandler, ShufflePlan,
};
use sheaf_flight::{CallContext, Descriptor, FlightEntry, Handler, Message, MessageStream};
use sheaf_retry::SystemClock;

use super::world::{Worker, options, pool, rows, schema, sender, soon};

/// Counts the puts that are here at once, and their bytes.
struct Counting {
    inner: ShuffleHandler,
    here: AtomicUsize,
    most: AtomicUsize,
    bytes_here: AtomicUsize,
    most_bytes: AtomicUsize,
}

type FlightResult<T> = Result<T, sheaf_flight::Error>;

#[async_trait]
impl Handler for Counting {
    async fn put(
        &self,
        context: &CallContext,
        descriptor: Descriptor,
        messages: MessageStream,
    ) -> FlightResult<Bytes> {
        let here = self.here.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(here, Ordering::SeqCst);
        let messages: Vec<Message> = messages.try_collect().await?;
        let bytes = messages.iter().map(|one| one.header.len() + one.body_len()).sum();
        let bytes_here = self.bytes_here.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.most_bytes.fetch_max(bytes_here, Ordering::SeqCst);
        // Long enough for others to come, if they may.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let messages = stream::iter(messages.into_iter().map(Ok)).boxed();
        let answer = self.inner.put(context, descriptor, messages).await;
        self.bytes_here.fetch_sub(bytes, Ordering::SeqCst);
        self.here.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    async fn get(&self, context: &CallContext, ticket: &str) -> FlightResult<MessageStream> {
        self.inner.get(context, ticket).await
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

/// The most puts that were at a worker at once, and the most bytes.
async fn most_at_once(governed_bytes: usize, calls_per_peer: usize) -> (usize, usize) {
    let mut kept = None;
    let worker = Worker::behind(|inner| {
        let (here, most, bytes_here, most_bytes) = Default::default();
        let counting = Arc::new(Counting { inner, here, most, bytes_here, most_bytes });
        kept = Some(Arc::clone(&counting));
        counting
    })
    .await;
    let partitions = 12;
    let plan = ShufflePlan {
        query: "query:1".to_owned(),
        stage: 3,
        sender: sender(0, 1, 1),
        workers: vec![worker.uri.clone()],
        partitions,
    };
    let options = ExchangeOptions { calls_per_peer, ..options() };
    let governor = Governor::new(governed_bytes);
    let client = ExchangeClient::new(pool(), SystemClock::shared(), governor.clone(), options);
    let rows = rows(0, 4_000 * i64::from(partitions), 4_000);
    let sent = client.perform_hash_shuffle(&plan, ["number"], schema(), rows);
    let sent = soon("the shuffle", sent).await.unwrap();
    assert_eq!(sent.len() as u32, partitions);
    assert_eq!(governor.in_flight(), 0);
    let kept = kept.unwrap();
    (kept.most.load(Ordering::SeqCst), kept.most_bytes.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_wait_for_bytes_of_the_process_and_for_a_line_to_their_peer() {
    // The governor counts chunks; each put has a small schema besides.
    let limit = 64 << 10;
    let (puts, bytes) = most_at_once(limit, 64).await;
    assert!(bytes <= limit + puts * 1_024, "{bytes} bytes at once");
    let (puts, _) = most_at_once(64 << 20, 3).await;
    assert!((2..=3).contains(&puts), "{puts} puts at once");
    // Without these bounds there are more.
    let (puts, bytes) = most_at_once(64 << 20, 64).await;
    assert!(puts > 3 && bytes > 2 * limit, "{puts} puts and {bytes} bytes at once");
}
