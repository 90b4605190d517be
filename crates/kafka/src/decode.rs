//! From raw messages to the columns of a stream.

mod assemble;
mod avro;
mod csv;
mod detect;
mod error;
mod framing;
mod ipc;
mod json;
mod options;
mod protobuf;
mod registered;
mod registry;
mod sieve;
mod text;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};

pub use error::Error;
pub use options::{DecoderOptions, ValueSchema};
pub use registry::{RegisteredKind, RegisteredSchema};

use self::registry::Registry;
use crate::format::Format;
use crate::messages::Messages;
use crate::schema::StreamSchema;

/// What came of the messages.
#[derive(Debug)]
pub enum Decoded {
    /// They were decoded.
    Batch(DecodedBatch),
    /// Nothing was decoded, since these schema ids are unknown. Tell each with
    /// [`Decoder::learn`] or [`Decoder::refuse`], and decode again.
    Unknown(Vec<u32>),
}

/// Messages as columns.
#[derive(Debug)]
pub struct DecodedBatch {
    /// The rows in the order of the messages; none if all were rejected. It
    /// has the schema that [`Decoder::schema`] says now.
    pub batch: Option<RecordBatch>,
    /// Changes whenever the schema of the stream does.
    pub schema_version: u32,
    /// What could not be decoded, in the order of the messages.
    pub rejected: Vec<Rejected>,
}

/// A message that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its position in the messages given.
    pub index: usize,
    /// What is wrong with it.
    pub error: String,
}

/// The value of a message that is not a tombstone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    index: u32,
    bytes: &'a [u8],
}

impl Value<'_> {
    fn rejected(&self, error: impl Into<String>) -> Rejected {
        Rejected { index: self.index as usize, error: error.into() }
    }
}

/// Rows, and the position of the message that each comes from.
#[derive(Debug)]
struct Group {
    batch: RecordBatch,
    rows: Vec<u32>,
}

impl From<(RecordBatch, Vec<u32>)> for Group {
    fn from((batch, rows): (RecordBatch, Vec<u32>)) -> Self {
        Group { batch, rows }
    }
}

/// Rows that arrow-json and arrow-csv decode at once: they make room for as many
/// times the columns before they have seen any.
const PIECE: usize = 8_192;

