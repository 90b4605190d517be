//! The worker runtime: claims batches, works on them, settles them.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use arrow_array::{Int64Array, RecordBatch};
//! use futures::StreamExt as _;
//! use sheaf_coordinator::embedded::{self, Embedded};
//! use sheaf_coordinator::{Coordinator, CoordinatorExt as _};
//! use sheaf_flight::ipc::encode_batches;
//! use sheaf_retry::SystemClock;
//! use sheaf_store::{Options, PutOptions, Store};
//! use sheaf_worker::{Config, LocalPayloads, Parts, ToSpec as _, Verify, Worker};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let clock = SystemClock::shared();
//! let coordinator = Arc::new(Embedded::open(embedded::Config::memory(), clock.clone())?);
//! let store = Store::open(Options::new(clock.clone())).await?;
//! let payloads = Arc::new(LocalPayloads::new(store.clone()));
//! // `with_sink` takes a `FileSink`, or your own; without one the rows are dropped.
//! let parts = Parts::new(coordinator.clone(), payloads, Arc::new(Verify), clock.clone());
//! let worker = Worker::new(Config::new("example").with_worker_count(4), parts)?;
//! worker.start()?;
//!
//! let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
//! let rows = RecordBatch::try_from_iter([("n", column)])?;
//! let messages = encode_batches(rows.schema(), &[rows])?.into_iter().map(Ok);
//! let stream = futures::stream::iter(messages).boxed();
//! let receipt = store.put(None, stream, PutOptions::MEMORY).await?;
//! coordinator.register(vec![receipt.to_spec()]).await?;
//! coordinator.wait_idle("default", &clock, Duration::from_secs(60)).await?;
//! assert_eq!(worker.shutdown().await.completed, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`CoordinatorOwner`] ties the store closer: one call puts and registers, and
//! a payload is kept until the work on it is over.
//!
//! # How it is built
//!
//! - The *board* knows what is held and what must be said next; it decides and
//!   does nothing.
//! - The *driver* is one task: it carries calls, jobs, heartbeats and the
//!   shutdown out.
//! - A *job* is one attempt on a thread of its own: payload, [`Processor`],
//!   sink. Before the sink's commit it proves that the lease still stands.
//!
//! # What holds
//!
//! - At most `worker_count` attempts run and `prefetch` batches wait, within
//!   `max_bytes` of payload.
//! - At most three calls to the coordinator are under way, whatever the load.
//! - A lease is extended at a third of its length. One that is lost, by the
//!   coordinator's word or by the own clock, cancels its work.
//! - An attempt is charged when its work begins, never for prefetching; work
//!   that is given back is not charged.
//! - An answer that got lost is asked for again under the same name.

mod board;
mod config;
mod driver;
mod error;
mod exec;
mod job;
mod metrics;
mod owner;
mod payloads;
mod processor;
mod rest;
pub mod shuffle;
mod spans;
mod spec;
mod verify;
mod worker;

pub use config::{Config, MAX_WORKER_COUNT, defaults};
pub use error::{Error, ProcessError};
pub use exec::Exec;
pub use metrics::Metrics;
pub use owner::{CoordinatorOwner, mark, position};
pub use payloads::{LocalPayloads, Payloads, RemotePayloads};
pub use processor::{Input, Job, Output, PassThrough, Processor, ProgressHandle, RowStream};
pub use shuffle::{SHUFFLE_TASK, Shuffle, ShuffleTask, SpreadBy, TaskInput, TaskOutput};
pub use spec::ToSpec;
pub use verify::Verify;
pub use worker::{Parts, Summary, Worker};
