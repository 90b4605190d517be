//! The exchange as its users see it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]

mod columns;
mod every_type;
mod limits;
mod pyarrow;
mod sent;
mod service;
mod shuffle;
