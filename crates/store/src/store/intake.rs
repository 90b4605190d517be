//! Takes in one stream: checked, hashed, and held in memory or written on.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Compression, Kind, StreamValidator};

use super::ledger::{Share, counted};
use super::memory::Movable;
use super::recode::Shrinker;
use super::spill::Reserved;
use super::{Inner, room};
use crate::budget::{Held, compact};
use crate::content::ContentHasher;
use crate::disk::{Checked, FileWriter, crc_of, version_for};
use crate::error::Error;
use crate::kept::Kept;

/// What a message takes besides its bytes, here, in the index and in the
/// budget itself: without it, a million empty ones would cost nothing.
const MESSAGE_OVERHEAD: u64 = 256;

/// A stream so far.
pub(crate) struct Intake {
    validator: StreamValidator,
    content: ContentHasher,
    shrinker: Shrinker,
    /// Bytes of the messages as they are kept.
    stored_bytes: u64,
    /// Bytes of metadata of applications.
    metadata_bytes: u64,
    held: Held,
    /// Of what the writer keeps of messages that were written.
    records: Held,
    /// Before what it counts is dropped, others are to know that it is less.
    pub(super) movable: Movable,
    /// Messages that are in memory: all of them, or those after the last that
    /// was written where there is a writer.
    pub(crate) waiting: Vec<Checked>,
    writer: Option<FileWriter>,
    /// Room on disk for what was written, given back after the file is gone.
    reserved: Reserved,
    schema: Bytes,
    /// Of who puts it, where that is counted.
    share: Option<Share>,
    /// Bytes that are not reserved before the end: the name is taken, most
    /// likely by the same.
    unreserved: u64,
}

/// What is known of a stream once it is over.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) schema: Bytes,
    pub(crate) schema_fingerprint: String,
    pub(crate) checksum: String,
    /// Bytes that count against a quota.
    pub(crate) counted: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) messages: u64,
    pub(crate) replaced: bool,
}

/// A complete stream.
pub(crate) struct Taken {
    pub(crate) summary: Summary,
    pub(crate) messages: Vec<Checked>,
    pub(crate) held: Held,
    pub(crate) writer: Option<FileWriter>,
    pub(crate) reserved: Reserved,
    pub(crate) share: Option<Share>,
}

impl Intake {
    pub(crate) fn new(inner: &Arc<Inner>, compression: Compression, share: Option<Share>) -> Self {
        let bounds = inner.options.bounds.clone();
        Intake {
            shrinker: Shrinker::new(compression, bounds.clone()),
            stored_bytes: 0,
            metadata_bytes: 0,
            validator: StreamValidator::new(bounds),
            content: ContentHasher::default(),
            held: Held::new(&inner.account),
            records: Held::new(&inner.account),
            movable: Movable::new(inner),
            waiting: Vec::new(),
            writer: None,
            reserved: Reserved::new(inner),
            schema: Bytes::new(),
            share,
            unreserved: 0,
        }
    }

    /// The name is taken by so many bytes: a put of the same takes no room, and
    /// is not refused for want of it.
    pub(crate) fn may_repeat(&mut self, bytes: u64) {
        self.unreserved = bytes;
    }

    /// The next message of the stream.
    pub(crate) async fn push(&mut self, inner: &Arc<Inner>, message: Message) -> Result<(), Error> {
        let outline = self.validator.check(&message)?;
        let message = compact(message);
        self.content.add(&message);
        self.metadata_bytes += message.app_metadata.len() as u64;
        let bytes = self.counted();
        if let Some(share) = self.share.as_mut().filter(|_| bytes > self.unreserved) {
            share.reach(bytes)?;
        }
        if outline.kind == Kind::Schema {
            self.schema = Bytes::copy_from_slice(&message.header);
        }
        self.hold(inner, &message).await?;
        let kept = self.shrink(inner, message).await?;
        self.stored_bytes += kept.sent_len();
        let crc = crc_of(&kept.message);
        self.movable.grow(kept.message.len() as u64 + MESSAGE_OVERHEAD);
        self.waiting.push(Checked { kept, kind: outline.kind, rows: outline.rows, crc });
        if self.writer.is_some() {
            self.write_on(inner).await?;
        }
        Ok(())
    }

    /// Bytes that count against a quota so far.
    fn counted(&self) -> u64 {
        counted(self.content.bytes(), self.metadata_bytes, self.validator.messages())
    }

