//! Sends to a Flight server.

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use sheaf_dataflow::{ComponentError, Received, Sink, Start};
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{CallOptions, FlightConnection};
use sheaf_pipeline::spec::FlightSink;

use crate::failure::failed;
use crate::host::Host;
use crate::identity::Identity;

/// The same for a batch that is sent again: a server can leave it out by that.
const KEY: &str = "idempotency-key";
/// The namespace of Sheaf's store, which takes an identifier behind it.
const BATCHES: &str = "batches";

/// One put for each batch that has rows. The path `batches` alone gets the identifier of the
/// batch, so that a store has it once.
pub(super) struct Put {
    connection: FlightConnection,
    path: Vec<String>,
    identity: Identity,
    done: u64,
}

impl Put {
    pub(super) async fn open(
        config: &FlightSink,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let connection = crate::flight::connect(&config.server, host).await?;
        let identity = Identity::of(start);
        Ok(Put { connection, path: config.path.clone(), identity, done: 0 })
    }

    async fn put(&self, received: &Received) -> Result<(), ComponentError> {
        let batch = &received.batch;
        let id = self.identity.id(received)?;
        let mut path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        if path == [BATCHES] {
            path.push(id.as_str());
        }
        let messages = encode_batches(batch.schema(), std::slice::from_ref(batch));
        let messages = messages.map_err(failed("rows cannot be sent"))?;
        let messages = stream::iter(messages.into_iter().map(Ok)).boxed();
        let options = CallOptions::default().header(KEY, id.as_str());
        let put = self.connection.put(&path, &options, messages).await;
        let text = format!("{} does not take a batch", self.connection.target());
        put.map(drop).map_err(failed(text))
    }
}

#[async_trait]
impl Sink for Put {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if received.batch.num_rows() > 0 {
            self.put(received).await?;
        }
        self.done += 1;
        Ok(self.done)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.done)
    }
}
