//! Tests of the store as its users see it.
#![allow(clippy::unwrap_used, missing_docs, clippy::let_underscore_must_use, reason = "tests")]

mod compression;
mod crash;
mod damage;
mod engine;
mod flight;
mod hold;
mod hostile;
mod model;
mod quota;
mod races;
mod retention;
mod room;
mod shared;
mod support;
mod tokens;
