//! The loop of a source.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sheaf_retry::Code;
use tokio::task::JoinHandle;
use tokio::time::Interval;

use super::finish::Finish;
use super::loops::{Ending, Failures, Loop, rounds};
use crate::component::{Made, Source};
use crate::error::ComponentError;
use crate::ledger::Ledger;
use crate::offset::{MAX_OFFSET, OffsetFile};
use crate::outlet::Outlets;
use crate::spans;

/// What a source waits for.
enum Happened {
    /// It is to stop.
    Stopped,
    /// This offset is on the disk.
    Written(Bytes),
    Made(Result<Option<Made>, ComponentError>),
}

/// A source that runs.
pub(super) struct SourceLoop {
    pub(super) base: Loop,
    pub(super) source: Box<dyn Source>,
    pub(super) outlets: Outlets,
    pub(super) offsets: Offsets,
    pub(super) finish: Finish,
}

/// Offsets on their way to the disk.
pub(super) struct Offsets {
    file: OffsetFile,
    pass: u64,
    every: Duration,
    ledger: Ledger,
    made: u64,
    /// Of batches that are not acknowledged.
    waiting: VecDeque<(u64, Bytes)>,
    /// Acknowledged, and not written down yet.
    due: Option<Bytes>,
    /// Where the source was when it began.
    last: Bytes,
    written_at: Duration,
    writing: Option<JoinHandle<Result<Bytes, ComponentError>>>,
    /// Written down, and not told to the source yet.
    untold: Option<Bytes>,
}

impl Offsets {
    pub(super) fn new(file: OffsetFile, pass: u64, every: Duration, start: Option<Bytes>) -> Self {
        Offsets {
            file,
            pass,
            every,
            ledger: Ledger::default(),
            made: 0,
            waiting: VecDeque::new(),
            due: None,
            last: start.unwrap_or_default(),
            written_at: Duration::ZERO,
            writing: None,
            untold: None,
        }
    }

    fn made(&mut self, offset: Bytes) {
        self.made += 1;
        self.waiting.push_back((self.made, offset));
    }

    /// Finds what all readers have acknowledged.
    fn collect(&mut self, outlets: &Outlets) {
        let Some(done) = outlets.collect(&mut self.ledger) else { return };
        while let Some((number, _)) = self.waiting.front()
            && *number <= done
            && let Some((_, offset)) = self.waiting.pop_front()
        {
            self.due = Some(offset);
        }
    }

    /// Begins to write what is due, unless that was done just now. On a thread of its own, since
    /// disks are slow.
    fn write(&mut self, now: Duration) {
        if self.writing.is_some() || now < self.written_at.saturating_add(self.every) {
            return;
        }
        let Some(offset) = self.due.take() else { return };
        self.written_at = now;
        let (file, pass) = (self.file.clone(), self.pass);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            file.write(pass, false, &offset)?;
            Ok(offset)
        }));
    }

    /// The offset that was written last, once it is.
    async fn written(&mut self) -> Result<Bytes, ComponentError> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let result = writing.await;
        self.writing = None;
        let offset = result.map_err(|error| {
            ComponentError::new(Code::Internal, "a thread that writes ended badly").because(error)
        })??;
        self.last = offset.clone();
        Ok(offset)
    }
}

impl SourceLoop {
    pub(super) async fn run(mut self) -> Result<Ending, ComponentError> {
        let mut failures = Failures::default();
        let mut rounds = rounds();
        let mut asked = None;
        let ending = loop {
            asked = asked.or_else(|| self.base.begun());
            match self.happened(&mut rounds).await? {
                Happened::Stopped => break Ending::Stopped,
                Happened::Written(offset) => self.acknowledge(offset).await?,
                Happened::Made(Ok(Some(made))) => {
                    failures.clear();
                    self.send(made, asked.take()).await?;
                }
                Happened::Made(Ok(None)) => break Ending::Ended,
                Happened::Made(Err(error)) => self.base.after(error, &mut failures).await?,
            }
        };
        drop(failures);
        self.end(ending).await
    }

    /// What is next. A source may take its time for a batch: what it has begun is not dropped
    /// because a moment has passed or readers have acknowledged others, or it would begin again
    /// and never have one.
    async fn happened(&mut self, rounds: &mut Interval) -> Result<Happened, ComponentError> {
        let SourceLoop { base, source, outlets, offsets, .. } = self;
        let tells_at_once = source.wants_acknowledgements();
        if let Some(offset) = offsets.untold.take() {
            return Ok(Happened::Written(offset));
        }
        let mut next = source.next();
        loop {
            base.pace.round();
            offsets.collect(outlets);
            offsets.write(base.clock.elapsed());
            tokio::select! {
                biased;
                () = base.stop.cancelled() => return Ok(Happened::Stopped),
                offset = offsets.written() => match tells_at_once {
                    true => return Ok(Happened::Written(offset?)),
                    false => offsets.untold = Some(offset?),
                },
                made = &mut next => return Ok(Happened::Made(made)),
                _ = rounds.tick() => {}
                () = outlets.progress.notified() => {}
            }
        }
    }

