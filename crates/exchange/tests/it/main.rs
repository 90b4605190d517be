//! The exchange as its users see it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]
