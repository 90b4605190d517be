//! What crosses process borders: generated Protocol Buffers code and identifiers.

mod id;

pub use id::{BatchId, InvalidId, MAX_ID_LENGTH};