    /// Compresses a message that is counted, where that is wanted and pays.
    async fn shrink(&mut self, inner: &Arc<Inner>, message: Message) -> Result<Kept, Error> {
        let kept = self.shrinker.shrink(inner, message.clone()).await?;
        if kept.is_shrunk() {
            self.held.exchange(&message, &kept);
        }
        Ok(kept)
    }

    /// Has the message counted: makes room for it, or writes on what came
    /// before it where there is no other room.
    async fn hold(&mut self, inner: &Arc<Inner>, message: &Message) -> Result<(), Error> {
        loop {
            let Err(full) = self.held.add_with(message, MESSAGE_OVERHEAD) else { return Ok(()) };
            if !inner.account.can_ever_hold(full.needed) {
                inner.metrics.refused.inc();
                return Err(room::refusal(full));
            }
            if room::make(inner, full).await? {
                continue;
            }
            // Others may have left meanwhile.
            let Err(full) = self.held.add_with(message, MESSAGE_OVERHEAD) else { return Ok(()) };
            if inner.directory.is_none() || self.waiting.is_empty() {
                inner.metrics.refused.inc();
                return Err(room::refusal(full));
            }
            self.write_on(inner).await?;
        }
    }

    /// Moves what is in memory to a file under a temporary name.
    pub(super) async fn write_on(&mut self, inner: &Arc<Inner>) -> Result<(), Error> {
        let Some(directory) = &inner.directory else { return Err(Error::NoDirectory) };
        self.reserved.grow(self.waiting.iter().map(file_bytes).sum())?;
        let records = self.waiting.iter().map(record_bytes).sum();
        let (disk, path) = (inner.disk.clone(), directory.temporary());
        let reserved = std::mem::replace(&mut self.reserved, Reserved::new(inner));
        let (writer, waiting) = (self.writer.take(), std::mem::take(&mut self.waiting));
        let held = std::mem::replace(&mut self.held, Held::new(&inner.account));
        let (writer, reserved) = inner
            .committer
            .write(move || {
                // Of the closure, so that it outlives the file where this fails.
                let reserved = reserved;
                let mut writer = match writer {
                    Some(writer) => writer,
                    None => FileWriter::create(disk, path)?,
                };
                for message in &waiting {
                    writer.append(message)?;
                }
                drop((waiting, held));
                Ok((writer, reserved))
            })
            .await?;
        (self.writer, self.reserved) = (Some(writer), reserved);
        self.hold_records(inner, records).await?;
        self.movable.clear();
        Ok(())
    }

    /// What the writer keeps of each message until the end of the file.
    async fn hold_records(&mut self, inner: &Arc<Inner>, bytes: u64) -> Result<(), Error> {
        let held = room::hold(inner, &mut self.records, bytes).await;
        held.inspect_err(|error| {
            if matches!(error, Error::MemoryFull { .. }) {
                inner.metrics.refused.inc();
            }
        })
    }

    /// The end of the stream.
    pub(crate) fn finish(self) -> Result<Taken, Error> {
        self.validator.finish()?;
        let counted = self.counted();
        let summary = Summary {
            schema: self.schema,
            schema_fingerprint: self.content.schema_fingerprint(),
            checksum: self.content.checksum(),
            counted,
            rows: self.validator.rows(),
            bytes: self.content.bytes(),
            stored_bytes: self.stored_bytes,
            messages: self.validator.messages() - 1,
            replaced: self.validator.has_replacement(),
        };
        let Intake { waiting: messages, held, writer, reserved, share, .. } = self;
        Ok(Taken { summary, messages, held, writer, reserved, share })
    }
}

/// What is kept of a message that was written: its place, and its metadata.
fn record_bytes(checked: &Checked) -> u64 {
    MESSAGE_OVERHEAD + beside(checked)
}

/// What a message takes in a file; metadata is text in its footer.
pub(super) fn file_bytes(checked: &Checked) -> u64 {
    checked.kept.sent_len() + 2 * beside(checked) + MESSAGE_OVERHEAD
}

fn beside(checked: &Checked) -> u64 {
    (checked.kept.message.app_metadata.len() + checked.kept.put_header.len()) as u64
}

/// Format and `stored_bytes` of a record. Compressed messages are shorter, so
/// the two numbers differ where there are any.
pub(crate) fn recorded(bytes: u64, stored_bytes: u64) -> (u32, u64) {
    let is_shrunk = bytes != stored_bytes;
    (version_for(is_shrunk), if is_shrunk { stored_bytes } else { 0 })
}
