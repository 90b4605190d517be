//! Worker-to-worker exchange of record batches.
//!
//! [`Partitioning`] says which row goes to which partition, [`Partitioner`]
//! makes of batches the messages that go there: each row is copied once, to
//! where it lies in the body of its message. [`shuffle`] brings them to other
//! workers, and keeps them there until they are read; [`service`] does so for peers
//! that speak gRPC and not Flight.
//!
//! ```
//! use std::sync::Arc;
//!
//! use arrow_array::{Int64Array, RecordBatch};
//! use sheaf_exchange::{Partitioner, PartitionerOptions, Partitioning};
//! use sheaf_flight::ipc::{Bounds, Decoded, Decoder};
//!
//! let column = Arc::new(Int64Array::from_iter_values(0..1_000)) as _;
//! let batch = RecordBatch::try_from_iter([("n", column)])?;
//! let options = PartitionerOptions::default();
//! let by_n = Partitioning::hash(["n"]);
//! let mut partitioner = Partitioner::try_new(batch.schema(), by_n, 4, options)?;
//! let schema = partitioner.schema_message();
//! let mut sealed = partitioner.push(&batch)?;
//! sealed.extend(partitioner.finish()?);
//!
//! let mut rows = 0;
//! for part in &sealed {
//!     let mut decoder = Decoder::new(Bounds::default());
//!     decoder.push(&schema)?;
//!     for message in &part.messages {
//!         let Decoded::Batch(batch) = decoder.push(message)? else { panic!("a record batch") };
//!         rows += batch.num_rows();
//!     }
//! }
//! assert_eq!(rows, 1_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checksum;
mod error;
mod kernel;
mod partition;
pub mod service;
pub mod shuffle;

pub use error::Error;
pub use kernel::{ChunkCompression, Partitioner, PartitionerOptions, Sealed};
pub use partition::{
    Column, MAX_PARTITIONS, PartitionFunction, Partitioning, RangeBounds, RangeSampler, SortKey,
    hash_partition_data, partition_ids,
};
