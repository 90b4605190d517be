//! Payloads of this process.

use std::sync::Arc;

use async_trait::async_trait;
use sheaf_coordinator::BatchSpec;
use sheaf_flight::{Error, MessageStream};
use sheaf_store::{ReadOptions, Store};

use super::Payloads;

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
        self.0.read(&batch.id, &ReadOptions::default()).await.map_err(Error::from_error)
    }
}
