//! The crate from outside.

mod examples;
mod problems;
mod schema;
