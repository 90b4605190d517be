//! Where the chain of a partition ends.

use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use sheaf_coordinator::CoordinatorExt as _;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _};

use super::names::Extent;
use super::{BatchSink, Facts, PARTITIONS};
use crate::error::Error;
use crate::tracker::TopicPartition;

/// What a store says of a payload.
#[derive(Deserialize)]
struct Info {
    bytes: u64,
    checksum: String,
}

impl BatchSink {
    /// Follows the chains from where they were known to be, all of them at once, a
    /// batch in each round. What is stored and not registered is registered.
    pub(super) async fn ends_of_chains(
        &self,
        begun: Vec<(TopicPartition, i64)>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let mut ends = BTreeMap::new();
        let mut open = begun;
        while !open.is_empty() {
            let steps =
                stream::iter(self.registered(open).await?).map(|(of, at, next)| async move {
                    let next = match next {
                        Some(next) => Some(next),
                        None => self.take_up(&of, at).await?,
                    };
                    Ok::<_, Error>((of, at, next))
                });
            let steps: Vec<_> = steps.buffer_unordered(PARTITIONS).try_collect().await?;
            open = Vec::new();
            for (of, at, next) in steps {
                match next {
                    Some(next) if next > at => open.push((of, next)),
                    _ => {
                        ends.insert(of, at);
                    }
                }
            }
        }
        Ok(ends)
    }

    /// Where the batches end that begin there, as far as they are registered.
    async fn registered(
        &self,
        places: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<(TopicPartition, i64, Option<i64>)>, Error> {
        let mut named = Vec::with_capacity(places.len());
        for (of, at) in places {
            let extent = Extent { of, start: at, next: at, is_dead: false };
            named.push((self.names.link(&extent)?, extent));
        }
        let ids: Vec<BatchId> = named.iter().map(|(id, _)| id.clone()).collect();
        let mut keys = HashMap::new();
        // As many as one call may ask for.
        for ids in ids.chunks(10_000) {
            let known = self.coordinator.0.get_all(ids.to_vec()).await?;
            keys.extend(known.into_iter().map(|one| (one.spec.id, one.spec.partition_key)));
        }
        let found = named.into_iter().map(|(id, Extent { of, start, .. })| {
            let next = keys.get(&id).map(|key| Extent::next_of_key(&id, key));
            Ok((of, start, next.transpose()?))
        });
        found.collect()
    }

    /// Registers the payload that begins there, where there is one; its end.
    async fn take_up(&self, of: &TopicPartition, at: i64) -> Result<Option<i64>, Error> {
        let place = Extent { of: of.clone(), start: at, next: at, is_dead: false };
        let id = self.names.link(&place)?;
        let Some((extent, facts)) = self.payload(&id).await? else { return Ok(None) };
        tracing::info!(batch = %id, next = extent.next, "stored and not registered: taken up");
        let next = extent.next;
        self.register(of, at, vec![self.spec_of(id, &extent, &facts)]).await?;
        Ok(Some(next))
    }

    /// What a stored payload says of itself; `None` where there is none.
    pub(super) async fn payload(&self, id: &BatchId) -> Result<Option<(Extent, Facts)>, Error> {
        let absent = |error: sheaf_flight::Error| match error.code() {
            Code::NotFound => Ok(None),
            _ => Err(Error::Flight(error)),
        };
        let entry = match self.store.info(id).await {
            Ok(entry) => entry,
            Err(error) => return absent(error),
        };
        let mut messages = match self.store.get_messages(id).await {
            Ok(messages) => messages,
            Err(error) => return absent(error),
        };
        let first = messages.next().await.transpose().map_err(Error::Flight)?;
        let metadata = first.map(|first| first.app_metadata).unwrap_or_default();
        let extent = Extent::from_metadata(id, &metadata)?;
        let Info { bytes, checksum } = serde_json::from_slice(&entry.app_metadata)
            .map_err(|error| Error::Invalid(format!("what the store says of {id}: {error}")))?;
        let rows = u64::try_from(entry.total_records).unwrap_or(0);
        Ok(Some((extent, Facts { rows, bytes, checksum })))
    }

    /// Whether a batch is registered.
    pub(super) async fn knows(&self, id: &BatchId) -> Result<bool, Error> {
        Ok(self.coordinator.0.get(id).await?.is_some())
    }
}
