//! Payloads of other processes.

use async_trait::async_trait;
use sheaf_coordinator::BatchSpec;
use sheaf_flight::{Error, MessageStream};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable};
use sheaf_store::FlightClient;

use super::Payloads;

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
        let locations: Vec<&str> = batch.locations.iter().map(String::as_str).collect();
        let failure = match first_of(&self.0, &locations, &batch.id).await {
            Ok(messages) => return Ok(messages),
            Err(failure) => failure,
        };
        match self.0.get_messages(&batch.id).await {
            Ok(messages) => Ok(messages),
            Err(error) => Err(worse(failure, error).unwrap_or_else(|| {
                Error::new(Code::Internal, "no location answered and none failed")
            })),
        }
    }
}

/// From the first of these addresses that answers; the error is `None` where
/// there are none.
pub(super) async fn first_of(
    client: &FlightClient,
    locations: &[&str],
    id: &BatchId,
) -> Result<MessageStream, Option<Error>> {
    let mut failure = None;
    for location in locations {
        let attempt = match client.at(location) {
            Ok(client) => client.get_messages(id).await,
            Err(error) => Err(error),
        };
        match attempt {
            Ok(messages) => return Ok(messages),
            Err(error) => failure = worse(failure, error),
        }
    }
    Err(failure)
}

/// `not_found` counts only if every location says so.
fn worse(kept: Option<Error>, new: Error) -> Option<Error> {
    match kept {
        Some(kept) if kept.code() != Code::NotFound => Some(kept),
        _ => Some(new),
    }
}
