//! The worker runtime: claims batches, works on them, settles them.

mod board;
mod config;
mod driver;
mod error;
mod exec;
mod job;
mod metrics;
mod payloads;
mod processor;
mod verify;
mod worker;

pub use config::{Config, MAX_WORKER_COUNT, defaults};
pub use error::{Error, ProcessError};
pub use exec::Exec;
pub use metrics::Metrics;
pub use payloads::{LocalPayloads, Payloads, RemotePayloads};
pub use processor::{Job, Output, PassThrough, Processor, ProgressHandle, RowStream};
pub use verify::Verify;
pub use worker::{Parts, Summary, Worker};
