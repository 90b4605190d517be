//! Messages that are no rows, with what is wrong with them.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema};

use crate::decode::Rejected;
use crate::error::Error;
use crate::messages::Messages;
use crate::schema::{Rows, message_columns, message_fields};
use crate::stream::TopicStream;

/// Number of their schema, which is the only one.
pub(crate) const VERSION: u32 = 1;

/// The columns of dead letters: why the message is one, its value, and the columns
/// that every stream has.
pub(crate) fn schema() -> Schema {
    let own =
        [Field::new("error", DataType::Utf8, false), Field::new("value", DataType::Binary, true)];
    Schema::new(own.into_iter().map(Arc::new).chain(message_fields()).collect::<Fields>())
}

/// Bytes that are kept of a value, in a stream of dead letters.
pub(crate) fn most_bytes(stream: &TopicStream) -> usize {
    usize::try_from(stream.limit_bytes() / 4).unwrap_or(usize::MAX)
}

/// One row for each message that was rejected: its bytes, its place, its fault.
/// Of a value of more than `most` bytes the first ones are kept.
pub(crate) fn letters(
    (topic, partition): (&str, i32),
    messages: &Messages,
    rejected: &[Rejected],
    most: usize,
) -> Result<RecordBatch, Error> {
    let mut errors = StringBuilder::new();
    let mut values = BinaryBuilder::new();
    let mut positions = Vec::with_capacity(rejected.len());
    for Rejected { index, error } in rejected {
        let (Some(message), Ok(position)) = (messages.get(*index), u32::try_from(*index)) else {
            continue;
        };
        let length = message.value().map_or(0, <[u8]>::len);
        errors.append_value(match length > most {
            true => format!("{error}; of its {length} bytes the first {most} are kept"),
            false => error.clone(),
        });
        values.append_option(message.value().map(|value| &value[..length.min(most)]));
        positions.push(position);
    }
    let own: [ArrayRef; 2] = [Arc::new(errors.finish()), Arc::new(values.finish())];
    let place = message_columns(topic, partition, messages, Rows::At(&positions), most);
    RecordBatch::try_new(Arc::new(schema()), own.into_iter().chain(place).collect())
        .map_err(|source| Error::Arrow { operation: "write dead letters", source })
}
