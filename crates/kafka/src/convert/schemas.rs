//! Decoding, with the schemas that it asks for.
//!
//! What has to hold:
//! - Messages whose schema cannot be had just now wait, and all of their topic
//!   behind them; they are no dead letters because a registry is down.
//! - No answer is for ever: what was refused, or rejects messages, is asked for
//!   again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_retry::SharedClock;
use tokio_util::sync::CancellationToken;

use crate::consume::Chunk;
use crate::decode::{Decoded, DecodedBatch, Decoder, RegisteredSchema};
use crate::error::Error;
use crate::registry::Registry;
use crate::tracker::{SpanId, Tracker};

/// Schemas that are asked for at once.
const AT_ONCE: usize = 8;
/// How long an answer is believed that costs messages.
const BELIEVED: Duration = Duration::from_secs(60);
/// How often it is looked whether messages that wait are still ours.
const LOOK: Duration = Duration::from_millis(250);

/// What came of asking for a schema: the schema, or why there is none.
type Answer = (u32, Result<RegisteredSchema, String>);

/// Where the schemas of a topic come from.
pub(crate) struct Schemas {
    registry: Option<Arc<Registry>>,
    /// When the gateway ends.
    end: CancellationToken,
    clock: SharedClock,
    /// Since when answers that cost messages are believed.
    since: Duration,
}

impl Schemas {
    pub(crate) fn new(
        registry: Option<Arc<Registry>>,
        end: CancellationToken,
        clock: SharedClock,
    ) -> Self {
        let since = clock.elapsed();
        Schemas { registry, end, clock, since }
    }

    /// Rows of a chunk; none where its partition went while it waited.
    ///
    /// # Errors
    /// [`Error::StreamOver`] where the gateway ends meanwhile.
    pub(super) async fn decode(
        &mut self,
        mut decoder: Decoder,
        mut chunk: Chunk,
        tracker: &Tracker,
    ) -> Result<(Decoder, Chunk, Option<DecodedBatch>), Error> {
        let is_asked = self.registry.is_some();
        let mut answers = self.look_again(&mut decoder).await;
        loop {
            let work = move || {
                if !is_asked {
                    decoder.without_registry();
                }
                for (id, answer) in answers {
                    match answer {
                        Ok(schema) => decoder.learn(id, &schema),
                        Err(reason) => decoder.refuse(id, reason),
                    }
                }
                let decoded = decoder.decode(chunk.span.of().partition, &chunk.messages);
                (decoder, chunk, decoded)
            };
            let done = tokio::task::spawn_blocking(work).await;
            let decoded;
            (decoder, chunk, decoded) = done.map_err(|_| Error::TaskLost)?;
            let ids = match decoded? {
                Decoded::Batch(batch) => return Ok((decoder, chunk, Some(batch))),
                Decoded::Unknown(ids) => ids,
            };
            answers = tokio::select! {
                answers = self.ask(ids) => answers,
                () = self.end.cancelled() => return Err(Error::StreamOver),
                () = self.gone(tracker, &chunk.span) => return Ok((decoder, chunk, None)),
            };
        }
    }

    /// Once in a while: has refused schemas asked for again by the messages that
    /// name them, and those that reject messages now. The latter are no reason to
    /// wait for a registry that is down: most likely the messages are wrong.
    async fn look_again(&mut self, decoder: &mut Decoder) -> Vec<Answer> {
        let now = self.clock.elapsed();
        let Some(registry) = &self.registry else { return Vec::new() };
        if now.saturating_sub(self.since) < BELIEVED {
            return Vec::new();
        }
        self.since = now;
        decoder.forget_refused();
        let one = |id| async move { registry.schema(id).await.ok().map(|schema| (id, Ok(schema))) };
        let asked = futures::stream::iter(decoder.take_doubted(AT_ONCE)).map(one);
        asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    async fn ask(&self, ids: Vec<u32>) -> Vec<Answer> {
        let one = |id| async move {
            let answer = match &self.registry {
                Some(registry) => registry.insist(id).await,
                None => Err("there is no registry to ask".to_owned()),
            };
            (id, answer)
        };
        futures::stream::iter(ids).map(one).buffer_unordered(AT_ONCE).collect().await
    }

    /// Until a partition is somebody else's.
    async fn gone(&self, tracker: &Tracker, span: &SpanId) {
        while tracker.is_current(span) {
            self.clock.sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests;
