//! Who reads a partition, and waits for what is not there yet.

use std::sync::Arc;
use std::time::Duration;

use sheaf_flight::Message;

use super::{Exchange, MANY_WAITING, PAGE_IDLE, ReadOptions};
use crate::shuffle::error::Error;
use crate::shuffle::key::{PartitionKey, Totals};
use crate::shuffle::metrics::Counted;
use crate::shuffle::table::{Mode, Step, Table};

/// Reads one partition from a position on.
#[derive(Debug)]
pub(crate) struct Reader {
    exchange: Exchange,
    key: PartitionKey,
    options: ReadOptions,
    wait: Duration,
    schema: Message,
    incarnation: u64,
    position: u64,
    bytes: u64,
}

/// What a reader gives.
#[derive(Debug)]
pub(crate) enum Item {
    Chunk {
        sequence: u64,
        sender: u32,
        crc: u32,
        message: Message,
    },
    /// As many bytes as were wanted were given, or what was given is to be
    /// consumed before more can come: the next position.
    More(u64),
    End(Totals),
}

impl Reader {
    pub(super) fn new(exchange: Exchange, key: PartitionKey, options: ReadOptions) -> Self {
        let (schema, incarnation) = (Message::default(), 0);
        let (position, bytes) = (options.from_sequence, 0);
        let wait = options.wait.min(super::MAX_WAIT);
        Reader { exchange, key, options, wait, schema, incarnation, position, bytes }
    }

    /// It was found, and is the one to be read.
    pub(super) fn begin(&mut self, schema: Message, incarnation: u64) {
        (self.schema, self.incarnation) = (schema, incarnation);
    }

    pub(super) fn key(&self) -> &PartitionKey {
        &self.key
    }

    /// The schema message of the partition.
    pub(crate) fn schema(&self) -> Message {
        self.schema.clone()
    }

    /// Which partition of this key it reads.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The next chunk, once it is there.
    pub(crate) async fn next(&mut self) -> Result<Item, Error> {
        let ReadOptions { max_bytes, pipelined, consume, .. } = self.options;
        let position = self.position;
        if max_bytes > 0 && self.bytes >= max_bytes {
            return Ok(Item::More(position));
        }
        // What was given holds memory until the reader comes again; what it waits
        // for may wait for that memory.
        let holds_memory = consume && self.bytes > 0;
        let wait = if holds_memory { self.wait.min(PAGE_IDLE) } else { self.wait };
        let mode = if pipelined { Mode::Pipelined } else { Mode::Complete };
        let step = self
            .wait_for(wait, |table, key| {
                if table.schema(key)?.1 != self.incarnation {
                    return Err(Error::Anew { key: key.clone() });
                }
                table.next(key, position, mode)
            })
            .await?;
        match step {
            Step::End(totals) => Ok(Item::End(totals)),
            Step::Wait(_) if holds_memory => Ok(Item::More(position)),
            Step::Wait(missing) => Err(self.stalled(missing)),
            Step::Chunk(entry, sender) => {
                let crc = entry.crc;
                let message = self.exchange.fetch(entry).await?;
                self.position += 1;
                self.bytes += message.len() as u64;
                Ok(Item::Chunk { sequence: position, sender, crc, message })
            }
        }
    }

    /// Looks until there is something, or there was none for as long as the
    /// caller waits.
    pub(super) async fn wait_for<T: Awaited>(
        &self,
        wait: Duration,
        look: impl Fn(&mut Table, &PartitionKey) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let clock = &self.exchange.shared.clock;
        let end = clock.elapsed() + wait;
        loop {
            let (notified, found) = {
                let mut state = self.exchange.state();
                let found = look(&mut state.table, &self.key);
                // Who waits uses it as well.
                if matches!(found, Ok(_) | Err(Error::NotReady { .. })) {
                    state.table.touch(self.key.query(), clock.elapsed());
                }
                let waits = match &found {
                    Ok(found) => !found.is_there(),
                    Err(error) => matches!(error, Error::NotFound { .. } | Error::NotReady { .. }),
                };
                if !waits {
                    return found;
                }
                if state.waiting.len() > MANY_WAITING {
                    state.waiting.retain(|_, notify| Arc::strong_count(notify) > 1);
                }
                let notify = state.waiting.entry(self.key.clone()).or_default();
                // It is woken by what changes after the lock is let go.
                (Arc::clone(notify).notified_owned(), found)
            };
            let _waiting = Counted::new(&self.exchange.shared.metrics.readers_waiting);
            let left = end.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return found;
            }
            tokio::select! {
                () = notified => {}
                () = clock.sleep(left) => {}
            }
        }
    }

    fn stalled(&self, missing: u32) -> Error {
        let waited_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        Error::Stalled { key: self.key.clone(), waited_ms, missing }
    }
}

/// What can be there or not yet.
pub(super) trait Awaited {
    fn is_there(&self) -> bool;
}

impl Awaited for (Message, u64) {
    fn is_there(&self) -> bool {
        true
    }
}

impl Awaited for Step {
    fn is_there(&self) -> bool {
        !matches!(self, Step::Wait(_))
    }
}
