//! Where a worker gets the data of a batch from.

use std::sync::Arc;

use async_trait::async_trait;
use sheaf_coordinator::BatchSpec;
use sheaf_flight::{Error, MessageStream};
use sheaf_retry::{Code, Retryable};
use sheaf_store::{FlightClient, ReadOptions, Store};

/// Opens payloads.
///
/// 1. The stream begins with the schema and has the stored messages unchanged.
/// 2. An error with code `not_found` means that the payload is gone for good:
///    the batch is failed with `payload_lost`. What may come back is another code.
#[async_trait]
pub trait Payloads: Send + Sync + 'static {
    /// The payload of this batch.
    async fn open(&self, batch: &BatchSpec) -> Result<MessageStream, Error>;
}

/// Payloads of a store in this process: by reference, nothing is copied.
#[derive(Clone, Debug)]
pub struct LocalPayloads(Arc<Store>);

impl LocalPayloads {
    /// Reads from `store`.
    pub fn new(store: Arc<Store>) -> Self {
        LocalPayloads(store)
    }
}

#[async_trait]
impl Payloads for LocalPayloads {
    async fn open(&self, batch: &BatchSpec) -> Result<MessageStream, Error> {
        self.0.open(&batch.id, ReadOptions::default()).await.map_err(Error::from_error)
    }
}

/// Payloads over Flight: from the first location of the batch that answers,
/// or from the default server.
#[derive(Clone, Debug)]
pub struct RemotePayloads(FlightClient);

impl RemotePayloads {
    /// Reads through `client`; batches without a location are read from its server.
    pub fn new(client: FlightClient) -> Self {
        RemotePayloads(client)
    }
}

#[async_trait]
impl Payloads for RemotePayloads {
    async fn open(&self, batch: &BatchSpec) -> Result<MessageStream, Error> {
        let mut failure = None;
        for location in &batch.locations {
            let attempt = match self.0.at(location) {
                Ok(client) => client.get_messages(&batch.id).await,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(messages) => return Ok(messages),
                Err(error) => failure = worse(failure, error),
            }
        }
        match self.0.get_messages(&batch.id).await {
            Ok(messages) => Ok(messages),
            Err(error) => Err(worse(failure, error).unwrap_or_else(|| {
                Error::new(Code::Internal, "no location answered and none failed")
            })),
        }
    }
}

/// `not_found` counts only if every location says so.
fn worse(kept: Option<Error>, new: Error) -> Option<Error> {
    match kept {
        Some(kept) if kept.code() != Code::NotFound => Some(kept),
        _ => Some(new),
    }
}
