//! Where data comes from.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::error::Error;

/// A stream of record batches of one schema.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, Error>>;

/// Something that can be read as record batches.
///
/// 1. Every batch has the schema of `schema`.
/// 2. Reading twice gives the same rows in the same order.
/// 3. Memory is bounded by a few batches of `rows_per_batch` rows, whatever the size.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The schema of all its batches.
    async fn schema(&self) -> Result<SchemaRef, Error>;

    /// Reads from the beginning.
    async fn read(&self, rows_per_batch: usize) -> Result<BatchStream, Error>;

    /// Rows in all, where that is known without reading.
    async fn rows(&self) -> Result<Option<u64>, Error>;
}
