//! Compresses what is put and decompresses what is read, message by message,
//! off the threads that others wait on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::ipc::{Bounds, Compression, Recoder, compression_of, unfolded_bytes};
use sheaf_flight::{Message, MessageStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::read::KeptStream;
use super::{Inner, memory};
use crate::bodies::Bodies;
use crate::budget::{Held, compact};
use crate::error::Error;
use crate::kept::Kept;
use crate::turn;

/// What is compressed where it is: handing it to another thread takes as long.
const SMALL: usize = 16 << 10;

/// How often who found no memory looks again.
const AGAIN: Duration = Duration::from_millis(100);

/// Turns to compute: as many as there are processors. Each has one message and
/// what becomes of it, so this bounds the memory too.
pub(super) fn turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)))
}

/// Compresses the messages of one put.
pub(super) struct Shrinker {
    to: Compression,
    recoder: Option<Recoder>,
}

impl Shrinker {
    pub(super) fn new(to: Compression, bounds: Bounds) -> Self {
        let recoder = (to != Compression::None).then(|| Recoder::new(bounds));
        Shrinker { to, recoder }
    }

    /// The message compressed, where it comes uncompressed and that pays.
    pub(super) async fn shrink(
        &mut self,
        inner: &Arc<Inner>,
        message: Message,
    ) -> Result<Kept, Error> {
        if self.recoder.is_none() {
            return Ok(Kept::as_put(message));
        }
        // What it becomes is in memory beside it for a moment. Without room for
        // that it stays as it is.
        let Some(_beside) = memory::unfold_now(inner, message.len() as u64) else {
            return Ok(Kept::as_put(message));
        };
        let Some(mut recoder) = self.recoder.take() else { return Ok(Kept::as_put(message)) };
        let (to, whole) = (self.to, message.clone());
        let work = move || {
            let smaller = recoder.shrink(&whole, to);
            (recoder, smaller)
        };
        let (recoder, smaller) = match message.len() {
            ..=SMALL => work(),
            _ => turn::in_turn(&inner.turns, work).await?,
        };
        self.recoder = Some(recoder);
        Ok(match smaller? {
            None => Kept::as_put(message),
            Some(smaller) => kept(&message, smaller),
        })
    }
}

/// Shares no memory with the message as it was put, which is to go.
fn kept(put: &Message, mut smaller: Message) -> Kept {
    smaller.app_metadata = Bytes::copy_from_slice(&put.app_metadata);
    let put_header = Bytes::copy_from_slice(&put.header);
    Kept { message: compact(smaller), put_header }
}

/// These messages as a reader wants them.
pub(super) fn recoded(inner: &Arc<Inner>, messages: KeptStream, wanted: &Bodies) -> MessageStream {
    let recoders = Recoders {
        own: Recoder::new(inner.options.bounds.clone()),
        foreign: Recoder::new(inner.decode_bounds()),
    };
    let held = || Held::new(&inner.unfolding);
    let made = [held(), held()];
    let reader = Reader {
        inner: Arc::clone(inner),
        wanted: wanted.clone(),
        recoders,
        made,
        alone: None,
        is_before_uncounted: false,
    };
    let stream = stream::try_unfold((messages, reader), |(mut messages, reader)| async move {
        let Some(kept) = messages.try_next().await? else {
            return Ok::<_, sheaf_flight::Error>(None);
        };
        let (message, reader) = reader.give(kept).await?;
        Ok(Some((message, (messages, reader))))
    });
    stream.boxed()
}

struct Reader {
    inner: Arc<Inner>,
    wanted: Bodies,
    recoders: Recoders,
    /// Memory of what was made last, and of what was before it.
    made: [Held; 2],
    /// It is the one that need not have its memory counted.
    alone: Option<OwnedSemaphorePermit>,
    /// What it made last is not counted.
    is_before_uncounted: bool,
}

#[derive(Default)]
struct Recoders {
    /// For what this store compressed: it may be larger than the memory that
    /// it has now.
    own: Recoder,
    foreign: Recoder,
}

/// What is to be done with one message.
enum Step {
    Restore,
    Recode(Compression),
}

impl Reader {
    async fn give(mut self, kept: Kept) -> Result<(Message, Self), Error> {
        let Some(step) = step(&kept, &self.wanted)? else { return Ok((kept.message, self)) };
        let is_small = !kept.is_shrunk()
            && kept.message.len() <= SMALL
            && compression_of(&kept.message.header)? == Compression::None;
        let message = &kept.message;
        let bytes = unfolded_bytes(message)?.max(message.body_len() as u64);
        self.made.swap(0, 1);
        self.made[0] = Held::new(&self.inner.unfolding);
        // From one codec to another there is a moment with all three.
        let is_recoded = matches!(step, Step::Recode(to) if to != Compression::None);
        self.hold(if is_recoded { 2 * bytes } else { bytes }).await?;
        let mut recoders = std::mem::take(&mut self.recoders);
        let work = move || {
            let made = recoders.run(&kept, &step);
            (recoders, made)
        };
        let (recoders, made) =
            if is_small { work() } else { turn::in_turn(&self.inner.turns, work).await? };
        self.recoders = recoders;
        Ok((made?, self))
    }

    /// Has memory counted for one message. Who reads may be a worker, and its
    /// work what makes room: so one reader at a time goes on without any.
    async fn hold(&mut self, bytes: u64) -> Result<(), Error> {
        loop {
            match memory::unfold(&self.inner, bytes).await {
                Ok(held) => {
                    self.made[0] = held;
                    // What was made before is counted too, or gone.
                    self.alone = self.alone.take().filter(|_| self.is_before_uncounted);
                    self.is_before_uncounted = false;
                    return Ok(());
                }
                Err(_) if self.alone.is_some() => {
                    self.is_before_uncounted = true;
                    return Ok(());
                }
                Err(_) => {}
            }
            let alone = Arc::clone(&self.inner.alone).acquire_owned();
            tokio::select! {
                alone = alone => self.alone = Some(alone.map_err(|_| Error::TaskLost)?),
                () = self.inner.clock.sleep(AGAIN) => {}
            }
        }
    }
}

/// `None` where the message does as it is stored.
fn step(kept: &Kept, wanted: &Bodies) -> Result<Option<Step>, Error> {
    let codecs = match wanted {
        Bodies::Stored => return Ok(None),
        Bodies::AsPut => return Ok(kept.is_shrunk().then_some(Step::Restore)),
        Bodies::OneOf(codecs) => codecs,
    };
    let Some(first) = codecs.first() else { return Ok(None) };
    let is_in = compression_of(&kept.message.header)?;
    Ok((!codecs.contains(&is_in)).then_some(Step::Recode(*first)))
}

impl Recoders {
    fn run(&mut self, kept: &Kept, step: &Step) -> Result<Message, sheaf_flight::Error> {
        let plain = match kept.is_shrunk() {
            true => self.own.restore(&kept.message, &kept.put_header)?,
            false => kept.message.clone(),
        };
        match step {
            Step::Restore => Ok(plain),
            Step::Recode(to) => self.foreign.recode(&plain, *to),
        }
    }
}
