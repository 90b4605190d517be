//! Serves a backup of this process: ticket `backup/all`.
//!
//! The order is that of [`crate::backup`]: hold, coordinator, payloads. All of it
//! goes on as the client reads, with two record batches ready, and ends when the
//! client goes away, or does not read for a minute.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_coordinator::embedded::Embedded;
use sheaf_flight::{
    CallContext, Descriptor, Error, FlightEntry, Handler, MessageStream, invalid, ipc,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_store::{Error as StoreError, Filter, Hold, REGISTERED_FILE, Store};
use sheaf_terminal::rfc3339;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::backup::COORDINATOR_FILE;
use crate::backup::wire::{END, Head, PART, Rows, TICKET, Tail, VERSION};
use crate::config::Mode;

/// How long payloads are held for a client that does not read on.
const LIFETIME: Duration = Duration::from_secs(60);
/// Record batches that are ready before the client asks for them.
const AHEAD: usize = 2;
/// Payloads looked up in one go.
const PAGE: usize = 256;

/// The namespace `backup`.
#[derive(Clone)]
pub(super) struct Backup {
    pub(super) store: Option<Store>,
    pub(super) embedded: Option<Arc<Embedded>>,
    pub(super) locations: Vec<String>,
    pub(super) data_dir: PathBuf,
    pub(super) mode: Mode,
    /// The Valkey that has the coordinator's state; empty where none has.
    pub(super) coordinator: String,
    pub(super) clock: SharedClock,
    /// Backups at a time: one.
    pub(super) turn: Arc<Semaphore>,
}

impl Backup {
    fn head(&self) -> Head {
        Head {
            version: VERSION,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.mode.as_str().to_owned(),
            coordinator: self.coordinator.clone(),
            locations: self.locations.clone(),
            begun_at: rfc3339(self.clock.now()),
            has_state: self.embedded.is_some(),
            has_payloads: self.store.is_some(),
            payloads: self.store.as_ref().map_or(0, |store| store.stats().payloads),
        }
    }

    fn start(&self) -> Result<MessageStream, Error> {
        if self.store.is_none() && !self.coordinator.is_empty() {
            let text = format!(
                "this server has nothing to back up: the coordinator's state is in {}, and is \
                 backed up there; payloads are backed up at the Flight servers",
                self.coordinator
            );
            return Err(Error::new(Code::FailedPrecondition, text));
        }
        let turn = Arc::clone(&self.turn).try_acquire_owned().map_err(|_| {
            let text = "another backup of this server is under way: try again when it is done";
            Error::new(Code::Overloaded, text).with_retry_after(Duration::from_secs(5))
        })?;
        // Before anything else: what is there now is what the copy may need.
        let hold = self.store.as_ref().map(|store| store.hold(LIFETIME)).transpose()?;
        let head = self.head();
        tracing::info!(payloads = head.payloads, has_state = head.has_state, "a backup begins");
        let internal = |error| Error::new(Code::Internal, format!("no schema: {error}"));
        let schema = head.schema().map_err(internal)?;
        let (out, rows) = mpsc::channel(AHEAD);
        let (failure, failed) = oneshot::channel();
        let gone = out.clone();
        let rows_out = Rows::new(schema.clone());
        let clock = self.clock.clone();
        let sending =
            Sending { rows: rows_out, out, hold, clock, tail: Tail::default(), _turn: turn };
        let from = self.clone();
        // By itself: of a client that does not read, nobody asks for more.
        tokio::spawn(async move {
            tokio::select! {
                sent = sending.run(&from) => if let Err(error) = sent {
                    tracing::warn!(%error, "a backup was broken off");
                    // Nobody listens where the client has gone.
                    drop(failure.send(error));
                },
                () = gone.closed() => tracing::warn!("a backup was broken off by its client"),
            }
        });
        let rows = stream::unfold(rows, |mut rows| async {
            rows.recv().await.map(|batch| (Ok(batch), rows))
        });
        let failed = stream::once(failed).filter_map(|failed| async { failed.ok().map(Err) });
        ipc::encode_stream(schema, rows.chain(failed).boxed(), ipc::Compression::None)
    }

    /// The coordinator at one point in time, in a file that goes when it was sent.
    async fn copy(&self, embedded: &Embedded, hold: Option<&Hold>) -> Result<Copied, Error> {
        let copied = Copied(self.data_dir.join(format!("{COORDINATOR_FILE}.copy")));
        copied.remove();
        let mut copying = pin!(embedded.snapshot_to(copied.0.clone()));
        loop {
            tokio::select! {
                made = &mut copying => {
                    let made = made.map_err(Error::from_error)?;
                    tracing::info!(batches = made.batches, "the coordinator was copied");
                    return Ok(copied);
                }
                () = self.clock.sleep(LIFETIME / 3) => renew(hold)?,
            }
        }
    }
}

fn renew(hold: Option<&Hold>) -> Result<(), Error> {
    Ok(hold.map_or(Ok(()), Hold::renew)?)
}

/// Removes what a backup left that a crash of the server cut off. Nobody else
/// has the directory's coordinator open.
pub(super) fn remove_leftover(data_dir: &Path) {
    for ending in ["copy", "copy.partial"] {
        Copied(data_dir.join(format!("{COORDINATOR_FILE}.{ending}"))).remove();
    }
}

/// A copy of the coordinator; its file ends with it.
struct Copied(PathBuf);

impl Copied {
    fn remove(&self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = self.0.display();
                tracing::warn!(%path, %error, "a copy of the coordinator stays");
            }
            _ => {}
        }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.remove();
    }
}

