//! Payloads of other processes.

use async_trait::async_trait;
use sheaf_coordinator::BatchSpec;
use sheaf_flight::{Error, MessageStream};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable};
use sheaf_store::{FlightClient, ReadOptions};

use super::Payloads;

/// Payloads over Flight: from the first location of the batch that answers,
/// or from the default server.
#[derive(Clone, Debug)]
pub struct RemotePayloads {
    client: FlightClient,
    home: Option<String>,
}

impl RemotePayloads {
    /// Reads through `client`; batches without a location are read from its server.
    pub fn new(client: FlightClient) -> Self {
        RemotePayloads { client, home: None }
    }

    /// The address of the coordinator, where it is another than that of the
    /// default server: a batch without a location is in the store beside it,
    /// and not lost before that store has said so too.
    #[must_use]
    pub fn with_home(self, uri: impl Into<String>) -> Self {
        RemotePayloads { home: Some(uri.into()), ..self }
    }

    /// What the store beside the coordinator has; one that holds no payloads
    /// at all says no more than that this one is not there.
    async fn at_home(&self, home: &str, id: &BatchId) -> Result<MessageStream, Error> {
        match open(&self.client.at(home)?, id).await {
            Err(error)
                if matches!(error.code(), Code::FailedPrecondition | Code::Unimplemented) =>
            {
                Err(Error::new(Code::NotFound, format!("no server holds the payload of {id}")))
            }
            answer => answer,
        }
    }
}

#[async_trait]
impl Payloads for RemotePayloads {
    async fn open(&self, batch: &BatchSpec) -> Result<MessageStream, Error> {
        let locations: Vec<&str> = batch.locations.iter().map(String::as_str).collect();
        let mut failure = match first_of(&self.client, &locations, &batch.id).await {
            Ok(messages) => return Ok(messages),
            Err(failure) => failure,
        };
        match open(&self.client, &batch.id).await {
            Ok(messages) => return Ok(messages),
            Err(error) => failure = worse(failure, error),
        }
        if let Some(home) = self.home.as_deref().filter(|_| locations.is_empty()) {
            match self.at_home(home, &batch.id).await {
                Ok(messages) => return Ok(messages),
                Err(error) => failure = worse(failure, error),
            }
        }
        Err(failure
            .unwrap_or_else(|| Error::new(Code::Internal, "no location answered and none failed")))
    }
}

/// As it was put: that is what a registration is about.
async fn open(client: &FlightClient, id: &BatchId) -> Result<MessageStream, Error> {
    client.read(id, &ReadOptions::as_put()).await
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
            Ok(client) => open(&client, id).await,
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
