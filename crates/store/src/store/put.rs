//! Storing a stream.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_flight::MessageStream;
use sheaf_proto::BatchId;
use tokio::task::JoinHandle;

use super::entry::{Entry, Place, Resident, Stored};
use super::intake::{Intake, Taken};
use super::ledger::Share;
use super::{Inner, Store, room};
use crate::budget::Held;
use crate::disk::Checked;
use crate::error::Error;
use crate::options::{PutBy, PutOptions, PutReceipt};
use crate::payload::{Durability, PayloadInfo};

/// How long a put waits, once its stream is complete, to hear of the same name
/// elsewhere.
const ASKED: Duration = Duration::from_millis(500);

impl Store {
    /// Stores a stream to its end; without `id` under a new name, a version 7
    /// UUID.
    ///
    /// Idempotent by content: the same bytes under the same name are stored
    /// once, and each put of them succeeds. That holds for puts at the same
    /// time as well, and whatever the store does to keep it small. A put that
    /// asks for more durability than the payload has
    /// gives it that. Dropping the call before the end of the stream leaves
    /// nothing; after it, the payload may be stored nevertheless.
    ///
    /// # Errors
    /// [`Error::Stream`] for a stream that fails or is malformed,
    /// [`Error::AlreadyExists`] for other content under the name,
    /// [`Error::MemoryFull`], [`Error::DiskFull`], [`Error::DiskQuota`] where
    /// there is no room, [`Error::NoDirectory`] for durability `disk` without a
    /// directory, [`Error::Register`] where it is stored but not registered.
    pub async fn put(
        &self,
        id: Option<BatchId>,
        messages: MessageStream,
        options: PutOptions,
    ) -> Result<PutReceipt, Error> {
        self.put_by(id, messages, options, None).await
    }

    /// As [`Store::put`], in the name of `by`: what is received counts for it
    /// from the first message on, so that puts at the same time do not exceed
    /// its quota together. A put of what is there already takes nothing of it,
    /// in whosever name that was put.
    ///
    /// # Errors
    /// As [`Store::put`]; [`Error::QuotaFull`].
    pub async fn put_by(
        &self,
        id: Option<BatchId>,
        messages: MessageStream,
        options: PutOptions,
        by: Option<PutBy>,
    ) -> Result<PutReceipt, Error> {
        let inner = &self.inner;
        let start = inner.clock.elapsed();
        let result = self.put_unmetered(id, messages, options, by).await;
        match &result {
            Ok(receipt) if receipt.created => {
                inner.metrics.puts.inc();
                inner.metrics.put_bytes.inc_by(receipt.bytes);
                let seconds = inner.clock.elapsed().saturating_sub(start).as_secs_f64();
                inner.metrics.put_seconds.observe(seconds);
            }
            Ok(_) => {
                inner.metrics.puts_repeated.inc();
            }
            Err(error) => {
                inner.metrics.put_failed(error);
            }
        }
        result
    }

    /// Bytes of payloads that count for the name of a token, those on their way
    /// in among them.
    pub fn bytes_put_by(&self, name: &str) -> u64 {
        self.inner.ledger.of(name)
    }

    async fn put_unmetered(
        &self,
        id: Option<BatchId>,
        mut messages: MessageStream,
        options: PutOptions,
        by: Option<PutBy>,
    ) -> Result<PutReceipt, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        if options.durability == Durability::Disk && inner.directory.is_none() {
            return Err(Error::NoDirectory);
        }
        // A name that was just made is nobody else's.
        let known = id.as_ref().map(|id| Elsewhere::ask(inner, id));
        let id = id.unwrap_or_else(|| BatchId::generate(inner.now().as_millis()));
        let compression = options.compression.unwrap_or(inner.options.compression);
        let share = by.map(|by| Share::new(&inner.ledger, by));
        let mut intake = Intake::new(inner, compression, share);
        if let Some(entry) = inner.index.get(&id) {
            intake.may_repeat(entry.counted);
        }
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => intake.push(inner, message?).await?,
                    None => break,
                },
                () = intake.movable.asked() => intake.give_way(inner).await?,
            }
        }
        let taken = intake.finish()?;
        if let Some(known) = known {
            known.check(inner, &id, &taken.summary.checksum).await?;
        }
        // By itself from here on: a caller that goes away leaves no file
        // without a payload, and no payload without its file.
        let publish = publish(Arc::clone(inner), id.clone(), taken, options.durability);
        let published = inner.tasks.spawn(publish).await.map_err(|_| Error::TaskLost)?;
        let (receipt, info) = published?;
        if options.register {
            let registered = inner.options.owner.register(&info).await;
            let failed = |source| Error::Register { id: id.clone(), source };
            if let Some(mark) = registered.map_err(failed)? {
                inner.mark(vec![(id, mark)]).await;
            }
        }
        Ok(receipt)
    }
}

