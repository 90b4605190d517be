//! Reads one partition, over as many calls as it takes, whatever they speak.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Decoded, Decoder};
use sheaf_retry::Code;
use tokio::sync::Mutex;
use twox_hash::XxHash3_64;

use super::calls::Calls;
use super::fits::check_schema_compatibility;
use super::parked::{Chunks, Place};
use crate::shuffle::engine::{MAX_WAIT, ReadOptions};
use crate::shuffle::error::Error;
use crate::shuffle::key::{PartitionKey, Totals};
use crate::shuffle::table::has_dictionaries;

/// Bytes of a page from which on there are no pages any more.
const LARGE_PAGE: u64 = 64 << 20;

/// A client that can ask a worker for a partition.
pub(crate) trait Source: Clone + Send + Sync + 'static {
    fn calls(&self) -> &Calls;

    /// Asks for a partition from a chunk on. Where `expected` is given, the worker may
    /// refuse another schema; it is looked at here too.
    fn ask<'a>(
        &'a self,
        peer: &'a str,
        key: &'a PartitionKey,
        expected: Option<&'a Schema>,
        options: ReadOptions,
    ) -> BoxFuture<'a, Result<Opened, Error>>;
}

/// The answer of a worker that has the partition.
pub(crate) struct Opened {
    pub(crate) schema: Message,
    pub(crate) incarnation: u64,
    pub(crate) chunks: Chunks,
    /// It comes from this process, over no connection.
    pub(crate) is_local: bool,
}

/// What comes. Checksums were looked at.
pub(crate) enum Got {
    Chunk { sequence: u64, message: Message },
    More(u64),
    End(Totals),
}

/// One partition of one worker, and how far it was read.
pub(crate) struct Reading<S> {
    source: S,
    of: Of,
    schema: SchemaRef,
    state: Mutex<State>,
}

/// What is read from whom.
struct Of {
    peer: String,
    key: PartitionKey,
    expected: Option<Schema>,
    place: Place,
}

struct State {
    options: ReadOptions,
    /// Until when what is not there yet is waited for.
    wait_until: Option<Duration>,
    /// The chunk that is next.
    position: u64,
    /// Chunks before it are read for their dictionaries only.
    from: u64,
    rows: u64,
    /// Chunks before it were said to be consumed.
    acknowledged: u64,
    schema: Option<Message>,
    decoder: Decoder,
    /// The call, where it is local.
    here: Option<Chunks>,
    is_local: bool,
    /// The call was left at its place.
    is_parked: bool,
    /// Bytes of chunks that the call gave.
    given: u64,
    /// Bytes that are asked for at once, after a call was given up; 0 for all.
    page: u64,
    is_over: bool,
}

impl<S: Source> Reading<S> {
    pub(crate) async fn open(
        source: S,
        peer: &str,
        key: &PartitionKey,
        expected: Option<&Schema>,
        mut options: ReadOptions,
        bounds: Bounds,
    ) -> Result<Self, Error> {
        let calls = source.calls();
        if options.consume && options.max_bytes == 0 {
            options.max_bytes = calls.manner.page_bytes;
        }
        let (peer, key, expected) = (peer.to_owned(), key.clone(), expected.cloned());
        let place = Place::new(&calls.parked, &peer);
        let of = Of { peer, key, expected, place };
        let state = Mutex::new(State::new(options, bounds));
        let failed = |cause| calls.fetch_failed(&of.peer, &of.key, cause);
        let (to, by, about) = (&state, &source, &of);
        let opened = calls
            .with_retries(&of.peer, || Box::pin(async { to.lock().await.begin(by, about).await }));
        opened.await.map_err(failed)?;
        let schema = state.lock().await.decoder.schema().map(SchemaRef::clone);
        let no_schema = || Error::Protocol("the first message is no schema".to_owned());
        let schema = schema.ok_or_else(|| failed(no_schema()))?;
        Ok(Reading { source, of, schema, state })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    pub(crate) fn position(&mut self) -> u64 {
        let state = self.state.get_mut();
        state.position.max(state.from)
    }

    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let calls = self.source.calls();
        self.state.get_mut().wait_anew(calls);
        let (source, of, state) = (&self.source, &self.of, &self.state);
        let next = calls.with_retries(&of.peer, || {
            Box::pin(async { state.lock().await.step(source, of).await })
        });
        next.await.map_err(|cause| calls.fetch_failed(&of.peer, &of.key, cause))
    }

