//! The schema of a partition, which all of a stage share.

use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use bytes::Bytes;
use sheaf_flight::ipc::{StreamValidator, decode_schema, encode_schema};
use sheaf_flight::{Budget, Message};
use twox_hash::XxHash3_64;

use super::super::chunk::Account;
use super::super::error::Error;
use super::super::key::PartitionKey;

/// Memory of a schema besides its message, and by the length of that, of what
/// was read from it.
const SCHEMA_OVERHEAD: u64 = 512;
const READ_FACTOR: u64 = 4;

/// What a schema message says, and who says it another way.
#[derive(Debug)]
pub(super) struct SchemaOf {
    message: Message,
    pub(super) fingerprint: u64,
    pub(super) has_dictionaries: bool,
    /// Has seen the schema only: each attempt goes on from here.
    stream: StreamValidator,
    _account: Account,
}

impl SchemaOf {
    pub(super) fn try_new(budget: &Arc<Budget>, message: &Message) -> Result<Self, Error> {
        let mut stream = StreamValidator::default();
        stream.check(message)?;
        let mut account = Account::new(budget);
        let bytes = message.header.len() as u64;
        account.more(SCHEMA_OVERHEAD + bytes * (1 + READ_FACTOR))?;
        let (fingerprint, has_dictionaries) = fingerprint(message);
        // Not a part of what was received with it.
        let message = Message::new(Bytes::copy_from_slice(&message.header), Bytes::new());
        Ok(SchemaOf { message, fingerprint, has_dictionaries, stream, _account: account })
    }

    pub(super) fn message(&self) -> Message {
        self.message.clone()
    }

    /// Whether another message is the same.
    pub(super) fn is(&self, other: &Message) -> bool {
        other.header == self.message.header && other.body_len() == 0
    }

    /// What checks the stream of an attempt that begins with this message, which
    /// must say the same.
    pub(super) fn stream(
        &self,
        key: &PartitionKey,
        message: &Message,
    ) -> Result<StreamValidator, Error> {
        if self.is(message) {
            return Ok(self.stream.clone());
        }
        self.check(key, message)?;
        let mut stream = StreamValidator::default();
        stream.check(message)?;
        Ok(stream)
    }

    /// That another message says the same.
    pub(super) fn check(&self, key: &PartitionKey, other: &Message) -> Result<(), Error> {
        if self.is(other) {
            return Ok(());
        }
        let (said, known) = (fingerprint(other).0, self.fingerprint);
        // Where the messages differ, their dictionaries may have other numbers.
        if said == known && !self.has_dictionaries {
            return Ok(());
        }
        let problem = if said == known {
            "another sender encodes it another way, its dictionaries could be mistaken:"
        } else {
            "another sender has"
        };
        let (known, said) = (format!("{known:016x}"), format!("{said:016x}"));
        Err(Error::Schema { key: key.clone(), known, problem, said })
    }
}

/// The fingerprint of a schema, and whether it has dictionaries.
fn fingerprint(message: &Message) -> (u64, bool) {
    // Not every type of the format can be decoded here, and need not be.
    let decoded = decode_schema(&message.header).ok();
    let fingerprint = match &decoded {
        Some(schema) => XxHash3_64::oneshot(&encode_schema(schema).header),
        None => XxHash3_64::oneshot(&message.header),
    };
    (fingerprint, decoded.as_ref().is_none_or(has_dictionaries))
}

/// Whether a column, at whatever depth, is a dictionary.
pub(in crate::shuffle) fn has_dictionaries(schema: &Schema) -> bool {
    let is_dictionary = |data_type: &DataType| matches!(data_type, DataType::Dictionary(..));
    schema.flattened_fields().iter().any(|field| is_dictionary(field.data_type()))
}
