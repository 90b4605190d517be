//! Messages that are no rows, with what is wrong with them.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use crate::decode::Rejected;
use crate::error::Error;
use crate::messages::{MessageRef, Messages};

/// Number of their schema, which is the only one.
pub(crate) const VERSION: u32 = 1;

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

/// The columns of dead letters: the message as it came, and why it is one.
pub(crate) fn schema() -> Schema {
    let item = Field::new_list_field(DataType::Struct(header_fields()), true);
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Schema::new(vec![
        Field::new("error", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
        Field::new("_topic", DataType::Utf8, false),
        Field::new("_partition", DataType::Int32, false),
        Field::new("_offset", DataType::Int64, false),
        Field::new("_timestamp", time, true),
        Field::new("_key", DataType::Binary, true),
        Field::new("_headers", DataType::List(Arc::new(item)), true),
    ])
}

/// One row for each message that was rejected: its bytes, its place, its fault.
/// Of a value of more than `most` bytes the first ones are kept.
pub(super) fn letters(
    (topic, partition): (&str, i32),
    messages: &Messages,
    rejected: &[Rejected],
    most: usize,
) -> Result<RecordBatch, Error> {
    let known = |one: &Rejected| {
        let message = messages.get(one.index)?;
        let length = message.value().map_or(0, <[u8]>::len);
        let error = match length > most {
            true => format!("{}; of its {length} bytes the first {most} are kept", one.error),
            false => one.error.clone(),
        };
        Some((message, error))
    };
    let letters: Vec<(MessageRef<'_>, String)> = rejected.iter().filter_map(known).collect();
    let mut values = BinaryBuilder::new();
    let mut keys = BinaryBuilder::new();
    let mut headers = ListBuilder::new(StructBuilder::from_fields(header_fields(), 0));
    for (message, _) in &letters {
        values.append_option(message.value().map(|value| &value[..value.len().min(most)]));
        keys.append_option(message.key().map(|key| &key[..key.len().min(most)]));
        for (key, value) in message.headers() {
            let entry = headers.values();
            if let Some(builder) = entry.field_builder::<StringBuilder>(0) {
                builder.append_value(key);
            }
            if let Some(builder) = entry.field_builder::<BinaryBuilder>(1) {
                builder.append_option(value);
            }
            entry.append(true);
        }
        headers.append(message.header_count() > 0);
    }
    let times = letters.iter().map(|(message, _)| message.timestamp_ms());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(letters.iter().map(|(_, error)| error))),
        Arc::new(values.finish()),
        Arc::new(StringArray::from_iter_values(letters.iter().map(|_| topic))),
        Arc::new(Int32Array::from_iter_values(letters.iter().map(|_| partition))),
        Arc::new(Int64Array::from_iter_values(letters.iter().map(|(one, _)| one.offset()))),
        Arc::new(TimestampMillisecondArray::from_iter(times).with_timezone("UTC")),
        Arc::new(keys.finish()),
        Arc::new(headers.finish()),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns)
        .map_err(|source| Error::Arrow { operation: "write dead letters", source })
}
