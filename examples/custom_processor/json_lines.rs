//! A sink of one's own: it takes every batch exactly once, whatever crashes.
//! Meant for small results: every commit reads the whole file.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use sheaf_connectors::{CommitKey, Committed, Error, PreparedWrite, Sink};
use sheaf_proto::BatchId;

use crate::commit_log::{CommitLog, Entry};

#[derive(Clone, Debug)]
pub(crate) struct JsonLines(pub(crate) CommitLog);

impl JsonLines {
    fn failed(&self, operation: &'static str, error: std::io::Error) -> Error {
        Error::io(operation, self.0.path(), error)
    }

    fn committed_as(&self, entry: &Entry, created: bool) -> Committed {
        let rows = entry.rows.len() as u64;
        Committed { fence: entry.fence, rows, created, place: self.describe() }
    }
}

// The worker runs every attempt on a thread of its own: these calls may block.
#[async_trait]
impl Sink for JsonLines {
    async fn prepare(
        &self,
        key: &CommitKey,
        schema: SchemaRef,
    ) -> Result<Box<dyn PreparedWrite>, Error> {
        let entry = Entry { id: key.id.clone(), fence: key.fence, rows: Vec::new() };
        Ok(Box::new(Write { sink: self.clone(), schema, entry, finished: false }))
    }

    async fn committed(&self, id: &BatchId) -> Result<Option<Committed>, Error> {
        let log = self.0.lock().map_err(|error| self.failed("read", error))?;
        Ok(log.find(id).map(|entry| self.committed_as(entry, false)))
    }

    async fn recover(&self) -> Result<u64, Error> {
        Ok(0) // attempts are in memory only, and half a line goes with the next lock
    }

    fn describe(&self) -> String {
        self.0.path().display().to_string()
    }
}

/// Nothing leaves the memory before `commit`: an attempt that dies leaves nothing.
struct Write {
    sink: JsonLines,
    schema: SchemaRef,
    entry: Entry,
    finished: bool,
}

#[async_trait]
impl PreparedWrite for Write {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if self.finished || rows.schema() != self.schema {
            let id = &self.entry.id;
            return Err(Error::Invalid(format!("{id}: rows after the end, or of another schema")));
        }
        let mut json = arrow_json::ArrayWriter::new(Vec::new());
        let written = json.write(rows).and_then(|()| json.finish());
        written.map_err(|error| Error::Invalid(error.to_string()))?;
        let rows: Vec<_> = serde_json::from_slice(&json.into_inner())
            .map_err(|error| self.sink.failed("encode for", error.into()))?;
        self.entry.rows.extend(rows);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Error> {
        self.finished = true;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<Committed, Error> {
        let failed = |error| self.sink.failed("append to", error);
        let mut log = self.sink.0.lock().map_err(failed)?;
        // The first commit wins and a later one adopts it: under the lock no
        // other attempt, in whatever process, comes between the look and the append.
        if let Some(winner) = log.find(&self.entry.id) {
            return Ok(self.sink.committed_as(winner, false));
        }
        log.append(&self.entry).map_err(failed)?;
        Ok(self.sink.committed_as(&self.entry, true))
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}
