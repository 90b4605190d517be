//! Partitions between workers: what is received, how it is served, and who sends.
//!
//! [`Exchange`] is what a process has received, [`ShuffleHandler`] serves it over
//! Flight, [`ExchangeClient`] sends and reads.
//!
//! # What holds
//!
//! A chunk is known by `(query, stage, partition, sender, attempt, sequence)`.
//!
//! 1. Senders do not touch each other: what one sends changes nothing of another.
//! 2. A sender's chunks are taken in the order of their sequence, from 0, each
//!    once. One that comes again is accepted and changes nothing, if it is the
//!    same; a gap is an error.
//! 3. The newest attempt that has begun is the only one that is taken: anything
//!    of an older one is [`Stale`](Error::Stale).
//! 4. An attempt that has committed stays what readers see until a newer one
//!    commits: then that takes its place as a whole. One that has not committed
//!    is dropped when a newer one begins.
//! 5. What was read is never replaced: [`AlreadyRead`](Error::AlreadyRead).
//! 6. A commit is taken only if chunks and rows are as many as it says. After it
//!    nothing is added.
//! 7. A reader sees a partition when all senders that it has have committed; a
//!    pipelined one sees chunks as they come. Both see the end only after all
//!    commits.
//! 8. The order in which a partition is read is fixed by who reads first, and the
//!    same for all readers: a position means the same chunk for each. Another
//!    incarnation of the partition, after a restart, has another order, and is told
//!    from it: a read goes on in the one that it began with, or not at all.
//! 9. Where the schema has dictionaries, one sender is read to its end before
//!    the next begins, for their dictionaries have the same numbers. All partitions
//!    of the stage take the senders in one order, as far as one worker has them.
//! 10. All schemas of a partition are the same; that is looked at before the
//!     first row.
//! 11. Every message passed the validator of its attempt's stream.
//! 12. Whatever is kept is counted in the budget, and not any more when it is
//!     gone; what is kept on disk counts against the limit of the disk, until its
//!     file is removed. Where there is no room nothing is changed.
//! 13. What was consumed is gone for every reader; its place is kept.
//! 14. A query that was cleaned up has nothing here, and nothing of it is taken.
//!     The last 4,096 of them are remembered. One of which nothing is sent or read
//!     for as long as the options say is cleaned up, and says so.
//! 15. Where a chunk lies, in memory or on disk, changes nothing of what is said
//!     above. What comes from disk has the CRC32C that it came with, or is an error
//!     that names the file; what cannot be written stays in memory.
//!
//! # Sending and reading
//!
//! ```
//! use std::sync::Arc;
//!
//! use arrow_array::{Int64Array, RecordBatch};
//! use futures::{TryStreamExt, stream};
//! use sheaf_exchange::shuffle::{
//!     Exchange, ExchangeClient, ExchangeOptions, Governor, PartitionKey, ReadOptions, Sender,
//!     ShuffleHandler, ShufflePlan,
//! };
//! use sheaf_flight::{
//!     Budget, ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server,
//! };
//! use sheaf_retry::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A worker that takes partitions.
//! let clock = SystemClock::shared();
//! let exchange = Exchange::new(Budget::new(64 << 20), clock.clone());
//! let router = ShuffleHandler::new(exchange.clone()).serve(FlightRouter::builder()).build()?;
//! let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback)?;
//! let server = Server::new(router).serve(listener).await?;
//!
//! // Another one, which sends its rows by the hash of a key.
//! let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
//! let (governor, options) = (Governor::new(32 << 20), ExchangeOptions::default());
//! let client = ExchangeClient::new(pool, clock, governor, options);
//! let column = Arc::new(Int64Array::from_iter_values(0..1_000)) as _;
//! let batch = RecordBatch::try_from_iter([("n", column)])?;
//! let plan = ShufflePlan {
//!     query: "q7".to_owned(),
//!     stage: 1,
//!     sender: Sender::only(),
//!     workers: vec![server.uri()],
//!     partitions: 2,
//! };
//! let rows = stream::iter([Ok(batch.clone())]);
//! client.perform_hash_shuffle(&plan, ["n"], batch.schema(), rows).await?;
//!
//! let mut rows = 0;
//! for partition in 0..2 {
//!     let key = PartitionKey::try_new("q7", 1, partition)?;
//!     let options = ReadOptions::default();
//!     let reader = client.request_data_from_worker(&server.uri(), &key, None, options).await?;
//!     let batches: Vec<RecordBatch> = reader.into_stream().try_collect().await?;
//!     rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
//! }
//! assert_eq!(rows, 1_000);
//! assert_eq!(client.cleanup_query_data(&[server.uri()], "q7").await?, 2);
//! assert_eq!(exchange.budget().used(), 0);
//! # Ok(())
//! # }
//! ```

mod chunk;
mod client;
mod engine;
mod error;
mod governor;
mod handler;
mod key;
mod metrics;
mod placement;
mod spill;
mod table;
mod wire;

pub use chunk::crc32c_of;
pub(crate) use client::{Calls, Got, Manner, Opened, READ_WINDOW, Reading, Source, broken_off};
pub use client::{
    ExchangeClient, ExchangeOptions, HowFar, PartitionReader, PeerProgress, Progress,
    SentPartition, ShufflePlan, check_schema_compatibility,
};
pub use engine::{DEFAULT_IDLE, Exchange, MAX_WAIT, ReadOptions, ReceiverOptions};
pub(crate) use engine::{Item, Reader, UnderWay};
pub use error::{Error, FetchFailed, Gone, SendFailed};
pub use governor::Governor;
pub(crate) use governor::InFlight;
pub use handler::ShuffleHandler;
pub use key::{MAX_SENDERS, PartitionKey, Sender, Totals};
pub use metrics::ReceiverMetrics;
pub use placement::{Placement, WorkerLoad};
pub use table::{
    AvailablePartition, AvailablePartitions, QueryStats, ShuffleStats, Skew, StageStats,
};
pub use wire::{
    ATTEMPT, CHECKSUMS, MAX_MESSAGE_BYTES, NAMESPACE, PutAnswer, SENDER, SENDERS, ShuffleTicket,
};