/// Whether a batch of the same name, whose payload is at another server, is
/// registered with other content: it would be hidden here by what is put.
struct Elsewhere(JoinHandle<Result<Option<String>, sheaf_flight::Error>>);

impl Elsewhere {
    /// Asks while the stream comes in.
    fn ask(inner: &Arc<Inner>, id: &BatchId) -> Self {
        let (owner, id) = (Arc::clone(&inner.options.owner), id.clone());
        Elsewhere(tokio::spawn(async move { owner.checksum(&id).await }))
    }

    /// A coordinator that does not answer keeps no payload from being stored:
    /// it refuses the registration later.
    async fn check(mut self, inner: &Inner, id: &BatchId, offered: &str) -> Result<(), Error> {
        let asked = tokio::select! {
            biased;
            asked = &mut self.0 => asked.ok().and_then(Result::ok).flatten(),
            () = inner.clock.sleep(ASKED) => None,
        };
        match asked {
            Some(stored) if stored != offered => {
                let (id, offered) = (id.clone(), offered.to_owned());
                Err(Error::AlreadyExists { id, stored, offered })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn publish(
    inner: Arc<Inner>,
    id: BatchId,
    mut taken: Taken,
    durability: Durability,
) -> Result<(PutReceipt, PayloadInfo), Error> {
    let (_claim, existing) = inner.index.claim(&id).await;
    inner.check_open()?;
    if let Some(entry) = existing {
        return again(&inner, &entry, &taken, durability).await;
    }
    let now = inner.now();
    let summary = taken.summary.clone();
    let mut share = taken.share.take();
    if let Some(share) = &mut share {
        share.reach(summary.counted)?;
    }
    let info = PayloadInfo {
        id: id.clone(),
        rows: summary.rows,
        bytes: summary.bytes,
        stored_bytes: summary.stored_bytes,
        messages: summary.messages,
        checksum: summary.checksum,
        schema_fingerprint: summary.schema_fingerprint,
        schema: inner.index.state().share_schema(&summary.schema),
        durability,
        created_at: now,
        used_at: now,
        put_by: share.as_ref().map(|share| Arc::clone(share.name())),
    };
    let replaced = summary.replaced;
    let mut schema_held = Held::new(&inner.account);
    while let Err(full) = super::hold_schema(&mut schema_held, &info.schema) {
        if !room::make(&inner, full).await? {
            inner.metrics.refused.inc();
            return Err(room::refusal(full));
        }
    }
    let place = store(&inner, &info, taken, durability).await?;
    let entry = Entry::new(info.clone(), place, replaced, (schema_held, share, summary.counted));
    inner.insert(id, entry);
    Ok((receipt(&info, true), info))
}

/// The name is taken: by the same content or by other.
async fn again(
    inner: &Arc<Inner>,
    entry: &Arc<Entry>,
    taken: &Taken,
    durability: Durability,
) -> Result<(PutReceipt, PayloadInfo), Error> {
    let stored = entry.as_put();
    if (&stored.checksum, stored.bytes) != (&taken.summary.checksum, taken.summary.bytes) {
        return Err(Error::AlreadyExists {
            id: stored.id.clone(),
            stored: stored.checksum.clone(),
            offered: taken.summary.checksum.clone(),
        });
    }
    entry.touch(inner.now());
    if durability == Durability::Disk {
        super::spill::persist(inner, entry).await?;
        if entry.is_pinned() {
            inner.mark_pin(entry, true).await?;
        }
    }
    let info = entry.info();
    Ok((receipt(&info, false), info))
}

/// Puts the messages where they belong.
async fn store(
    inner: &Arc<Inner>,
    info: &PayloadInfo,
    taken: Taken,
    durability: Durability,
) -> Result<Place, Error> {
    let Taken { summary, messages, held, writer, reserved, share: _ } = taken;
    if durability == Durability::Memory && writer.is_none() {
        let memory = Some(resident(messages, held));
        return Ok(Place { memory, ..Place::default() });
    }
    let durable = durability == Durability::Disk;
    // What was written on before is not in memory any more.
    let whole = writer.is_none();
    let new = super::spill::NewFile {
        id: info.id.clone(),
        record: super::spill::record_of(info),
        schema: summary.schema,
        replaced: summary.replaced,
        durable,
    };
    let (file, messages) = super::spill::write(inner, new, (writer, reserved), messages).await?;
    let memory = whole.then(|| resident(messages, held));
    let file: Option<Stored> = Some(file);
    Ok(Place { memory, file, ..Place::default() })
}

fn resident(messages: Vec<Checked>, held: Held) -> Resident {
    let messages = messages.into_iter().map(|checked| checked.kept).collect();
    Resident { messages, held: Arc::new(held), segment: None }
}

fn receipt(info: &PayloadInfo, created: bool) -> PutReceipt {
    PutReceipt {
        batch_id: info.id.clone(),
        rows: info.rows,
        bytes: info.bytes,
        stored_bytes: info.stored_bytes,
        checksum: info.checksum.clone(),
        created,
    }
}
