//! What makes two payloads the same.

use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Kind, decode_schema, encode_schema, inspect};
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_128::Hasher;

/// Sums up a stream of messages: same sums, same content.
///
/// The checksum is xxh3-128 over each message's header, application metadata
/// and body, each after its length (64 bits, little-endian). It does not
/// depend on how bodies are cut into pieces.
#[derive(Clone)]
pub struct ContentHasher {
    hasher: Hasher,
    bytes: u64,
    schema: Bytes,
}

impl Default for ContentHasher {
    fn default() -> Self {
        ContentHasher { hasher: Hasher::new(), bytes: 0, schema: Bytes::new() }
    }
}

impl std::fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentHasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl ContentHasher {
    /// The next message of the stream.
    pub fn add(&mut self, message: &Message) {
        let body_length = message.body_len() as u64;
        self.begin(&message.header, &message.app_metadata, body_length);
        message.body.iter().for_each(|part| self.body(part));
    }

    /// The next message without its body, of `body_length` bytes, which
    /// follows in parts.
    pub(crate) fn begin(&mut self, header: &Bytes, app_metadata: &[u8], body_length: u64) {
        for part in [header, app_metadata] {
            self.hasher.write(&(part.len() as u64).to_le_bytes());
            self.hasher.write(part);
        }
        self.hasher.write(&body_length.to_le_bytes());
        self.bytes += header.len() as u64 + body_length;
        if self.schema.is_empty()
            && inspect(header).is_ok_and(|outline| outline.kind == Kind::Schema)
        {
            self.schema = header.clone();
        }
    }

    /// A part of the body of the message that was begun last.
    pub(crate) fn body(&mut self, part: &[u8]) {
        self.hasher.write(part);
    }

    /// Bytes of all headers and bodies so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// xxh3-128 so far, lower-case hexadecimal.
    pub fn checksum(&self) -> String {
        format!("{:032x}", self.hasher.finish_128())
    }

    /// xxh3-64 of the schema as this build encodes it, lower-case hexadecimal,
    /// so that two writers of one schema agree. A schema that cannot be
    /// decoded stands for itself.
    pub fn schema_fingerprint(&self) -> String {
        let fingerprint = match decode_schema(&self.schema) {
            Ok(schema) => XxHash3_64::oneshot(&encode_schema(&schema).header),
            Err(_) => XxHash3_64::oneshot(&self.schema),
        };
        format!("{fingerprint:016x}")
    }
}
