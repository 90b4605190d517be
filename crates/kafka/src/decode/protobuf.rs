//! Protobuf messages, each with the schema that wrote it.

mod compile;
mod wire;

use std::collections::BTreeMap;

use arrow_array::builder::BinaryBuilder;
use arrow_array::{BinaryArray, RecordBatch};
use prost_reflect::{FileDescriptor, MessageDescriptor};
use ptars_core::{EnumRepr, PtarsConfig, TimeUnit, binary_array_to_record_batch_direct};

use self::wire::Shape;
use super::Value;
use super::registry::RegisteredSchema;
use super::sieve::{Fault, guarded};

/// How deep messages are nested in a schema.
const MAX_PATH: usize = 32;

/// Decodes the messages of one file.
#[derive(Debug)]
pub(super) struct Protobuf {
    file: FileDescriptor,
    /// By the path of a message in the file, made when it is first seen.
    messages: BTreeMap<Vec<usize>, Message>,
    config: PtarsConfig,
}

#[derive(Debug)]
struct Message {
    descriptor: MessageDescriptor,
    shape: Shape,
}

impl Protobuf {
    pub(super) fn compile(schema: &RegisteredSchema) -> Result<Self, String> {
        let file = compile::compile(&schema.text, &schema.references)?;
        // Where an entry of a map lacks its message ptars panics if values may
        // not be null. Microseconds hold all years that a timestamp may have;
        // nanoseconds end in 2262, and what is later would become that.
        let config = PtarsConfig::new()
            .with_timestamp_unit(TimeUnit::Microsecond)
            .with_duration_unit(TimeUnit::Microsecond)
            .with_map_value_nullable(true)
            .with_list_value_nullable(true)
            .with_enum_repr(EnumRepr::String);
        let mut this = Protobuf { file, messages: BTreeMap::new(), config };
        // The first message is what most values are.
        this.message(&[0])?;
        Ok(this)
    }

    /// Where the message of this full name is in the file; the first one where none
    /// is named.
    pub(super) fn path_of(&self, name: Option<&str>) -> Result<Vec<usize>, String> {
        match name {
            None => Ok(vec![0]),
            Some(name) => compile::path_of(&self.file, name),
        }
    }

    /// Whether the file has a message there.
    pub(super) fn check(&self, path: &[usize]) -> Result<(), String> {
        if self.messages.contains_key(path) {
            return Ok(());
        }
        compile::find(&self.file, path).map(|_| ())
    }

    fn message(&mut self, path: &[usize]) -> Result<&Message, String> {
        if !self.messages.contains_key(path) {
            let descriptor = compile::find(&self.file, path)?;
            let shape = Shape::of(&descriptor)?;
            self.messages.insert(path.to_vec(), Message { descriptor, shape });
        }
        self.messages.get(path).ok_or_else(|| "no such message".to_owned())
    }

    /// Decodes values without header and path, each of which is one message.
    pub(super) fn attempt(
        &mut self,
        path: &[usize],
        values: &[Value<'_>],
    ) -> Result<RecordBatch, Fault> {
        let config = self.config.clone();
        let message = self.message(path).map_err(Fault::somewhere)?;
        let bytes = values.iter().map(|value| value.bytes.len()).sum();
        let mut array = BinaryBuilder::with_capacity(values.len(), bytes);
        for (at, value) in values.iter().enumerate() {
            message.shape.check(value.bytes).map_err(|error| Fault::at(at, error))?;
            array.append_value(value.bytes);
        }
        let array: BinaryArray = array.finish();
        // It unwraps what it builds, and has been seen to panic on bytes that
        // the check lets through no more. Were there others, they would take
        // the consumer of all partitions with them.
        let batch = guarded(|| {
            binary_array_to_record_batch_direct(&array, &message.descriptor, &config)
                .map_err(Fault::somewhere)
        })?;
        if batch.num_rows() != values.len() {
            return Err(Fault::somewhere("not one row for each message"));
        }
        Ok(batch)
    }
}

/// Which message of its schema a value is, and what follows: a count and as
/// many positions, zigzag varints; a count of zero stands for the first
/// message.
pub(super) fn message_path(bytes: &[u8]) -> Result<(Vec<usize>, &[u8]), String> {
    let mut rest = bytes;
    let mut next = || -> Result<usize, String> {
        let (value, length) =
            wire::varint(rest).ok_or("the positions of the message in its schema are cut off")?;
        rest = &rest[length..];
        if value & 1 == 1 {
            return Err("a position of the message in its schema is negative".to_owned());
        }
        usize::try_from(value >> 1).map_err(|e| e.to_string())
    };
    let count = next()?;
    if count > MAX_PATH {
        return Err(format!("a message {count} levels deep is over the limit of {MAX_PATH}"));
    }
    let path = match count {
        0 => vec![0],
        count => (0..count).map(|_| next()).collect::<Result<_, _>>()?,
    };
    Ok((path, rest))
}