    /// Shows it as what it is called.
    pub(crate) fn show(&self, name: &str, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct(name);
        shown.field("peer", &self.of.peer).field("key", &self.of.key).finish_non_exhaustive()
    }
}

impl State {
    fn new(options: ReadOptions, bounds: Bounds) -> Self {
        State {
            options,
            wait_until: None,
            position: options.from_sequence,
            from: 0,
            rows: 0,
            acknowledged: 0,
            schema: None,
            decoder: Decoder::new(bounds),
            here: None,
            is_local: false,
            is_parked: false,
            given: 0,
            page: 0,
            is_over: false,
        }
    }

    fn wait_anew(&mut self, calls: &Calls) {
        self.wait_until = Some(calls.manner.clock.elapsed().saturating_add(self.options.wait));
    }

    /// Asks for the first time.
    async fn begin<S: Source>(&mut self, by: &S, of: &Of) -> Result<(), Error> {
        let first = self.options.from_sequence;
        if first == 0 {
            let call = self.ask(by, of, self.options).await?;
            if self.is_local {
                self.here = Some(call);
            } else {
                // Who was not read from yet takes no other's place.
                self.is_parked = of.place.try_park(call);
            }
            return Ok(());
        }
        // Whether to begin there depends on the schema: nothing is consumed before.
        drop(self.ask(by, of, ReadOptions { consume: false, max_bytes: 1, ..self.options }).await?);
        if self.decoder.schema().is_some_and(|schema| has_dictionaries(schema)) {
            (self.position, self.from) = (0, first);
        }
        Ok(())
    }

    /// Asks for the partition from the next chunk on.
    async fn ask<S: Source>(
        &mut self,
        by: &S,
        of: &Of,
        options: ReadOptions,
    ) -> Result<Chunks, Error> {
        let calls = by.calls();
        let wait = self.left(calls);
        let options = ReadOptions { from_sequence: self.position, wait, ..options };
        let limit = patience(calls, options.wait);
        let asked = by.ask(&of.peer, &of.key, of.expected.as_ref(), options);
        let Opened { schema, incarnation, chunks, is_local } = calls.within(limit, asked).await?;
        self.check(&of.key, of.expected.as_ref(), schema, incarnation)?;
        if options.consume {
            self.acknowledged = self.position;
        }
        (self.is_local, self.is_parked, self.given) = (is_local, false, 0);
        Ok(chunks)
    }

    /// How long what is not there yet is still waited for: over all retries as long
    /// as the caller said.
    fn left(&mut self, calls: &Calls) -> Duration {
        match self.wait_until {
            Some(until) => until.saturating_sub(calls.manner.clock.elapsed()),
            None => {
                self.wait_anew(calls);
                self.options.wait
            }
        }
    }

    fn check(
        &mut self,
        key: &PartitionKey,
        expected: Option<&Schema>,
        schema: Message,
        incarnation: u64,
    ) -> Result<(), Error> {
        let Some(first) = &self.schema else {
            if let (Decoded::Schema(found), Some(expected)) =
                (self.decoder.push(&schema)?, expected)
            {
                check_schema_compatibility(&found, expected)?;
            }
            // Its positions mean nothing in another one.
            self.options.incarnation = incarnation;
            self.schema = Some(schema);
            return Ok(());
        };
        if first.header == schema.header {
            return Ok(());
        }
        // What was read so far would not fit what comes.
        let print = |message: &Message| format!("{:016x}", XxHash3_64::oneshot(&message.header));
        let (known, said) = (print(first), print(&schema));
        let problem = "and after the call was made again";
        Err(Error::Schema { key: key.clone(), known, problem, said })
    }

