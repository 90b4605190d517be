//! Stages: rows from partitions, rows to partitions.
//!
//! A batch whose payload carries a [`ShuffleTask`] in the metadata of its schema is
//! one task of a stage. [`Shuffle`] wraps a [`Processor`](crate::Processor) so that
//! it reads the partitions that the task names, instead of the payload's rows, and
//! so that its rows go to partitions, instead of the sink. Where a task says
//! neither, and where there is no task, the processor works as it does alone.
//!
//! Tasks of a stage that reads are registered as depending on those of the stage
//! that sends: so they begin when everything is there. The fencing token of a lease
//! is the attempt of its sender, so that of two workers at one task only the later
//! one is heard, and rows that a dead one sent are replaced.
//!
//! ```
//! use std::sync::Arc;
//!
//! use sheaf_worker::{ShuffleTask, SpreadBy, TaskInput, TaskOutput};
//!
//! let worker = "grpc://127.0.0.1:8080".to_owned();
//! // The first of two tasks that send to four partitions, by the hash of `origin`.
//! let send = ShuffleTask::sending(TaskOutput {
//!     query: "q7".to_owned(),
//!     stage: 1,
//!     sender: 0,
//!     senders: 2,
//!     workers: vec![worker.clone()],
//!     partitions: 4,
//!     by: SpreadBy::Hash(vec!["origin".to_owned()]),
//!     only: Vec::new(),
//! });
//! // One that reads the third of them.
//! let read = ShuffleTask::reading(vec![TaskInput {
//!     worker,
//!     query: "q7".to_owned(),
//!     stage: 1,
//!     partition: 2,
//! }]);
//! let payload = read.to_batch()?; // to be put and registered
//! assert_eq!(ShuffleTask::of(&payload.schema())?, Some(read));
//! # drop(send);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod processor;
mod task;

pub use processor::Shuffle;
pub use task::{SHUFFLE_TASK, ShuffleTask, SpreadBy, TaskInput, TaskOutput};
