//! Where a worker gets the data of a batch from.

mod local;
mod remote;

use async_trait::async_trait;
use sheaf_coordinator::BatchSpec;
use sheaf_flight::{Error, MessageStream};

pub use local::LocalPayloads;
pub use remote::RemotePayloads;

/// Opens payloads.
///
/// 1. The stream begins with the schema and has the messages as they were put,
///    byte for byte: a registration is about those.
/// 2. An error with code `not_found` means that the payload is gone for good:
///    the batch is failed with `payload_lost`. What may come back is another code.
#[async_trait]
pub trait Payloads: Send + Sync + 'static {
    /// The payload of this batch.
    async fn open(&self, batch: &BatchSpec) -> Result<MessageStream, Error>;
}
