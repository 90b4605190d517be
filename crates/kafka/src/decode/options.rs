//! How a stream is decoded.

use arrow_schema::SchemaRef;

use super::registry::RegisteredSchema;
use crate::format::Format;

/// What values without a header were written with.
#[derive(Clone, Debug)]
pub struct ValueSchema {
    /// The schema. JSON Schema says nothing here.
    pub schema: RegisteredSchema,
    /// The full name of the message in a file of Protobuf; the first one, where none
    /// is named.
    pub message: Option<String>,
}

/// How the messages of a stream are decoded.
#[derive(Clone, Debug)]
pub struct DecoderOptions {
    /// What the values are.
    pub format: Format,
    /// The columns, if they are not to be inferred: they never change then.
    /// What messages have besides them is left out, what they lack is null, so
    /// all are nullable, whatever it says. Values are cast where that is exact
    /// or what the type is for; a message with one that cannot be is rejected.
    pub schema: Option<SchemaRef>,
    /// What all values were written with, where they do not name a schema: each is
    /// an Avro record or a Protobuf message and nothing else.
    pub values: Option<ValueSchema>,
    /// Columns that a stream may have, nested ones counted. A message that
    /// would bring more is rejected.
    pub max_columns: usize,
    /// How many of the first messages vote on the format of the stream, if
    /// that is [`Format::Auto`], and on the types of its first columns.
    pub sample: usize,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        DecoderOptions {
            format: Format::Auto,
            schema: None,
            values: None,
            max_columns: 1_000,
            sample: 100,
        }
    }
}
