//! Record batches in and out, for callers that have or want them decoded.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_flight::Message;
use sheaf_flight::ipc::{decode_stream, encode_batches};
use sheaf_proto::BatchId;

use super::Store;
use crate::error::Error;
use crate::options::{PutOptions, PutReceipt, ReadOptions};

impl Store {
    /// Stores record batches of one schema as one payload; without `id` under
    /// a new name.
    ///
    /// All of them are encoded before the first is stored, and in memory twice
    /// meanwhile: [`Store::put`] takes a stream.
    ///
    /// # Errors
    /// As [`Store::put`]; [`Error::Stream`] where a batch has another schema.
    pub async fn put_batches(
        &self,
        id: Option<BatchId>,
        schema: SchemaRef,
        batches: &[RecordBatch],
        options: PutOptions,
    ) -> Result<PutReceipt, Error> {
        // What is kept must not keep alive what the caller's arrays are slices of.
        let messages = encode_batches(schema, batches)?.into_iter().map(|message| {
            let body = message.body.concat().into();
            let Message { header, app_metadata, .. } = message;
            Ok(Message { app_metadata, ..Message::new(header, body) })
        });
        self.put(id, futures::stream::iter(messages).boxed(), options).await
    }

    /// Opens a payload decoded: its schema, and its record batches with full
    /// validation, as they were put or as `options` cut them.
    ///
    /// # Errors
    /// As [`Store::read`]; [`Error::Stream`], also from the stream, where the
    /// payload cannot be decoded.
    pub async fn read_batches(
        &self,
        id: &BatchId,
        options: &ReadOptions,
    ) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch, Error>>), Error> {
        let messages = self.read(id, options).await?;
        let (schema, batches) = decode_stream(messages, self.inner.options.bounds.clone()).await?;
        Ok((schema, batches.map(|batch| batch.map_err(Error::from)).boxed()))
    }
}
