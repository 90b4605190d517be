//! Arrow IPC messages: checked, decoded, encoded.
//!
//! Three layers, each of use by itself: [`inspect`] reads the outside of one
//! message, [`StreamValidator`] checks a whole stream without decoding it, and
//! [`Decoder`] and [`Encoder`] go from messages to record batches and back.
//! [`Recoder`] compresses and decompresses messages as they are.
//!
//! ```
//! use std::sync::Arc;
//! use arrow_array::{Int64Array, RecordBatch};
//! use sheaf_flight::ipc::{Bounds, Decoded, Decoder, StreamValidator, encode_batches};
//!
//! let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
//! let batch = RecordBatch::try_from_iter([("n", column)])?;
//! let messages = encode_batches(batch.schema(), &[batch.clone()])?;
//!
//! let mut validator = StreamValidator::new(Bounds::default());
//! for message in &messages {
//!     validator.check(message)?;
//! }
//! assert_eq!((validator.messages(), validator.rows()), (2, 3));
//!
//! let mut decoder = Decoder::new(Bounds::default());
//! decoder.push(&messages[0])?;
//! let Decoded::Batch(again) = decoder.push(&messages[1])? else { panic!("a record batch") };
//! assert_eq!(again, batch);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounds;
mod compression;
mod decode;
mod encode;
mod inspect;
mod layout;
mod recode;
mod validate;
mod walk;

#[cfg(test)]
mod tests;

pub use bounds::Bounds;
pub use compression::Compression;
pub use decode::{Decoded, Decoder, decode_schema, decode_stream};
pub use encode::{Encoder, encode_batches, encode_schema, encode_stream};
pub use inspect::{Kind, Outline, inspect};
pub use recode::{Recoder, compression_of};
pub use validate::StreamValidator;
pub use walk::unfolded_bytes;
