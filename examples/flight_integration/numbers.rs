//! Streams of one column `number`.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::ipc::encode_batches;
use sheaf_flight::{Error, MessageStream};

/// The schema of such a stream.
pub(crate) fn schema(of: DataType) -> Schema {
    Schema::new(vec![Field::new("number", of, true)])
}

/// A stream of one record batch.
pub(crate) fn stream(numbers: ArrayRef) -> Result<MessageStream, Error> {
    let schema = Arc::new(schema(numbers.data_type().clone()));
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![numbers])
        .map_err(|error| sheaf_flight::invalid(error.to_string()))?;
    Ok(stream::iter(encode_batches(schema, &[rows])?.into_iter().map(Ok)).boxed())
}
