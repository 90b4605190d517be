//! The crate from outside.

mod examples;
mod mutations;
mod problems;
mod schema;
