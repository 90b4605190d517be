//! A copy of a running coordinator, in a file of its own.
//!
//! A thread asks the writer for one part after the other, as any caller asks,
//! and writes the parts; the writer never waits for the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use redb::Database;
use sheaf_proto::storage::v1::CoordinatorMeta;
use sheaf_retry::{Code, Timestamp};
use tokio::sync::oneshot;

use super::disk::{self, BATCHES, COPY_LEAP, META, META_KEY, QUARANTINE, QUEUES};
use super::mailbox::{Call, CopyCall, Mailbox, Reply};
use crate::contract::Error;
use crate::engine::{CopyHead, CopyPart, MAX_EPOCH};
use crate::model::Fence;

/// Batches of one transaction of the copy.
const GROUP: usize = 65_536;
/// Memory for the copy's pages, bytes.
const CACHE_BYTES: usize = 16 << 20;

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The coordinator's time at the point of the copy.
    pub at: Timestamp,
    /// Batches, terminal ones included.
    pub batches: u64,
    /// Queues.
    pub queues: u64,
    /// The last fencing token that was given out until then.
    pub last_fence: Fence,
}

/// Makes the copy on a thread of its own.
pub(super) async fn make(mailbox: Arc<Mailbox>, path: PathBuf) -> Result<Snapshot, Error> {
    let (mut done, result) = oneshot::channel();
    let run = move || {
        let copied = run(&mailbox, &path, &mut done);
        // Nobody listens once the call was dropped.
        drop(done.send(copied));
    };
    let spawned = std::thread::Builder::new().name("coordinator-copy".to_owned()).spawn(run);
    spawned.map_err(|error| io("start the thread of a copy".to_owned(), error))?;
    result.await.unwrap_or_else(|_| Err(super::crashed()))
}

fn io(operation: String, error: std::io::Error) -> Error {
    let error = redb::Error::Io(error);
    let code = disk::code(&error);
    Error::Backend { operation, code, source: Some(Box::new(error)) }
}

fn ask<T>(mailbox: &Mailbox, call: impl FnOnce(Reply<T>) -> CopyCall) -> Result<T, Error> {
    let (reply, answer) = oneshot::channel();
    mailbox.put(Call::Copy(call(reply)))?;
    answer.blocking_recv().unwrap_or_else(|_| Err(super::crashed()))
}

/// However it ends, the writer keeps nothing more for the copy, and no part
/// of a file is left.
struct Unfinished<'a> {
    mailbox: &'a Mailbox,
    partial: PathBuf,
    /// Parts are still to be asked for.
    is_reading: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.is_reading {
            // A coordinator that is shut down keeps nothing.
            drop(self.mailbox.put(Call::Copy(CopyCall::End)));
        }
        // After success it has another name.
        drop(std::fs::remove_file(&self.partial));
    }
}

fn run(
    mailbox: &Mailbox,
    path: &Path,
    done: &mut oneshot::Sender<Result<Snapshot, Error>>,
) -> Result<Snapshot, Error> {
    if path.symlink_metadata().is_ok() {
        let operation = format!("write a copy to {}: there is a file already", path.display());
        return Err(Error::Backend { operation, code: Code::AlreadyExists, source: None });
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let head = ask(mailbox, CopyCall::Begin)?;
    let mut unfinished = Unfinished { mailbox, partial: partial.into(), is_reading: true };
    match std::fs::remove_file(&unfinished.partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let partial = unfinished.partial.display();
            return Err(io(format!("remove the unfinished copy {partial}"), error));
        }
        _ => {}
    }
    let meta = meta_of_copy(&head)?;
    let mut file = File::create(&unfinished.partial)?;
    file.begin(&head)?;
    loop {
        if done.is_closed() {
            return Err(super::mailbox::closed());
        }
        let part = ask(mailbox, CopyCall::Part)?;
        unfinished.is_reading = !part.is_last;
        file.add(part)?;
        if !unfinished.is_reading {
            break;
        }
    }
    file.finish(&meta)?;
    std::fs::rename(&unfinished.partial, path)
        .map_err(|error| io(format!("name the copy {}", path.display()), error))?;
    super::sync_directory(path)?;
    Ok(Snapshot {
        at: Timestamp::from_micros(head.meta.last_now),
        batches: head.batches,
        queues: head.queues.len() as u64,
        last_fence: Fence(head.meta.last_fence),
    })
}

/// The copy goes on in an epoch that the original does not come to.
fn meta_of_copy(head: &CopyHead) -> Result<CoordinatorMeta, Error> {
    let mut meta = head.meta.clone();
    meta.epoch += COPY_LEAP;
    meta.copied_at = meta.last_now.max(1);
    if meta.epoch >= MAX_EPOCH {
        let operation = format!(
            "copy the coordinator: its epoch {} leaves no room for one of the copy below {MAX_EPOCH}",
            head.meta.epoch
        );
        return Err(Error::Backend { operation, code: Code::FailedPrecondition, source: None });
    }
    Ok(meta)
}

/// The file of a copy.
struct File {
    name: String,
    database: Database,
    waiting: Vec<(u64, Vec<u8>)>,
}

impl File {
    fn create(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(path).map_err(|error| failed(&name, error))?;
        Ok(File { name, database, waiting: Vec::new() })
    }

    fn begin(&self, head: &CopyHead) -> Result<(), Error> {
        let run = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            write.open_table(BATCHES)?;
            write.open_table(QUARANTINE)?;
            {
                let mut queues = write.open_table(QUEUES)?;
                for (name, value) in &head.queues {
                    queues.insert(name.as_str(), value.as_slice())?;
                }
            }
            write.commit()?;
            Ok(())
        };
        run().map_err(|error| failed(&self.name, error))
    }

    fn add(&mut self, part: CopyPart) -> Result<(), Error> {
        self.waiting.extend(part.batches);
        if self.waiting.len() < GROUP { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Error> {
        // In order of the keys the pages of the tree are touched once.
        self.waiting.sort_unstable_by_key(|(sequence, _)| *sequence);
        let run = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            {
                let mut batches = write.open_table(BATCHES)?;
                for (sequence, value) in &self.waiting {
                    batches.insert(sequence, value.as_slice())?;
                }
            }
            write.commit()?;
            Ok(())
        };
        run().map_err(|error| failed(&self.name, error))?;
        self.waiting.clear();
        Ok(())
    }

    /// The last thing that is written says that the copy is whole.
    fn finish(mut self, meta: &CoordinatorMeta) -> Result<(), Error> {
        self.flush()?;
        let run = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            let meta = meta.encode_to_vec();
            write.open_table(META)?.insert(META_KEY, meta.as_slice())?;
            write.commit()?;
            Ok(())
        };
        run().map_err(|error| failed(&self.name, error))
    }
}

fn failed(name: &str, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let code = disk::code(&error);
    Error::Backend {
        operation: format!("write the copy {name}"),
        code,
        source: Some(Box::new(error)),
    }
}
