//! The default processor: is the payload what was registered?

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use sheaf_coordinator::BatchSpec;
use sheaf_flight::{Message, MessageStream};
use sheaf_retry::Code;
use sheaf_store::ContentHasher;

use crate::error::ProcessError;
use crate::processor::{Job, Output, Processor, rows_of};

/// Checks a payload against its registration and hands its rows on.
///
/// Checked are the checksum over the wire messages, the bytes, the schema's
/// fingerprint, the rows, and every array in full (offsets, UTF-8, dictionary
/// indices). What the registration leaves empty is not compared. A mismatch is
/// permanent. The rows go to the sink as they are checked; a mismatch found at
/// the end throws the write away before it is committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verify;

#[async_trait]
impl Processor for Verify {
    async fn process(&self, mut job: Job) -> Result<Output, ProcessError> {
        let inputs = std::mem::take(&mut job.inputs);
        let (spec, progress) = (job.spec.clone(), job.progress.clone());
        let seen = Arc::new(Mutex::new(ContentHasher::default()));
        job.messages = observed(job.messages, Arc::clone(&seen));
        if !inputs.is_empty() {
            // The payload is only a task, so it is checked before its inputs are read.
            let messages = std::mem::replace(&mut job.messages, stream::empty().boxed());
            let rest = Job { inputs, ..job };
            let rows = count(messages).await?;
            compare(&spec, &seen.lock().unwrap_or_else(PoisonError::into_inner), rows)?;
            return rest.into_rows().await;
        }
        let Output { schema, rows, .. } = job.into_rows().await?;
        let end = stream::once(async move {
            let hasher = seen.lock().unwrap_or_else(PoisonError::into_inner);
            compare(&spec, &hasher, progress.rows())
        });
        // The comparison comes last and adds no rows of its own.
        let rows = rows
            .map(|batch| batch.map(Some))
            .chain(end.map(|checked| checked.map(|()| None)))
            .filter_map(|item| std::future::ready(item.transpose()))
            .boxed();
        Ok(Output::new(schema, rows))
    }

    fn describe(&self) -> String {
        "verify".to_owned()
    }

    fn makes_batches(&self) -> bool {
        false
    }
}

async fn count(messages: MessageStream) -> Result<u64, ProcessError> {
    let mut payload = rows_of(messages).await?;
    let mut rows = 0;
    while let Some(batch) = payload.rows.next().await {
        rows += batch?.num_rows() as u64;
    }
    Ok(rows)
}

fn observed(messages: MessageStream, seen: Arc<Mutex<ContentHasher>>) -> MessageStream {
    messages
        .inspect(move |message| {
            if let Ok(message) = message {
                add(&seen, message);
            }
        })
        .boxed()
}

fn add(seen: &Mutex<ContentHasher>, message: &Message) {
    seen.lock().unwrap_or_else(PoisonError::into_inner).add(message);
}

fn compare(spec: &BatchSpec, seen: &ContentHasher, rows: u64) -> Result<(), ProcessError> {
    let mut problems = Vec::new();
    // Registered by hand with neither rows nor bytes: there is nothing to compare with.
    let sized = spec.rows > 0 || spec.bytes > 0 || !spec.checksum.is_empty();
    if sized && spec.rows != rows {
        problems.push(format!("{rows} rows, registered are {}", spec.rows));
    }
    if sized && spec.bytes != seen.bytes() {
        problems.push(format!("{} bytes, registered are {}", seen.bytes(), spec.bytes));
    }
    let checksum = seen.checksum();
    if !spec.checksum.is_empty() && spec.checksum != checksum {
        problems.push(format!("checksum {checksum}, registered is {}", spec.checksum));
    }
    let fingerprint = seen.schema_fingerprint();
    if !spec.schema_fingerprint.is_empty() && spec.schema_fingerprint != fingerprint {
        problems.push(format!(
            "schema fingerprint {fingerprint}, registered is {}",
            spec.schema_fingerprint
        ));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ProcessError {
        code: Code::Corrupt,
        message: format!("the payload is not what was registered: {}", problems.join("; ")),
        permanent: true,
    })
}
