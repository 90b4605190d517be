//! How a stream is decoded.

use arrow_schema::SchemaRef;

use crate::format::Format;

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
    /// Columns that a stream may have, nested ones counted. A message that
    /// would bring more is rejected.
    pub max_columns: usize,
    /// How many of the first messages vote on the format of the stream, if
    /// that is [`Format::Auto`], and on the types of its first columns.
    pub sample: usize,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        DecoderOptions { format: Format::Auto, schema: None, max_columns: 1_000, sample: 100 }
    }
}