fn in_pieces(
    values: &[Value<'_>],
    mut decode: impl FnMut(&[Value<'_>]) -> Result<Option<Group>, Error>,
) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    for some in values.chunks(PIECE) {
        groups.extend(decode(some)?);
    }
    Ok(groups)
}

/// Decodes the messages of one stream, which is a topic.
///
/// ```
/// use sheaf_kafka::{
///     Decoded, Decoder, DecoderOptions, Messages, RegisteredKind, RegisteredSchema,
/// };
///
/// let mut decoder = Decoder::try_new("people", DecoderOptions::default())?;
/// let mut messages = Messages::default();
/// messages.push(0, None, None, Some(b"\0\0\0\0\x07\x06Ada"), []);
///
/// let text = r#"{"type": "record", "name": "P", "fields": [{"name": "name", "type": "string"}]}"#;
/// let decoded = loop {
///     match decoder.decode(0, &messages)? {
///         Decoded::Batch(decoded) => break decoded,
///         // In earnest: ask the registry for each.
///         Decoded::Unknown(ids) => ids.into_iter().for_each(|id| {
///             let (kind, text) = (RegisteredKind::Avro, text.to_owned());
///             decoder.learn(id, &RegisteredSchema { kind, text, references: Vec::new() });
///         }),
///     }
/// };
/// assert_eq!(decoder.schema().field(0).name(), "name");
/// assert_eq!(decoded.batch.map(|batch| batch.num_rows()), Some(1));
/// # Ok::<(), sheaf_kafka::Error>(())
/// ```
///
/// A message that is wrong costs itself and nothing else: all others are
/// decoded, in order. The decoder does no I/O; what it needs from a schema
/// registry it asks for.
///
/// # Columns
/// The columns of the messages, all nullable, then `_topic`, `_partition`,
/// `_offset`, `_timestamp` (milliseconds, UTC), `_key` and `_headers` (a list
/// of key and value, null without headers). A column of the messages with one
/// of these names gets an underscore at its end, or as many as it takes. A
/// tombstone is a row of nulls with its key.
///
/// # Evolution
/// Without a given schema the first messages make the columns, and later ones
/// may add columns at the end, nested ones too, or widen them: null to
/// anything, an integer to a wider one or to `Float64`. Each change raises
/// the version; [`conform`](crate::conform) brings older batches along. A
/// message that fits in no such way is rejected.
#[derive(Debug)]
pub struct Decoder {
    topic: String,
    options: DecoderOptions,
    /// What `Auto` turned out to be.
    format: Option<Format>,
    schema: StreamSchema,
    registry: Registry,
    json: json::Json,
}

impl Decoder {
    /// A decoder for the messages of a topic.
    ///
    /// # Errors
    /// [`Error::Schema`]: the given schema is not one that a stream can have.
    pub fn try_new(topic: impl Into<String>, options: DecoderOptions) -> Result<Self, Error> {
        let schema = match &options.schema {
            Some(schema) => StreamSchema::given(schema, options.max_columns)?,
            None => StreamSchema::new(options.max_columns),
        };
        let mut this = Decoder {
            topic: topic.into(),
            format: None,
            schema,
            registry: Registry::default(),
            json: json::Json::default(),
            options,
        };
        if let Some(values) = &this.options.values {
            let format = this.registry.take_own(values).map_err(Error::Schema)?;
            if ![Format::Auto, format].contains(&this.options.format) {
                let asked = this.options.format;
                let why = format!("the schema is of {format}, and the format is to be {asked}");
                return Err(Error::Schema(why));
            }
            this.options.format = format;
        }
        if this.options.format != Format::Auto {
            this.settle(this.options.format)?;
        }
        Ok(this)
    }

    /// The format, once it is known.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// The schema of the batches from now on.
    pub fn schema(&self) -> &SchemaRef {
        self.schema.output()
    }

    /// 0 as long as no column of a message is known, then one more with each
    /// change.
    pub fn schema_version(&self) -> u32 {
        self.schema.version()
    }

    /// Takes a schema of the registry. One that does not compile is refused
    /// with what is wrong with it.
    pub fn learn(&mut self, id: u32, schema: &RegisteredSchema) {
        self.registry.learn(id, schema);
    }

    /// Notes that the registry has no such schema, or one that cannot be had:
    /// messages with this id are rejected for this reason. A registry that is
    /// down is no reason.
    pub fn refuse(&mut self, id: u32, reason: impl Into<String>) {
        self.registry.refuse(id, reason.into());
    }

    /// Notes that there is no registry to ask: no schema is unknown any more, and
    /// what names one is rejected where its format needs it.
    pub fn without_registry(&mut self) {
        self.registry.set_absent();
    }

    /// Forgets which schemas were refused, so that they are asked for again: a
    /// registry may have been wrong for a while.
    pub fn forget_refused(&mut self) {
        self.registry.forget_all_refused();
    }

    /// Some ids, each once, that messages named which were rejected though their
    /// schemas are known: these may be wrong, and can be learned anew.
    pub fn take_doubted(&mut self, most: usize) -> Vec<u32> {
        self.registry.take_doubted(most)
    }

    /// Decodes messages of one partition of the topic.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: they do not fit into one batch.
    /// [`Error::Inconsistent`]: a fault of the decoder; fewer at once may do.
    pub fn decode(&mut self, partition: i32, messages: &Messages) -> Result<Decoded, Error> {
        assemble::check_size(messages)?;
        let values = values(messages);
        let unknown = self.unknown(&values)?;
        if !unknown.is_empty() {
            return Ok(Decoded::Unknown(unknown));
        }
        let mut rejected = Vec::new();
        let groups = self.groups(messages, &values, &mut rejected)?;
        self.registry.forget_refused();
        rejected.sort_by_key(|rejected| rejected.index);
        for one in &rejected {
            if self.registry.own().is_some() {
                break;
            }
            let value = messages.get(one.index).and_then(|message| message.value());
            value.and_then(framing::schema_id).into_iter().for_each(|id| self.registry.doubt(id));
        }
        let batch = assemble::assemble(&self.topic, partition, messages, groups, &self.schema)?;
        let schema_version = self.schema.version();
        Ok(Decoded::Batch(DecodedBatch { batch, schema_version, rejected }))
    }

    /// Schema ids that must be known first; decides the format on the way.
    fn unknown(&mut self, values: &[Value<'_>]) -> Result<Vec<u32>, Error> {
        if self.format.is_none() && !values.is_empty() {
            match detect::detect(values, &self.registry, self.options.sample) {
                // Columns were given, so the values have columns.
                Ok(Some(Format::String | Format::Bytes)) if self.schema.is_given() => {
                    self.settle(Format::Json)?;
                }
                Ok(Some(format)) => self.settle(format)?,
                Ok(None) => {}
                Err(unknown) => return Ok(unknown),
            }
        }
        Ok(match self.format {
            Some(Format::Avro | Format::Protobuf) => self.registry.unknown(values),
            _ => Vec::new(),
        })
    }

    fn settle(&mut self, format: Format) -> Result<(), Error> {
        let own = match format {
            Format::String => Some(DataType::Utf8),
            Format::Bytes => Some(DataType::Binary),
            _ => None,
        };
        if let Some(of) = own {
            if self.schema.is_given() {
                return Err(Error::Schema(format!("{format} has its own: one column `value`")));
            }
            self.schema = StreamSchema::new(self.options.max_columns);
            self.schema.adopt(text::fields(of));
        }
        self.format = Some(format);
        Ok(())
    }

    fn groups(
        &mut self,
        messages: &Messages,
        values: &[Value<'_>],
        rejected: &mut Vec<Rejected>,
    ) -> Result<Vec<Group>, Error> {
        let (schema, sample) = (&mut self.schema, self.options.sample);
        let one = match self.format {
            None => {
                rejected.extend(values.iter().map(|value| self.registry.undecided(value)));
                None
            }
            Some(Format::String) => text::strings(values, rejected),
            Some(Format::Bytes) => text::bytes(values),
            Some(Format::Csv) => {
                return in_pieces(values, |some| csv::decode(some, schema, sample, rejected));
            }
            Some(Format::Arrow) => return ipc::decode(values, messages, schema, rejected),
            Some(format @ (Format::Avro | Format::Protobuf)) => {
                return registered::decode(values, format, &mut self.registry, schema, rejected);
            }
            Some(Format::Auto | Format::Json) => {
                let values = framing::without_header(values);
                let json = &mut self.json;
                return in_pieces(&values, |some| json.decode(some, schema, sample, rejected));
            }
        };
        Ok(one.into_iter().collect())
    }
}

fn values(messages: &Messages) -> Vec<Value<'_>> {
    let mut values = Vec::with_capacity(messages.len());
    // `check_size` bounds the number of messages far below.
    values.extend(
        (0..)
            .zip(messages.iter())
            .filter_map(|(index, message)| message.value().map(|bytes| Value { index, bytes })),
    );
    values
}
