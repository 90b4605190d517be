//! Hands batches to a program.
//!
//! The program is started with the first batch, in a process group of its own, and gets an
//! Arrow IPC stream on its standard input. To every batch that it reads it writes one to its
//! standard output, as an Arrow IPC stream too: one of no rows where there is nothing to say.
//! What it writes must not stay in a buffer. When its input ends it may write more, and ends
//! with exit code 0; where the columns of the input change, it is ended so and started anew.
//!
//! - A batch without an answer in time, or a program that ends before its input does, is a
//!   failure that may pass: the batch is given to a new program. Exit code 65 says that
//!   it does not pass.
//! - A batch is done when it is answered. Rows that a program keeps back for its end are lost
//!   where it dies before.
//! - What it prints to standard error goes to the log, line by line.
//! - It has the environment of this process, but for `SHEAF_ASSIGNMENT`.

mod answers;
mod frames;
mod group;
mod program;
mod said;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Outcome, Processor, Received, Start};
use sheaf_pipeline::spec::ExecProcessor;
use sheaf_retry::SharedClock;

use super::failure;
use program::Program;

/// How a program is run.
#[derive(Clone, Debug)]
struct Settings {
    component: Arc<str>,
    command: Vec<String>,
    timeout: Duration,
    max_output: u64,
    clock: SharedClock,
}

/// Hands batches to a program.
pub(super) struct Exec {
    settings: Settings,
    program: Option<Program>,
    /// What an earlier program has written at its end, and has not gone on yet.
    ready: Vec<RecordBatch>,
    given: u64,
    started: u64,
}

impl Exec {
    pub(super) fn new(
        config: &ExecProcessor,
        start: &Start,
        clock: &SharedClock,
    ) -> Result<Self, ComponentError> {
        if config.command.first().is_none_or(String::is_empty) {
            return Err(failure::configuration("exec: `command` names no program"));
        }
        let settings = Settings {
            component: start.component.as_str().into(),
            command: config.command.clone(),
            timeout: config.timeout.0,
            max_output: config.max_output.0,
            clock: Arc::clone(clock),
        };
        Ok(Exec { settings, program: None, ready: Vec::new(), given: 0, started: 0 })
    }

    /// Ends the program, and takes what it still has to say.
    async fn finish(&mut self) -> Result<(), ComponentError> {
        // It is gone whatever comes of it.
        if let Some(program) = self.program.take() {
            self.ready.extend(program.finish().await?);
        }
        Ok(())
    }

    /// The answer to a batch. The program is put back only when it has given one: after an
    /// error, or where nobody waits any more, it is ended by its drop.
    async fn answer(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ComponentError> {
        let mut program = match self.program.take() {
            Some(program) => program,
            None => {
                self.started += 1;
                Program::start(&self.settings, &batch.schema())?
            }
        };
        let answer = program.answer(batch).await?;
        self.program = Some(program);
        Ok(answer)
    }
}

#[async_trait]
impl Processor for Exec {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        let batch = &received.batch;
        if batch.num_rows() > 0 {
            if self.program.as_ref().is_some_and(|program| !program.takes(&batch.schema())) {
                self.finish().await?;
            }
            let answer = self.answer(batch).await?;
            self.ready.push(answer);
        }
        self.given += 1;
        let mut batches = std::mem::take(&mut self.ready);
        batches.retain(|batch| batch.num_rows() > 0);
        Ok(Outcome { batches, done: self.given })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        self.finish().await?;
        let mut batches = std::mem::take(&mut self.ready);
        batches.retain(|batch| batch.num_rows() > 0);
        Ok(Outcome { batches, done: self.given })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("programs_started", self.started)]
    }
}
