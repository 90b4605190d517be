//! Payloads of this process.

use async_trait::async_trait;
use sheaf_coordinator::BatchSpec;
use sheaf_flight::{Error, MessageStream};
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{FlightClient, ReadOptions, Store};

use super::Payloads;
use super::remote::first_of;

/// Payloads of a store in this process: by reference, nothing is copied, but
/// what the store compressed.
///
/// A batch that was registered with an address of another server is read from
/// there, where [`LocalPayloads::with_elsewhere`] allows it; otherwise it fails
/// as `unavailable`, never as lost.
#[derive(Clone, Debug)]
pub struct LocalPayloads {
    store: Store,
    own: Vec<String>,
    elsewhere: Option<FlightClient>,
    is_shared: bool,
}

impl LocalPayloads {
    /// Reads from `store`, of which it keeps a clone.
    pub fn new(store: Store) -> Self {
        LocalPayloads { store, own: Vec::new(), elsewhere: None, is_shared: false }
    }

    /// The addresses under which others reach this store: a payload that is
    /// said to be there and is not in the store is lost.
    #[must_use]
    pub fn with_own(mut self, locations: Vec<String>) -> Self {
        self.own = locations;
        self
    }

    /// Reads what the store does not have through `client`, from the
    /// addresses of the batch.
    #[must_use]
    pub fn with_elsewhere(mut self, client: FlightClient) -> Self {
        self.elsewhere = Some(client);
        self
    }

    /// Whether the coordinator is one of several stores and beside none: what was registered
    /// without an address may be in any of them, so that it fails as `unavailable`, not
    /// as lost, where it is not in this one.
    #[must_use]
    pub fn with_shared(mut self, is_shared: bool) -> Self {
        self.is_shared = is_shared;
        self
    }
}

#[async_trait]
impl Payloads for LocalPayloads {
    async fn open(&self, batch: &BatchSpec) -> Result<MessageStream, Error> {
        let missing = match self.store.read(&batch.id, &ReadOptions::as_put()).await {
            Ok(messages) => return Ok(messages),
            Err(error) => Error::from_error(error),
        };
        if self.is_shared && batch.locations.is_empty() && missing.code() == Code::NotFound {
            let text = format!(
                "the payload of {} is not on this server and is registered without an address; \
                 a worker of the server that has it can read it",
                batch.id
            );
            return Err(Error::new(Code::Unavailable, text));
        }
        let others: Vec<&str> =
            batch.locations.iter().filter(|l| !self.own.contains(l)).map(String::as_str).collect();
        let Some(first) = others.first().filter(|_| missing.code() == Code::NotFound) else {
            return Err(missing);
        };
        match &self.elsewhere {
            Some(client) => {
                first_of(client, &others, &batch.id).await.map_err(|error| error.unwrap_or(missing))
            }
            None => Err(Error::new(
                Code::Unavailable,
                format!(
                    "the payload of {} is at {first}, which this worker does not read",
                    batch.id
                ),
            )),
        }
    }
}