    async fn send(&mut self, made: Made, asked: Option<Duration>) -> Result<(), ComponentError> {
        let Made { batch, offset } = made;
        if offset.len() > MAX_OFFSET {
            let size = offset.len();
            let text =
                format!("the source gave an offset of {size} bytes, at most {MAX_OFFSET} are kept");
            return Err(ComponentError::new(Code::LimitExceeded, text));
        }
        let ago = self.base.ago(asked);
        let mut span = self.base.spans.make(&batch, self.offsets.made + 1, ago);
        let (trace, pace) = (span.context(), &self.base.pace);
        // Where it waits for one reader, others may have it already: told to stop, it still
        // goes to all of them, or they would get it again after the next start.
        tokio::select! {
            biased;
            pushed = self.finish.push(&mut self.outlets, &batch, trace, pace) => pushed?,
            // What is not sent is made again after the next start.
            () = self.base.overdue() => {
                spans::fail(&mut span, "stopped before all readers took it");
                return Ok(());
            }
        }
        if self.outlets.is_transactional() {
            tokio::select! {
                biased;
                () = self.base.stop.cancelled() => return Ok(()),
                () = self.outlets.commit(Vec::new(), Some(offset.clone()), false, &self.base.pace) => {}
            }
        }
        self.offsets.made(offset);
        self.outlets.mark(&mut self.offsets.ledger, self.offsets.made);
        Ok(())
    }

    async fn acknowledge(&mut self, offset: Bytes) -> Result<(), ComponentError> {
        let mut failures = Failures::default();
        loop {
            match self.source.acknowledged(&offset).await {
                Ok(()) => return Ok(()),
                Err(error) => self.base.after(error, &mut failures).await?,
            }
            if self.base.stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Waits for the readers, and writes down what they have acknowledged.
    async fn end(&mut self, ending: Ending) -> Result<Ending, ComponentError> {
        let mut finished = false;
        if ending == Ending::Ended {
            self.outlets.commit(Vec::new(), None, true, &self.base.pace).await;
            self.outlets.end();
            finished = self.settle_until_finished().await?;
        }
        let is_drained = finished || self.drain().await;
        self.offsets.collect(&self.outlets);
        let was_written = self.offsets.writing.is_some();
        if was_written {
            self.offsets.written().await?;
        }
        let due = self.offsets.due.take();
        let last = due.clone().unwrap_or_else(|| self.offsets.last.clone());
        if due.is_some() || finished {
            let (file, pass) = (self.offsets.file.clone(), self.offsets.pass);
            let offset = last.clone();
            let write = move || file.write(pass, finished, &offset);
            let written = tokio::task::spawn_blocking(write).await;
            written.map_err(|error| {
                ComponentError::new(Code::Internal, "a thread that writes ended badly")
                    .because(error)
            })??;
        }
        if due.is_some() || was_written || self.offsets.untold.take().is_some() {
            self.acknowledge(last).await?;
        }
        Ok(if finished { Ending::Ended } else { Ending::stopped(is_drained) })
    }

    /// Told to stop: waits until the readers have acknowledged all that was made.
    async fn drain(&mut self) -> bool {
        let SourceLoop { base, outlets, offsets, .. } = self;
        let drained = base.drained(|| {
            offsets.collect(outlets);
            outlets.is_settled(&offsets.ledger)
        });
        drained.await
    }

    /// Whether all readers are done with everything; `false` where it was told to stop before.
    async fn settle_until_finished(&mut self) -> Result<bool, ComponentError> {
        let mut rounds = rounds();
        loop {
            self.base.pace.round();
            self.offsets.collect(&self.outlets);
            self.offsets.write(self.base.clock.elapsed());
            if self.outlets.are_finished() {
                return Ok(true);
            }
            tokio::select! {
                biased;
                () = self.base.stop.cancelled() => return Ok(false),
                offset = self.offsets.written() => self.acknowledge(offset?).await?,
                _ = rounds.tick() => self.finish.look().await,
                () = self.outlets.progress.notified() => {}
            }
        }
    }
}