fn unread(name: &str, error: &std::io::Error) -> Error {
    Error::new(error.code(), format!("{name} cannot be read for the backup: {error}"))
}

/// One backup on its way.
struct Sending {
    rows: Rows,
    out: mpsc::Sender<arrow_array::RecordBatch>,
    hold: Option<Hold>,
    clock: SharedClock,
    tail: Tail,
    _turn: OwnedSemaphorePermit,
}

impl Sending {
    async fn run(mut self, from: &Backup) -> Result<(), Error> {
        if let Some(embedded) = &from.embedded {
            let copied = from.copy(embedded, self.hold.as_ref()).await?;
            self.coordinator(&copied.0).await?;
        }
        if let Some(store) = &from.store {
            self.payloads(store).await?;
        }
        let internal = |error| Error::new(Code::Internal, format!("no end: {error}"));
        let tail = serde_json::to_vec(&self.tail).map_err(internal)?;
        self.rows.add(END, 0, &tail);
        self.flush().await?;
        let Tail { files, bytes, payloads, damaged } = self.tail;
        tracing::info!(files, bytes, payloads, damaged, "a backup was sent");
        Ok(())
    }

    async fn coordinator(&mut self, path: &Path) -> Result<(), Error> {
        let opened = tokio::fs::File::open(path).await;
        let file = opened.map_err(|error| unread(COORDINATOR_FILE, &error))?;
        self.stored(COORDINATOR_FILE, file, u64::MAX).await
    }

    /// Sends a file, up to this many bytes of it.
    async fn stored(&mut self, name: &str, file: tokio::fs::File, limit: u64) -> Result<(), Error> {
        let (mut file, mut part, mut offset) = (file.take(limit), vec![0; PART], 0);
        loop {
            let read = file.read(&mut part).await;
            let length = read.map_err(|error| unread(name, &error))?;
            if length == 0 {
                break;
            }
            self.row(name, offset, &part[..length]).await?;
            offset += length as u64;
        }
        self.tail.files += 1;
        self.tail.bytes += offset;
        Ok(())
    }

    async fn payloads(&mut self, store: &Store) -> Result<(), Error> {
        let mut cursor: Option<BatchId> = None;
        loop {
            let page = store.list(&Filter::default(), cursor.as_ref(), PAGE).await?;
            for info in page.payloads {
                match store.files(&info.id).await {
                    Ok(files) => {
                        for file in files {
                            self.file(&file.name, &file.content).await?;
                        }
                        self.tail.payloads += 1;
                    }
                    // Set aside since it was listed, or just now: as for any reader.
                    Err(StoreError::Corrupt { .. } | StoreError::NotFound { .. }) => {
                        self.tail.damaged += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        // Last: it says of each payload above with which coordinator it was registered.
        if let Some((journal, length)) = store.journal().await? {
            self.stored(REGISTERED_FILE, tokio::fs::File::from_std(journal), length).await?;
        }
        Ok(())
    }

    async fn file(&mut self, name: &str, content: &Bytes) -> Result<(), Error> {
        if content.is_empty() {
            self.row(name, 0, &[]).await?;
        }
        let mut offset = 0;
        for part in content.chunks(PART) {
            self.row(name, offset, part).await?;
            offset += part.len() as u64;
        }
        self.tail.files += 1;
        self.tail.bytes += offset;
        Ok(())
    }

    async fn row(&mut self, name: &str, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.rows.add(name, offset, data);
        if self.rows.is_full() { self.flush().await } else { Ok(()) }
    }

    /// Waits until the client reads on; then payloads are held anew.
    async fn flush(&mut self) -> Result<(), Error> {
        let internal = |error| Error::new(Code::Internal, format!("no rows: {error}"));
        let batch = self.rows.take().map_err(internal)?;
        tokio::select! {
            sent = self.out.send(batch) => {
                sent.map_err(|_| Error::new(Code::Cancelled, "the client has gone"))?;
                renew(self.hold.as_ref())
            }
            () = self.clock.sleep(LIFETIME) => {
                let text = format!("nobody read the backup for {} s", LIFETIME.as_secs());
                Err(Error::new(Code::DeadlineExceeded, text))
            }
        }
    }
}

#[async_trait]
impl Handler for Backup {
    async fn put(
        &self,
        _context: &CallContext,
        _descriptor: Descriptor,
        _messages: MessageStream,
    ) -> Result<Bytes, Error> {
        let text = "a backup is not put back into a running server: `sheaf restore` makes a data directory of it";
        Err(Error::new(Code::Unimplemented, text))
    }

    async fn get(&self, _context: &CallContext, ticket: &str) -> Result<MessageStream, Error> {
        match ticket {
            TICKET => self.start(),
            other => Err(invalid(format!("ticket {other:?}: there is only {TICKET}"))),
        }
    }

    async fn list(
        &self,
        _context: &CallContext,
        _criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        Err(Error::new(Code::Unimplemented, "backups are not listed"))
    }

    async fn info(
        &self,
        _context: &CallContext,
        _descriptor: Descriptor,
    ) -> Result<FlightEntry, Error> {
        let text = format!("a backup is made as it is read: DoGet with the ticket {TICKET}");
        Err(Error::new(Code::Unimplemented, text))
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
