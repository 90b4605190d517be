//! The loop of a sink.

use sheaf_retry::Code;

use super::loops::{Ending, Failures, Loop, ROUND, rounds};
use crate::component::Sink;
use crate::error::ComponentError;
use crate::inlet::{Handed, Inlets, Next};
use crate::spans;

/// A sink that runs.
pub(super) struct SinkLoop {
    pub(super) base: Loop,
    pub(super) sink: Box<dyn Sink>,
    pub(super) inlets: Inlets,
    /// Batches that are written.
    pub(super) written: u64,
}

impl SinkLoop {
    pub(super) async fn run(mut self) -> Result<Ending, ComponentError> {
        let mut rounds = rounds();
        let mut has_rested = false;
        let ending = loop {
            self.base.pace.round();
            match self.inlets.next()? {
                Next::Batch(handed) => {
                    has_rested = false;
                    self.write(&handed).await?;
                    if self.base.stop.is_cancelled() {
                        break Ending::Stopped;
                    }
                }
                Next::StreamEnded { .. } => {}
                Next::Ended => break Ending::Ended,
                Next::Nothing => tokio::select! {
                    biased;
                    () = self.base.stop.cancelled() => break Ending::Stopped,
                    () = self.inlets.wait() => {}
                    _ = rounds.tick() => {
                        // Nothing has come for a whole round.
                        if has_rested && self.written < self.inlets.count() {
                            self.flush().await?;
                        }
                        has_rested = true;
                    }
                },
            }
        };
        if ending == Ending::Stopped {
            self.inlets.quit();
            loop {
                match self.inlets.next()? {
                    Next::Batch(handed) => {
                        self.base.pace.round();
                        self.write(&handed).await?;
                    }
                    Next::StreamEnded { .. } => {}
                    Next::Ended | Next::Nothing => break,
                }
            }
            self.flush().await?;
            self.inlets.close(&self.base.clock).await;
            return Ok(ending);
        }
        self.end().await?;
        self.inlets.finish(&self.base.clock).await?;
        Ok(ending)
    }

    async fn write(&mut self, handed: &Handed) -> Result<(), ComponentError> {
        let received = &handed.received;
        let mut span = self.base.spans.take("write", handed, self.inlets.edge(handed));
        let mut failures = Failures::default();
        loop {
            match self.sink.write(received).await {
                Ok(written) => {
                    self.acknowledge(written)?;
                    drop(span);
                    return self.room().await;
                }
                Err(error) => {
                    spans::failed(&mut span, &error);
                    if let Err(error) = self.base.after(error, &mut failures).await {
                        spans::fail(&mut span, &error.chain());
                        return Err(self.base.failed(&self.inlets, received, error).await);
                    }
                }
            }
        }
    }

    /// Waits where much is written that is not completed yet.
    async fn room(&mut self) -> Result<(), ComponentError> {
        let SinkLoop { base, inlets, .. } = self;
        let mut room = std::pin::pin!(inlets.room());
        loop {
            tokio::select! {
                biased;
                () = &mut room => return Ok(()),
                () = base.clock.sleep(ROUND) => base.pace.round(),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), ComponentError> {
        let mut failures = Failures::default();
        loop {
            match self.sink.flush().await {
                Ok(written) => return self.acknowledge(written),
                Err(error) => self.base.after(error, &mut failures).await?,
            }
        }
    }

    /// Only what the sink says to be written is acknowledged.
    fn acknowledge(&mut self, written: u64) -> Result<(), ComponentError> {
        let given = self.inlets.count();
        if written > given {
            let text =
                format!("the sink says that {written} batches are written, and was given {given}");
            return Err(ComponentError::new(Code::Internal, text));
        }
        self.written = self.written.max(written);
        self.inlets.acknowledge(self.written);
        Ok(())
    }

    async fn end(&mut self) -> Result<(), ComponentError> {
        self.flush().await?;
        let (written, given) = (self.written, self.inlets.count());
        if written < given {
            let text = format!(
                "the sink was flushed, and says that only {written} of {given} batches are written"
            );
            return Err(ComponentError::new(Code::Internal, text));
        }
        let mut failures = Failures::default();
        loop {
            match self.sink.end().await {
                Ok(()) => return Ok(()),
                Err(error) => self.base.after(error, &mut failures).await?,
            }
        }
    }
}
