//! The loop of a processor.

use std::sync::Arc;
use std::time::Duration;

use sheaf_proto::{Span, TraceContext};
use sheaf_retry::Code;

use super::finish::Finish;
use super::loops::{Ending, Failures, Loop, rounds};
use crate::component::{Outcome, Processor};
use crate::error::ComponentError;
use crate::inlet::{Handed, Inlets, Next};
use crate::ledger::Ledger;
use crate::outlet::Outlets;
use crate::spans::{self, Causes};
use crate::stats::Stats;

/// A processor that runs.
pub(super) struct ProcessorLoop {
    pub(super) base: Loop,
    pub(super) processor: Box<dyn Processor>,
    pub(super) inlets: Inlets,
    pub(super) outlets: Outlets,
    pub(super) ledger: Ledger,
    /// What may come of later.
    pub(super) causes: Causes,
    pub(super) finish: Finish,
    pub(super) stats: Arc<Stats>,
    /// How often a tick failed, one after another.
    pub(super) ticks: Failures,
}

impl ProcessorLoop {
    pub(super) async fn run(mut self) -> Result<Ending, ComponentError> {
        self.begin().await?;
        let mut rounds = rounds();
        let ending = loop {
            self.base.pace.round();
            self.settle();
            match self.inlets.next()? {
                Next::Batch(handed) => {
                    self.process(&handed).await?;
                    if self.base.stop.is_cancelled() {
                        break Ending::Stopped;
                    }
                    // A due tick is not put off by batches that come without a pause.
                    if futures::FutureExt::now_or_never(rounds.tick()).is_some() {
                        self.tick().await?;
                    }
                }
                Next::StreamEnded { from, from_instance } => {
                    self.stream_ended(&from, from_instance).await?;
                }
                Next::Ended => break Ending::Ended,
                Next::Nothing => tokio::select! {
                    biased;
                    () = self.base.stop.cancelled() => break Ending::Stopped,
                    _ = rounds.tick() => self.tick().await?,
                    () = self.outlets.progress.notified() => {}
                    () = self.inlets.wait() => {}
                },
            }
        };
        match ending {
            Ending::Ended => self.end().await,
            Ending::Stopped | Ending::Undrained => self.stop().await,
        }
    }

    /// Acknowledges what all readers have acknowledged.
    fn settle(&mut self) {
        if let Some(done) = self.ledger.collect(&self.outlets.streams) {
            self.inlets.acknowledge(done);
        }
    }

    async fn process(&mut self, handed: &Handed) -> Result<(), ComponentError> {
        let received = &handed.received;
        let mut span = self.base.spans.take("process", handed, self.inlets.edge(handed));
        let mut failures = Failures::default();
        let outcome = loop {
            match self.processor.process(received).await {
                Ok(outcome) => break outcome,
                Err(error) => {
                    spans::failed(&mut span, &error);
                    if let Err(error) = self.base.after(error, &mut failures).await {
                        spans::fail(&mut span, &error.chain());
                        return Err(self.base.failed(&self.inlets, received, error).await);
                    }
                }
            }
        };
        spans::gave(&mut span, &outcome, &self.causes);
        self.causes.add(self.inlets.count(), span.context());
        self.send(outcome, span).await
    }

    /// Sends what came of no batch that came just now, but perhaps of some before.
    async fn emit(
        &mut self,
        outcome: Outcome,
        begun: Option<Duration>,
    ) -> Result<(), ComponentError> {
        let span = self.base.spans.emit(&outcome, &self.causes, self.base.ago(begun));
        self.send(outcome, span).await
    }

    async fn begin(&mut self) -> Result<(), ComponentError> {
        let streams = self.inlets.streams();
        let mut failures = Failures::default();
        while let Err(error) = self.processor.begin(&streams).await {
            self.base.after(error, &mut failures).await?;
        }
        Ok(())
    }

    async fn stream_ended(&mut self, from: &Arc<str>, of: u32) -> Result<(), ComponentError> {
        let (mut failures, begun) = (Failures::default(), self.base.begun());
        loop {
            match self.processor.stream_ended(from, of).await {
                Ok(Some(outcome)) => return self.emit(outcome, begun).await,
                Ok(None) => return Ok(()),
                Err(error) => self.base.after(error, &mut failures).await?,
            }
        }
    }

    async fn tick(&mut self) -> Result<(), ComponentError> {
        self.stats.set_counters(self.processor.counters());
        let begun = self.base.begun();
        match self.processor.tick().await {
            Ok(outcome) => {
                self.ticks.clear();
                match outcome {
                    Some(outcome) => self.emit(outcome, begun).await,
                    None => Ok(()),
                }
            }
            Err(error) => self.base.after(error, &mut self.ticks).await,
        }
    }

