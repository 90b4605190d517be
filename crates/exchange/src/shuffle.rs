//! Partitions between workers: what is received, how it is served, and who sends.
//!
//! [`Exchange`] is what a process has received, [`ShuffleHandler`] serves it over
//! Flight, [`ExchangeClient`] sends and reads.

mod chunk;
mod client;
mod engine;
mod error;
mod governor;
mod handler;
mod key;
mod table;
mod wire;

pub use chunk::crc32c_of;
pub use client::{ExchangeClient, ExchangeOptions, PartitionReader, SentPartition, ShufflePlan};
pub use engine::{Exchange, MAX_WAIT, ReadOptions};
pub use error::{Error, FetchFailed, SendFailed};
pub use governor::Governor;
pub use handler::ShuffleHandler;
pub use key::{MAX_SENDERS, PartitionKey, Sender, Totals};
pub use table::{AvailablePartition, AvailablePartitions, Skew};
pub use wire::{
    ATTEMPT, CHECKSUMS, MAX_MESSAGE_BYTES, NAMESPACE, PutAnswer, SENDER, SENDERS, ShuffleTicket,
};
