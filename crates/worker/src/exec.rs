//! Hands every batch to an external program.

use std::sync::Arc;

use arrow_schema::Schema;
use async_trait::async_trait;
use futures::stream::StreamExt;
use sheaf_connectors::{CommitKey, ExecCommand};
use sheaf_retry::Retryable;

use crate::error::ProcessError;
use crate::processor::{Job, Output, Processor};

/// Runs a program once per batch: an Arrow IPC stream in and out.
///
/// See [`ExecCommand`] for the environment, the exit codes and how it is
/// ended when the lease is lost. A program that writes nothing gives no rows.
#[derive(Clone, Debug)]
pub struct Exec(ExecCommand);

impl Exec {
    /// Runs `command`.
    pub fn new(command: ExecCommand) -> Self {
        Exec(command)
    }
}

#[async_trait]
impl Processor for Exec {
    async fn process(&self, job: Job) -> Result<Output, ProcessError> {
        let key = CommitKey { id: job.spec.id.clone(), fence: job.fence.0 };
        let attempt = job.attempt;
        let input = job.into_rows().await?;
        let rows = input
            .rows
            .map(|batch| {
                batch.map_err(|error| sheaf_connectors::Error::Io {
                    operation: "read",
                    place: "the payload".to_owned(),
                    code: error.code(),
                    source: Box::new(error),
                })
            })
            .boxed();
        let output = self
            .0
            .run(&key, attempt, input.schema, rows)
            .await
            .map_err(|error| program_error(&error))?;
        let schema = output.schema.unwrap_or_else(|| Arc::new(Schema::empty()));
        let rows = output.batches.map(|batch| batch.map_err(|error| program_error(&error))).boxed();
        Ok(Output::new(schema, rows))
    }

    fn describe(&self) -> String {
        format!("exec:{}", self.0.command())
    }

    fn makes_batches(&self) -> bool {
        false
    }
}

/// Any exit but 65 may be better next time, whatever the class of its code.
fn program_error(error: &sheaf_connectors::Error) -> ProcessError {
    let mut failure = ProcessError::from_error(error);
    failure.code = match error {
        sheaf_connectors::Error::Process { .. } => sheaf_retry::Code::ProcessorFailed,
        other => other.code(),
    };
    failure
}