    /// Sends what goes on with this span.
    async fn send(&mut self, outcome: Outcome, mut span: Span) -> Result<(), ComponentError> {
        let sent = self.send_all(outcome, span.context()).await;
        if let Err(error) = &sent {
            spans::fail(&mut span, &error.chain());
        }
        sent
    }

    async fn send_all(
        &mut self,
        outcome: Outcome,
        trace: Option<TraceContext>,
    ) -> Result<(), ComponentError> {
        let given = self.inlets.count();
        if outcome.done > given {
            let done = outcome.done;
            let text = format!(
                "the processor says that {done} batches are done with, and was given {given}"
            );
            return Err(ComponentError::new(Code::Internal, text));
        }
        for batch in &outcome.batches {
            let push = self.finish.push(&mut self.outlets, batch, trace, &self.base.pace);
            let mut push = std::pin::pin!(push);
            tokio::select! {
                biased;
                pushed = &mut push => pushed?,
                // What comes after it must not be marked as done either: nothing more is sent,
                // and all of it comes again.
                () = self.base.overdue() => return Err(ComponentError::new(
                    Code::Cancelled,
                    "stopped before its readers took what came of its last batches",
                )),
            }
        }
        self.causes.done(outcome.done);
        if self.outlets.is_transactional() {
            return self.commit(outcome.done, false).await;
        }
        self.ledger.mark(outcome.done, &self.outlets.streams);
        Ok(())
    }

    /// What came of batches that are done with is registered in the step that completes them;
    /// at the end with the ends of all streams.
    async fn commit(&mut self, done: u64, is_end: bool) -> Result<(), ComponentError> {
        let mut inputs = self.inlets.take(done);
        self.ledger.pass(done);
        if is_end {
            self.check_done()?;
            inputs.extend(self.inlets.take_ends());
        }
        tokio::select! {
            biased;
            () = self.outlets.commit(inputs, None, is_end, &self.base.pace) => Ok(()),
            () = self.base.overdue() => Err(ComponentError::new(
                Code::Cancelled,
                "stopped before what came of its last batches could be registered",
            )),
        }
    }

    /// After the end nothing may be left that was given.
    fn check_done(&self) -> Result<(), ComponentError> {
        let (done, given) = (self.ledger.done(), self.inlets.count());
        if done < given {
            let text = format!(
                "the processor has ended, and says that only {done} of {given} batches are done with"
            );
            return Err(ComponentError::new(Code::Internal, text));
        }
        Ok(())
    }

    /// All inputs have ended: nothing is acknowledged as a whole before all readers are done.
    async fn end(mut self) -> Result<Ending, ComponentError> {
        let (mut failures, begun) = (Failures::default(), self.base.begun());
        let rest = loop {
            match self.processor.end().await {
                Ok(rest) => break rest,
                Err(error) => self.base.after(error, &mut failures).await?,
            }
        };
        match self.outlets.is_transactional() {
            true => {
                let span = self.base.spans.emit(&rest, &self.causes, self.base.ago(begun));
                for batch in &rest.batches {
                    self.outlets.push(batch, span.context(), &self.base.pace).await?;
                }
                self.commit(rest.done, true).await?;
            }
            false => {
                self.emit(rest, begun).await?;
                self.check_done()?;
            }
        }
        self.stats.set_counters(self.processor.counters());
        self.outlets.end();
        let mut rounds = rounds();
        while !self.outlets.are_finished() {
            self.base.pace.round();
            self.settle();
            tokio::select! {
                biased;
                () = self.base.stop.cancelled() => return self.stop().await,
                _ = rounds.tick() => self.finish.look().await,
                () = self.outlets.progress.notified() => {}
            }
        }
        self.inlets.finish(&self.base.clock).await?;
        Ok(Ending::Ended)
    }

    /// Gives what came already, and waits until the readers have acknowledged what came of it.
    async fn stop(mut self) -> Result<Ending, ComponentError> {
        self.inlets.quit();
        loop {
            match self.inlets.next()? {
                Next::Batch(handed) => {
                    self.base.pace.round();
                    self.process(&handed).await?;
                }
                Next::StreamEnded { from, from_instance } => {
                    self.stream_ended(&from, from_instance).await?;
                }
                Next::Ended | Next::Nothing => break,
            }
        }
        self.stats.set_counters(self.processor.counters());
        let ProcessorLoop { base, inlets, outlets, ledger, .. } = &mut self;
        let drained = base.drained(|| {
            if let Some(done) = ledger.collect(&outlets.streams) {
                inlets.acknowledge(done);
            }
            outlets.is_settled(ledger)
        });
        let is_drained = drained.await;
        self.inlets.close(&self.base.clock).await;
        Ok(Ending::stopped(is_drained))
    }
}
