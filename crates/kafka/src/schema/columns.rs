//! The columns that every stream has: where a message lay.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, ListBuilder, StringBuilder, StructBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray, new_null_array};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::messages::{MessageRef, Messages};

/// Name of the column that has the offset of each message.
pub(crate) const OFFSET: &str = "_offset";
/// Name of the column that has the time of each message.
pub(crate) const TIMESTAMP: &str = "_timestamp";

/// Their names, in their order.
const NAMES: [&str; 6] = ["_topic", "_partition", OFFSET, TIMESTAMP, "_key", "_headers"];

/// The schema of a stream: the columns of its messages, then ours.
pub(super) fn output(fields: &Fields, names: &[String]) -> SchemaRef {
    let own = fields.iter().zip(names).map(|(field, name)| super::renamed(field, name));
    Arc::new(Schema::new(own.chain(message_fields()).collect::<Fields>()))
}

/// The fields of [`message_columns`].
pub(crate) fn message_fields() -> impl Iterator<Item = FieldRef> {
    let types = [
        (DataType::Utf8, false),
        (DataType::Int32, false),
        (DataType::Int64, false),
        (DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        (DataType::Binary, true),
        (headers_type(), true),
    ];
    NAMES
        .into_iter()
        .zip(types)
        .map(|(name, (of, is_nullable))| Arc::new(Field::new(name, of, is_nullable)))
}

fn headers_type() -> DataType {
    DataType::new_list(DataType::Struct(pair()), true)
}

/// The fields of one header.
fn pair() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
    ])
}

/// The name of a message's column in the output. One that is ours gets as
/// many underscores at its end as it takes to be nobody's.
pub(super) fn free_name(name: &str, taken: &[String], all: &Fields) -> String {
    let mut free = name.to_owned();
    let is_ours = |name: &str| NAMES.contains(&name);
    while is_ours(&free)
        || taken.contains(&free)
        || (free != name && all.iter().any(|other| *other.name() == free))
    {
        free.push('_');
    }
    free
}

/// Our columns for rows that come from the messages at these positions. Of a key
/// of more than `most_key` bytes the first ones are there.
pub(crate) fn message_columns(
    topic: &str,
    partition: i32,
    messages: &Messages,
    rows: Rows<'_>,
    most_key: usize,
) -> [ArrayRef; 6] {
    let count = match rows {
        Rows::All => messages.len(),
        Rows::At(positions) => positions.len(),
    };
    let mut build = Build::new(count, messages.has_headers(), most_key);
    match rows {
        Rows::All => messages.iter().for_each(|message| build.push(&message)),
        Rows::At(positions) => {
            let found = positions.iter().filter_map(|at| messages.get(*at as usize));
            found.for_each(|message| build.push(&message));
        }
    }
    let [offsets, timestamps, keys, headers] = build.finish();
    [
        Arc::new(StringArray::new_repeated(topic, count)),
        Arc::new(Int32Array::from_value(partition, count)),
        offsets,
        timestamps,
        keys,
        headers,
    ]
}

/// Which messages the rows of a batch come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    /// Each message is one row.
    All,
    /// The messages at these positions, one for each row.
    At(&'a [u32]),
}

struct Build {
    offsets: Vec<i64>,
    timestamps: TimestampMillisecondBuilder,
    keys: BinaryBuilder,
    most_key: usize,
    /// None if no message has any.
    headers: Option<ListBuilder<StructBuilder>>,
}

impl Build {
    fn new(rows: usize, headers: bool, most_key: usize) -> Self {
        let pairs = || StructBuilder::from_fields(pair(), 0);
        Build {
            offsets: Vec::with_capacity(rows),
            timestamps: TimestampMillisecondBuilder::with_capacity(rows).with_timezone("UTC"),
            keys: BinaryBuilder::with_capacity(rows, rows * 16),
            most_key,
            headers: headers.then(|| ListBuilder::with_capacity(pairs(), rows)),
        }
    }

    fn push(&mut self, message: &MessageRef<'_>) {
        self.offsets.push(message.offset());
        self.timestamps.append_option(message.timestamp_ms());
        let key = message.key().map(|key| &key[..key.len().min(self.most_key)]);
        self.keys.append_option(key);
        let Some(headers) = &mut self.headers else { return };
        let pairs = headers.values();
        for (name, value) in message.headers() {
            if let Some(names) = pairs.field_builder::<StringBuilder>(0) {
                names.append_value(name);
            }
            if let Some(values) = pairs.field_builder::<BinaryBuilder>(1) {
                values.append_option(value);
            }
            pairs.append(true);
        }
        headers.append(message.header_count() > 0);
    }

    fn finish(mut self) -> [ArrayRef; 4] {
        let count = self.offsets.len();
        let headers: ArrayRef = match self.headers {
            Some(mut headers) => Arc::new(headers.finish()),
            None => new_null_array(&headers_type(), count),
        };
        [
            Arc::new(Int64Array::from(self.offsets)),
            Arc::new(self.timestamps.finish()),
            Arc::new(self.keys.finish()),
            headers,
        ]
    }
}