    /// The next record batch. An error leaves the position at the last whole chunk.
    async fn step<S: Source>(&mut self, by: &S, of: &Of) -> Result<Option<RecordBatch>, Error> {
        let calls = by.calls();
        let limit = patience(calls, self.options.wait);
        while !self.is_over {
            // Taken out: where this is dropped or fails, the call is made again.
            let mut call = match self.resume(of) {
                Some(call) => call,
                None => self.ask_on(by, of).await?,
            };
            let next = async { call.next().await.ok_or_else(broken_off)? };
            match calls.within(limit, next).await? {
                Got::Chunk { sequence, message } => {
                    let bytes = message.header.len() + message.body_len();
                    calls.metrics.read(&of.peer, bytes);
                    let batch = self.take(sequence, &message)?;
                    self.leave(of, call);
                    if batch.is_some() {
                        return Ok(batch);
                    }
                }
                Got::More(next) => self.more(&of.peer, next)?,
                Got::End(totals) => self.end(&of.key, totals)?,
            }
        }
        Ok(None)
    }

    /// The call that was left, if it is still there.
    fn resume(&mut self, of: &Of) -> Option<Chunks> {
        let call = self.here.take().or_else(|| of.place.take())?;
        self.is_parked = false;
        Some(call)
    }

    /// Asks from where it was read to; by pages, where the call before was given up
    /// for others.
    async fn ask_on<S: Source>(&mut self, by: &S, of: &Of) -> Result<Chunks, Error> {
        if std::mem::take(&mut self.is_parked) && self.given > 0 {
            self.page = self.given;
        }
        let max_bytes = match (self.options.max_bytes, self.page) {
            (0, page) => page,
            (most, 0) => most,
            (most, page) => most.min(page),
        };
        self.ask(by, of, ReadOptions { max_bytes, ..self.options }).await
    }

    /// Leaves the call until more is wanted of it.
    fn leave(&mut self, of: &Of, call: Chunks) {
        if self.is_local {
            self.here = Some(call);
        } else {
            of.place.park(call);
            self.is_parked = true;
        }
    }

    fn take(&mut self, sequence: u64, message: &Message) -> Result<Option<RecordBatch>, Error> {
        if sequence != self.position {
            let expected = self.position;
            return Err(Error::Protocol(format!("chunk {sequence} came where {expected} is next")));
        }
        let decoded = self.decoder.push(message)?;
        self.position += 1;
        self.given += message.len() as u64;
        match decoded {
            Decoded::Batch(batch) if self.position > self.from => {
                self.rows += batch.num_rows() as u64;
                Ok(Some(batch))
            }
            _ => Ok(None),
        }
    }

    fn more(&mut self, peer: &str, next: u64) -> Result<(), Error> {
        if next != self.position {
            let text = format!("chunk {next} is said to be next, not {}", self.position);
            return Err(Error::Protocol(text));
        }
        if self.given == 0 {
            let text = format!("{peer} says that more comes from chunk {next} on, and gives none");
            return Err(sheaf_flight::Error::new(Code::Unavailable, text).into());
        }
        if self.page > 0 {
            let page = self.page.max(self.given).saturating_mul(2);
            self.page = if page > LARGE_PAGE { 0 } else { page };
        }
        Ok(())
    }

    fn end(&mut self, key: &PartitionKey, said: Totals) -> Result<(), Error> {
        if self.position < self.from {
            let (position, known) = (self.from, self.position);
            return Err(Error::Position { key: key.clone(), position, known });
        }
        let is_whole = self.options.from_sequence == 0;
        let found = Totals { chunks: self.position, rows: self.rows };
        if said.chunks != found.chunks || (is_whole && said.rows != found.rows) {
            return Err(Error::Incomplete { key: key.clone(), said, found });
        }
        // The last page is consumed with one more call.
        self.is_over = !self.options.consume || self.acknowledged == self.position;
        Ok(())
    }
}

/// How long an answer may take where the worker waits for so long.
fn patience(calls: &Calls, wait: Duration) -> Duration {
    calls.manner.call_deadline.saturating_add(wait.min(MAX_WAIT))
}

pub(crate) fn broken_off() -> Error {
    let text = "the stream of a partition ended without its end";
    Error::Flight(sheaf_flight::Error::new(Code::Unavailable, text))
}
