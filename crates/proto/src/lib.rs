//! What crosses process borders: generated Protocol Buffers code, identifiers, and the traces
//! of what is done.
//!
//! The modules below are generated from `proto/sheaf/**/v1/*.proto` by `cargo
//! xtask codegen` and committed, so that nobody needs `protoc`.
//!
//! ```
//! use prost::Message as _;
//! use sheaf_proto::coordinator::v1::LeaseRef;
//!
//! let lease = LeaseRef { id: "orders:1".to_owned(), fence: 7 };
//! assert_eq!(LeaseRef::decode(lease.encode_to_vec().as_slice())?, lease);
//! # Ok::<(), prost::DecodeError>(())
//! ```

mod generated;
mod id;
mod trace;

pub use generated::{FILE_DESCRIPTOR_SET, control, coordinator, exchange, raft, storage};
pub use id::{BatchId, InvalidId, MAX_ID_LENGTH};
pub use trace::{
    Begin, InvalidTraceContext, Recording, SharedTracer, Span, TraceContext, Tracer, Value,
};
