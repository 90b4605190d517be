//! Whatever clients do, a server stays within its memory and serves the others.

mod crowd;
pub(crate) mod gauge;
mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::ipc::{Compression, Encoder, encode_batches};
use sheaf_flight::{CallOptions, Error, FlightConnection, Message, MessageStream};
use sheaf_retry::{RetryPolicy, Retryable as _, SharedClock, SystemClock};
use sheaf_testkit::wait_until_async;
use tokio::task::JoinSet;

use crate::harness::Server;
use crate::parts::connection;
use crate::remote::sized;
use gauge::{Gauge, Holdings};

/// `--memory-limit`.
const LIMIT: u64 = 256 << 20;
/// What a server may take beyond it.
const BEYOND: u64 = 64 << 20;
/// How long memory that was received into is kept for what comes next, and time
/// to notice.
const SETTLED: Duration = Duration::from_secs(150);
/// Mappings of the allocator may come and go.
const MAPPINGS: usize = 64;
/// How long a call may be refused before it has to succeed.
const REFUSED_FOR: Duration = Duration::from_secs(90);

/// Numbers in one column: `count` of them, none compressed.
fn numbers(count: i64) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(0..count));
    RecordBatch::try_from_iter([("n", column as _)]).unwrap()
}

/// A few kilobytes that unfold to 48 MB.
fn bomb() -> Vec<Message> {
    let column = Arc::new(Int64Array::from(vec![0; 6_000_000]));
    let batch = RecordBatch::try_from_iter([("n", column as _)]).unwrap();
    let (mut encoder, schema) = Encoder::try_new(batch.schema(), Compression::Zstd).unwrap();
    let mut messages = vec![schema];
    messages.extend(encoder.encode(&batch).unwrap());
    messages
}

fn stream_of(messages: &[Message]) -> MessageStream {
    stream::iter(messages.to_vec()).map(Ok::<_, Error>).boxed()
}

/// A client that does nothing wrong: what it puts it gets.
struct Good {
    connection: FlightConnection,
    messages: Vec<Message>,
    options: CallOptions,
    clock: SharedClock,
    calls: u64,
    refused: u64,
    longest: Duration,
}

impl Good {
    fn new(uri: &str) -> Self {
        let batch = numbers(100_000);
        let messages = encode_batches(batch.schema(), &[batch.clone(), batch]).unwrap();
        let options = CallOptions::default().retry(RetryPolicy::none());
        let (calls, refused, longest) = (0, 0, Duration::ZERO);
        let (connection, clock) = (connection(uri), SystemClock::shared());
        Good { connection, messages, options, clock, calls, refused, longest }
    }

    fn since(&self, start: Duration) -> Duration {
        self.clock.elapsed().saturating_sub(start)
    }

    async fn put(&self, id: &str, messages: &[Message]) -> Result<(), Error> {
        let path = ["batches", id];
        self.connection.put(&path, &self.options, stream_of(messages)).await.map(drop)
    }

    async fn get(&self, ticket: &str) -> Result<Vec<Message>, Error> {
        self.connection.get(ticket, &self.options).await?.try_collect().await
    }

    async fn delete(&self, id: &str) -> Result<(), Error> {
        let body = Bytes::from(format!(r#"{{"batch_id":"{id}"}}"#));
        self.connection.action("DeleteBatch", body, &self.options).await.map(drop)
    }

    /// A put, a get and a removal; each succeeds, or is refused with a hint
    /// when to come again, and then succeeds.
    async fn round(&mut self, number: u64) {
        let id = format!("good-{number}");
        for step in 0..3 {
            let start = self.clock.elapsed();
            loop {
                let done = match step {
                    0 => self.put(&id, &self.messages).await,
                    1 => self.get(&format!("batches/{id}")).await.map(|got| {
                        assert_eq!(got, self.messages, "what was put");
                    }),
                    _ => self.delete(&id).await,
                };
                let Err(error) = done else { break };
                let again = error.retry_after();
                assert!(again.is_some(), "step {step} of {id}: {error:?}");
                assert!(self.since(start) < REFUSED_FOR, "step {step} of {id}: {error}");
                self.refused += 1;
                // sleep: the server said when to come again.
                tokio::time::sleep(again.unwrap()).await;
            }
            self.calls += 1;
            self.longest = self.longest.max(self.since(start));
        }
    }
}

/// So many clients at once, of every way; one that is over comes again.
async fn crowd(address: SocketAddr, clients: u64) {
    let mut crowd = JoinSet::new();
    for client in 0..clients {
        let way = usize::try_from(client).unwrap() % crowd::WAYS;
        crowd.spawn(async move {
            loop {
                // What it does may be cut short by the server at any time.
                drop(crowd::harm(address, way).await);
                let pause = if crowd::waits(way) { 500 } else { 50 };
                crowd::linger(Duration::from_millis(pause)).await;
            }
        });
    }
    while crowd.join_next().await.is_some() {}
}

/// A thousand clients that stall, lie and flood: memory stays below the limit
/// and 64 MiB, everyone else is served, and nothing is left afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn soak_hostile_clients_take_no_memory_and_keep_nobody_waiting() {
    let clients = sized(100, 1_000);
    let time = Duration::from_secs(sized(10, 180));
    let limit = format!("{LIMIT}");
    let server = Server::start(&["--mode", "flight", "--memory-limit", &limit]);
    let mut good = Good::new(server.ready.url("flight").unwrap());
    let address = server.ready.addr("flight").unwrap();
    let long = encode_batches(numbers(1).schema(), &[numbers(1_000_000)]).unwrap();
    good.put("long", &long).await.unwrap();
    good.put("bomb", &bomb()).await.unwrap();
    good.round(0).await;
    let (pid, data) = (server.process.pid(), server.folder.path().join("data"));
    let before = Holdings::of(pid, &data);
    let gauge = Gauge::start(pid);
    let (start, mut number) = (good.clock.elapsed(), 0);
    {
        let mut crowd = Box::pin(crowd(address, clients));
        while good.since(start) < time {
            number += 1;
            tokio::select! {
                () = good.round(number) => {}
                () = crowd.as_mut() => unreachable!("the crowd goes on for ever"),
            }
        }
    }
    let settled = wait_until_async(SETTLED, "the server to be as it was", || {
        let now = Holdings::of(pid, &data);
        let is_as_before = now.descriptors <= before.descriptors
            && now.mappings <= before.mappings + MAPPINGS
            && now.threads <= before.threads
            && now.files == before.files;
        std::future::ready(is_as_before)
    });
    let settled = settled.await;
    let (most, after) = (gauge.most() >> 20, Holdings::of(pid, &data));
    let metrics = server.admin("/metrics").1;
    let refused = metrics.lines().filter(|line| line.starts_with("sheaf_flight_rejected_total"));
    eprintln!(
        "{clients} clients, {time:?}: at most {most} MiB of {} MiB; {} good calls, {} refusals, \
         the longest {:?}\n{before:?} before, {after:?} after\n{}",
        (LIMIT + BEYOND) >> 20,
        good.calls,
        good.refused,
        good.longest,
        refused.collect::<Vec<_>>().join("\n"),
    );
    assert!(most <= (LIMIT + BEYOND) >> 20, "{most} MiB");
    assert!(good.calls > 10, "{}", good.calls);
    settled.unwrap();
    let panics = metrics.lines().find_map(|line| line.strip_prefix("sheaf_flight_panics_total "));
    assert_eq!(panics.and_then(|count| count.parse::<f64>().ok()), Some(0.0), "{metrics}");
}
